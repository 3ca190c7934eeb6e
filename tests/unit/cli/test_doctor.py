"""How checks are run one above the other."""

from dataclasses import dataclass, field

import pytest

from broker.cli.doctor.command import CHECKS
from broker.cli.doctor.configured import _related
from broker.cli.doctor.finding import Check, Finding, Level, ok, problem, run_checks, warning


@dataclass
class Subject:
    """Remembers who looked."""

    seen: list[str] = field(default_factory=list)


def check(name: str, finding: Finding, *above: str) -> Check[Subject]:
    def look(subject: Subject) -> Finding:
        subject.seen.append(name)
        return finding

    return Check(id=name, look=look, above=above)


BAD = problem("bad", why="because", fix="mend it")
ODD = warning("odd", why="because", fix="mend it")


def test_a_problem_keeps_from_running_what_stands_above_it_and_nothing_else() -> None:
    subject = Subject()
    checks = [check("a", BAD), check("b", ok("b"), "a"), check("c", ok("c"), "b"), check("d", ok("d"))]
    found = dict(run_checks(checks, subject))
    assert [each.level for each in found.values()] == [Level.PROBLEM, Level.NOT_RUN, Level.NOT_RUN, Level.OK]
    assert found["c"].what == "cannot be checked before b is right"
    assert subject.seen == ["a", "d"]


def test_a_warning_keeps_nothing_from_running() -> None:
    found = dict(run_checks([check("a", ODD), check("b", ok("b"), "a")], Subject()))
    assert [each.level for each in found.values()] == [Level.WARNING, Level.OK]


def test_what_is_accepted_is_shown_and_still_keeps_others_from_running() -> None:
    checks = [check("a", BAD), check("b", ok("b"), "a"), check("c", ODD), check("d", ok("d"))]
    found = dict(run_checks(checks, Subject(), accepted=frozenset("abcd")))
    assert [each.level for each in found.values()] == [Level.ACCEPTED, Level.NOT_RUN, Level.ACCEPTED, Level.OK]
    assert found["a"].fix == "mend it"


def test_what_cannot_be_looked_at_is_a_problem() -> None:
    def look(_: Subject) -> Finding:
        raise PermissionError(13, "Permission denied", "/somewhere")

    ((_, found),) = run_checks([Check(id="a", look=look)], Subject())
    assert (found.level, found.what) == (Level.PROBLEM, "/somewhere: Permission denied")


def test_every_check_stands_above_earlier_ones_only() -> None:
    seen: set[str] = set()
    for each in CHECKS:
        assert set(each.above) <= seen, each.id
        assert each.id not in seen
        seen.add(each.id)
    assert len(seen) >= 25


NAMES = {
    "same": ("example.org", "example.org", True),
    "below": ("broker.example.org", "example.org", True),
    "above": ("example.org", "prod.example.org", True),
    "beside": ("broker.example.org", "prod.example.org", True),
    "another": ("broker.acme.com", "example.org", False),
    "same-top": ("acme.org", "example.org", False),
    "ends-alike": ("notexample.org", "example.org", False),
    "one-label": ("broker.internal", "internal", True),
    "one-label-another": ("broker.internal", "corp", False),
}


@pytest.mark.parametrize(("host", "domain", "related"), NAMES.values(), ids=NAMES)
def test_which_names_belong_together(host: str, domain: str, related: bool) -> None:
    assert _related(host, domain) is related
