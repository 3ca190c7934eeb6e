"""Findings: what a check says, and how the checks are run one above the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar


class Level(Enum):
    """How a check ended; the values are what programs read."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    ACCEPTED = "accepted"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        level: how it ended.
        what: what is the case.
        why: why it matters; empty when all is well.
        fix: what puts it right, as a command where there is one; empty when all is well.

    """

    level: Level
    what: str
    why: str = ""
    fix: str = ""


def ok(what: str) -> Finding:
    """Return that all is well."""
    return Finding(level=Level.OK, what=what)


def warning(what: str, *, why: str, fix: str) -> Finding:
    """Return what works, and not as well as it should."""
    return Finding(level=Level.WARNING, what=what, why=why, fix=fix)


def problem(what: str, *, why: str, fix: str) -> Finding:
    """Return what does not work, or is not safe."""
    return Finding(level=Level.PROBLEM, what=what, why=why, fix=fix)


Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Generic[Subject]):
    """One thing to look at.

    Attributes:
        id: stable, for programs and for --accept.
        look: finds out; reads only.
        above: ids of the checks without which this one says nothing.

    """

    id: str
    look: Callable[[Subject], Finding]
    above: tuple[str, ...] = ()


def run_checks(
    checks: Sequence[Check[Subject]], subject: Subject, *, accepted: frozenset[str] = frozenset()
) -> Iterator[tuple[str, Finding]]:
    """Run the checks in order and yield each id with its finding.

    Args:
        checks: from the bottom up; each stands above those that it names.
        subject: what they look at.
        accepted: ids whose warning or problem is known, shown, and not counted.

    """
    failed: set[str] = set()
    for check in checks:
        missing = [name for name in check.above if name in failed]
        finding = _not_run(missing) if missing else _guarded(check, subject)
        if finding.level in (Level.PROBLEM, Level.NOT_RUN):
            failed.add(check.id)
        if check.id in accepted and finding.level in (Level.WARNING, Level.PROBLEM):
            finding = Finding(level=Level.ACCEPTED, what=finding.what, why=finding.why, fix=finding.fix)
        yield check.id, finding


def _not_run(missing: Sequence[str]) -> Finding:
    return Finding(level=Level.NOT_RUN, what=f"cannot be checked before {' and '.join(missing)} is right")


def _guarded(check: Check[Subject], subject: Subject) -> Finding:
    """Look; what cannot be looked at is a finding too."""
    try:
        return check.look(subject)
    except OSError as failure:
        where = f"{failure.filename}: " if failure.filename else ""
        return problem(
            f"{where}{failure.strerror or failure}",
            why="What cannot be looked at cannot be called well; the broker may be kept from it as well.",
            fix="Run `broker doctor` as the user who runs the broker.",
        )
