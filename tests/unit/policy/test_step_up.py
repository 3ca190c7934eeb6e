"""@step_up: what it says, what it refuses, and what a decision makes of it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.policy.bundle import BundleProblem
from broker.policy.decide import Hold, Permit, decide
from broker.policy.step_up import StepUp, StepUpKind, step_up_from_json
from tests.unit.policy.bundles import DESK, SUPPORT, added, compiled, refund, replaced, without_cases

GROUP = StepUp(
    kind=StepUpKind.GROUP,
    group="desk",
    quorum=2,
    pending_for=timedelta(hours=1, seconds=5),
    good_for=timedelta(minutes=2),
    owners_excluded=True,
    bypass=timedelta(minutes=90),
)
FRESH = StepUp(kind=StepUpKind.AUTHENTICATION, max_age=timedelta(minutes=1))


@pytest.mark.parametrize("required", [StepUp(kind=StepUpKind.USER), FRESH, GROUP], ids=lambda each: each.kind.value)
def test_what_is_written_is_read_back(required: StepUp) -> None:
    assert step_up_from_json(required.to_json()) == required


WRONG: Mapping[str, tuple[Mapping[str, object], str]] = {
    "no kind": ({}, "kind"),
    "another kind": ({"kind": "boss"}, "kind"),
    "a kind that is no text": ({"kind": ["user"]}, "kind"),
    "a group without a name": ({"kind": "group"}, "group"),
    "a group with a name that is none": ({"kind": "group", "group": "A B"}, "group"),
    "no quorum": ({"kind": "group", "group": "g", "quorum": 0}, "quorum"),
    "a quorum that is true": ({"kind": "group", "group": "g", "quorum": True}, "quorum"),
    "too many": ({"kind": "group", "group": "g", "quorum": 17}, "quorum"),
    "a quorum of a user": ({"kind": "user", "quorum": 2}, "quorum"),
    "an age of a group": ({"kind": "group", "group": "g", "max_age": "PT1M"}, "max_age"),
    "no duration": ({"kind": "user", "good_for": "five minutes"}, "good_for"),
    "a duration of nothing": ({"kind": "user", "pending_for": "PT0S"}, "pending_for"),
    "longer than a day": ({"kind": "user", "bypass": "PT25H"}, "bypass"),
    "a number of seconds": ({"kind": "user", "pending_for": 60}, "pending_for"),
    "owners included": ({"kind": "group", "group": "g", "owners": "included"}, "owners"),
    "unknown": ({"kind": "user", "who": "me"}, "who"),
}


@pytest.mark.parametrize(("members", "named"), WRONG.values(), ids=WRONG)
def test_what_states_no_requirement_is_refused_by_name(members: Mapping[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=f'"{named}"'):
        step_up_from_json(members)


def test_it_is_told_in_words() -> None:
    assert GROUP.told() == "2 of group desk, not the owners; within 1:00:05, then good for 0:02:00"
    assert FRESH.told().startswith("the person that the task is for, signed in within 0:01:00; ")
    assert StepUp(kind=StepUpKind.USER).told().startswith("the person that the task is for; within 0:15:00")


COVERED = {
    "itself": (GROUP, GROUP, True),
    "a smaller quorum": (GROUP, replace(GROUP, quorum=1), True),
    "a larger quorum": (replace(GROUP, quorum=1), GROUP, False),
    "owners allowed": (GROUP, replace(GROUP, owners_excluded=False), True),
    "owners no longer allowed": (replace(GROUP, owners_excluded=False), GROUP, False),
    "another group": (GROUP, replace(GROUP, group="duty"), False),
    "another kind": (GROUP, StepUp(kind=StepUpKind.USER), False),
    "an older authentication": (FRESH, replace(FRESH, max_age=timedelta(minutes=5)), True),
    "a fresher authentication": (replace(FRESH, max_age=timedelta(minutes=5)), FRESH, False),
    "other times": (GROUP, replace(GROUP, pending_for=timedelta(1), good_for=timedelta(1), bypass=None), True),
}


@pytest.mark.parametrize(("met", "wanted", "covered"), COVERED.values(), ids=COVERED)
def test_a_requirement_covers_what_is_not_stricter(met: StepUp, wanted: StepUp, covered: bool) -> None:
    assert met.covers(wanted) is covered


def held(required: Mapping[str, object], policy: str = "support-may-refund") -> dict[str, bytes]:
    text = json.dumps(json.dumps(required))
    return without_cases(replaced("writes.cedar", f'@id("{policy}")', f'@id("{policy}") @step_up({text})'))


def test_a_write_is_held_when_its_policy_says_so() -> None:
    assert isinstance(decide(compiled(), refund()), Permit)
    decision = decide(compiled(held({"kind": "group", "group": "desk"})), refund())
    assert isinstance(decision, Hold)
    assert decision.requirements == (StepUp(kind=StepUpKind.GROUP, group="desk"),)


def test_all_that_any_permitting_policy_requires_counts() -> None:
    also = f"""
@id("also") @max_lifetime("PT1M") @step_up("{{\\"kind\\": \\"user\\"}}")
permit (principal == Agent::"{SUPPORT}", action == Action::"order.refund", resource);
@id("too") @max_lifetime("PT1M") @step_up("{{\\"kind\\": \\"user\\"}}")
permit (principal == Agent::"{SUPPORT}", action == Action::"order.refund", resource);
"""
    policy = compiled(added("also.cedar", also, held({"kind": "group", "group": "desk"})))
    decision = decide(policy, refund())
    assert isinstance(decision, Hold)
    assert {each.kind for each in decision.requirements} == {StepUpKind.USER, StepUpKind.GROUP}
    assert len(decision.requirements) == 2


def problem_of(files: Mapping[str, bytes]) -> str:
    with pytest.raises(BundleProblem) as raised:
        compiled(without_cases(files))
    return str(raised.value)


def test_a_high_impact_permit_without_step_up_does_not_load() -> None:
    line = '@step_up("{\\"kind\\": \\"group\\", \\"group\\": \\"refund-approvers\\", \\"owners\\": \\"excluded\\"}")\n'
    assert "has no @step_up; say who approves it" in problem_of(replaced("writes.cedar", line, ""))


@pytest.mark.parametrize(
    ("required", "problem"),
    [
        ({"kind": "group", "group": "nobody"}, "wants 1 of group 'nobody', which has 0"),
        ({"kind": "group", "group": "desk", "quorum": 2}, "wants 2 of group 'desk', which has 1"),
        ({"kind": "group"}, '"group" names the group'),
    ],
)
def test_a_requirement_that_nobody_can_meet_does_not_load(required: Mapping[str, object], problem: str) -> None:
    assert problem in problem_of(held(required))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"kind": "user", "kind": "group"}', '{"kind": null}'])
def test_text_that_is_no_object_does_not_load(text: str) -> None:
    noted = f'@id("support-may-refund") @step_up({json.dumps(text)})'
    assert "@step_up: " in problem_of(replaced("writes.cedar", '@id("support-may-refund")', noted))


def test_it_has_no_meaning_where_nothing_is_given() -> None:
    note = '@step_up("{\\"kind\\": \\"user\\"}")'
    assert "@step_up has no meaning on a forbid" in problem_of(
        replaced("writes.cedar", '@id("no-refund-beyond-limit")', f'@id("no-refund-beyond-limit") {note}')
    )
    assert "@step_up has no meaning here: a manage action" in problem_of(
        replaced("broker.cedar", '@id("agents-begin-their-own-tasks")', f'@id("agents-begin-their-own-tasks") {note}')
    )


PATHS = {
    "to nobody": ('escalate_to = "duty"', 'escalate_to = "nobody"', "which nobody of this file is in"),
    "to itself": (
        'escalate_to = "duty"',
        'escalate_to = "refund-approvers"',
        "the path comes back to 'refund-approvers'",
    ),
    "never": ('escalate_after = "PT10M"', 'escalate_after = "PT25H"', "escalate_after is a duration"),
}


@pytest.mark.parametrize(("old", "new", "problem"), PATHS.values(), ids=PATHS)
def test_a_path_that_leads_nowhere_does_not_load(old: str, new: str, problem: str) -> None:
    assert problem in problem_of(replaced("entities.toml", old, new))


def test_a_path_in_a_circle_does_not_load() -> None:
    circle = '[[approver_group]]\nname = "duty"\nescalate_to = "refund-approvers"\nescalate_after = "PT1M"\n'
    assert "the path comes back to 'refund-approvers'" in problem_of(added("entities.toml", circle))


def test_a_group_has_the_operators_with_that_role() -> None:
    register = compiled().register
    assert register.members_of("desk") == {DESK}
    assert len(register.members_of("refund-approvers")) == 2
    assert register.members_of("order-reader") == frozenset()
    assert register.approver_groups["refund-approvers"].escalate_to == "duty"
