"""Separate duties and sequences in policy: what was granted before decides what may follow, and what does not load."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import Reason
from broker.policy.bundle import BundleProblem, read_bundle
from broker.policy.decide import decide
from broker.policy.decision import Deny, Hold, Permit, Question
from broker.policy.explain import explain
from broker.policy.golden import run_cases
from broker.policy.history import History, Within
from broker.policy.paths import paths
from tests.unit.policy.bundles import SUPPORT, TASK, added, compiled, question, refund, without_cases
from tests.unit.policy.test_limit import PLAIN, limited

DUTIES = """
[[separate_duties]]
name = "refund-or-cancel"
actions = ["order.refund", "order.cancel"]
"""
SEQUENCE = """
[[sequence]]
name = "look-up-then-refund"
actions = ["order.read", "order.cancel", "order.refund"]
within = "{within}"
then = "{then}"
"""
REFUSED = SEQUENCE.format(within="task", then="refuse")
HELD = SEQUENCE.format(within="conversation", then="step_up") + 'step_up = { kind = "user" }\n'


def with_entries(*entries: str) -> dict[str, bytes]:
    return without_cases(added("entities.toml", "".join(entries), PLAIN))


def asked(action: str, after: Iterable[str], *entries: str) -> Any:
    """Return the decision on an action after others, under these entries."""
    policy = compiled(with_entries(*entries))
    base = refund() if action == "order.refund" else question(action=action, task=TASK)
    history = History.after(policy.register, after)
    return decide(policy, Question(principal=SUPPORT, login="x509", intent=base.intent, history=history))


@pytest.mark.parametrize(
    ("action", "after", "refused"),
    [
        ("order.refund", (), False),
        ("order.refund", ("order.refund", "order.refund"), False),
        ("order.refund", ("order.cancel",), True),
        ("order.refund", ("order.read", "order.cancel", "order.read"), True),
        ("order.cancel", ("order.refund",), True),
        ("order.cancel", ("order.read",), False),
        ("order.read", ("order.refund", "order.cancel"), False),
    ],
)
def test_separate_duties_are_not_granted_within_one_task(action: str, after: tuple[str, ...], refused: bool) -> None:
    decision = asked(action, after, DUTIES)
    assert isinstance(decision, Deny if refused else Permit)
    if isinstance(decision, Deny):
        assert (decision.reason, decision.detail) == (Reason.DUTY_SEPARATED, "refund-or-cancel")


def test_what_must_stay_apart_is_a_term_of_the_permit() -> None:
    assert asked("order.refund", (), DUTIES).terms.apart_from == {"order.cancel"}
    assert asked("order.read", (), DUTIES).terms.apart_from == frozenset()


COMPLETING = [
    ((), False),
    (("order.read",), False),
    (("order.cancel",), False),
    (("order.cancel", "order.read"), False),
    (("order.read", "order.cancel"), True),
    (("order.read", "customer.read", "order.read", "order.cancel", "customer.read"), True),
    (("order.cancel", "order.read", "order.cancel"), True),
    (("order.read", "order.cancel", "order.refund"), True),
    (("order.refund", "order.read", "order.refund"), False),
]


@pytest.mark.parametrize(("after", "completes"), COMPLETING)
def test_a_grant_that_would_complete_a_sequence_is_refused(after: tuple[str, ...], completes: bool) -> None:
    decision = asked("order.refund", after, REFUSED)
    assert isinstance(decision, Deny if completes else Permit)
    if isinstance(decision, Deny):
        assert (decision.reason, decision.detail) == (Reason.SEQUENCE_REFUSED, "look-up-then-refund")


@pytest.mark.parametrize(("after", "completes"), COMPLETING)
def test_or_held_for_a_person(after: tuple[str, ...], completes: bool) -> None:
    decision = asked("order.refund", after, HELD)
    assert isinstance(decision, Hold if completes else Permit)
    if isinstance(decision, Hold):
        assert [required.kind.value for required in decision.requirements] == ["user"]


def test_a_refusal_wins_over_a_person() -> None:
    twice = HELD.replace("look-up-then-refund", "the-same-held")
    assert isinstance(asked("order.refund", ("order.read", "order.cancel"), twice, REFUSED), Deny)


def test_whoever_may_not_do_it_learns_nothing_of_duties() -> None:
    policy = compiled(with_entries(DUTIES))
    history = History.after(policy.register, ["order.cancel"])
    intent = refund(5001).intent
    decision = decide(policy, Question(principal=SUPPORT, login="x509", intent=intent, history=history))
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.POLICY_FORBIDDEN


@pytest.mark.parametrize("entry", [DUTIES.replace("order.cancel", "order.read"), REFUSED])
def test_an_action_that_is_watched_needs_a_task(entry: str) -> None:
    policy = compiled(with_entries(entry))
    outside, inside = decide(policy, question()), decide(policy, question(task=TASK))
    assert isinstance(outside, Deny)
    assert outside.reason is Reason.TASK_REQUIRED
    assert isinstance(inside, Permit)
    assert isinstance(decide(compiled(without_cases({**PLAIN})), question()), Permit)


@given(st.lists(st.sampled_from(["order.read", "order.cancel", "order.refund", "customer.read"]), max_size=12))
def test_steps_are_counted_as_a_search_through_all_that_was_granted_would(word: list[str]) -> None:
    policy = POLICY
    rest = iter(word)
    searched = all(action in rest for action in ("order.read", "order.cancel"))
    taken = History.after(policy.register, word).steps[Within.TASK, "order.read order.cancel order.refund"]
    assert (taken == 2) == searched


POLICY = compiled(with_entries(REFUSED))


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (DUTIES.replace("order.cancel", "order.fly"), "separate_duties refund-or-cancel: 'order.fly' is not an action"),
        (DUTIES.replace("order.cancel", "broker.revoke"), "'broker.revoke' is not an action"),
        (DUTIES.replace(', "order.cancel"', ""), "at least 2 long"),
        (DUTIES.replace("order.cancel", "order.refund"), "names one thing twice"),
        (DUTIES + DUTIES, "refund-or-cancel stands in the bundle twice"),
        (DUTIES + "more = 1\n", "unknown key 'more'"),
        (REFUSED.replace("order.cancel", "order.fly"), "sequence look-up-then-refund: 'order.fly' is not an action"),
        (REFUSED.replace('"task"', '"day"'), "within must be one of task, conversation"),
        (REFUSED.replace('"refuse"', '"warn"'), "then must be one of refuse, step_up"),
        (REFUSED.replace('"refuse"', '"step_up"'), "step_up says who approves"),
        (REFUSED + 'step_up = { kind = "user" }\n', "unknown key 'step_up'"),
        (REFUSED + REFUSED, "look-up-then-refund stands in the bundle twice"),
        (
            HELD.replace('kind = "user"', 'kind = "group", group = "nobody"'),
            "sequence look-up-then-refund: its step_up",
        ),
    ],
)
def test_what_does_not_load(entry: str, problem: str) -> None:
    with pytest.raises(BundleProblem, match=r"entities.toml:\d+: ") as refused:
        compiled(with_entries(entry))
    assert problem in str(refused.value)
    compiled(with_entries(DUTIES, REFUSED, HELD.replace("look-up-then-refund", "other")))


CASE = """
[[case]]
name = "{name}"
principal = "spiffe://example.org/agent/support-assistant"
action = "order.refund"
resource_type = "order"
resource_id = "1"
purpose = "customer-support"
audience = "spiffe://example.org/service/orders"
parameters = {{ amount = 100, currency = "EUR" }}
task = true
{more}
"""


def cases(files: dict[str, bytes], *more: str) -> dict[str, bytes]:
    text = "".join(CASE.format(name=f"n{number}", more=each) for number, each in enumerate(more))
    return {**files, "golden.toml": files["golden.toml"] + text.encode()}


def test_golden_cases_state_what_was_granted_before_and_which_limits_count() -> None:
    files = added("entities.toml", DUTIES + REFUSED.replace("order.cancel", "customer.read"), limited(TOTAL))
    files = cases(
        without_cases(files),
        'expect = "permit"\nlimits = ["support-may-refund: 9 grants per task"]',
        'after = ["order.cancel"]\nexpect = "deny"\nreason = "DUTY_SEPARATED"',
        'after = ["order.read", "order.read", "customer.read"]\nexpect = "deny"\nreason = "SEQUENCE_REFUSED"',
        'after = ["customer.read", "order.read"]\nexpect = "permit"',
    )
    compiled(files)
    wrong = files["golden.toml"].replace(b"9 grants", b"8 grants")
    draft = read_bundle({**files, "golden.toml": wrong})
    assert [result.case.name for result in run_cases(draft.policy, draft.cases) if not result.passed] == ["n0"]


TOTAL: dict[str, Any] = {"per": "task", "max": 9}


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('after = ["order.fly"]', "after names 'order.fly'"),
        ("after = []", "at least 1 long"),
        ('limits = "x"', "limits must be a list of text"),
    ],
)
def test_a_case_that_names_what_is_not_there_does_not_load(more: str, problem: str) -> None:
    with pytest.raises(BundleProblem) as refused:
        compiled(cases(with_entries(DUTIES), f'expect = "permit"\n{more}'))
    assert problem in str(refused.value)


def test_what_was_granted_before_wants_a_task_in_a_case() -> None:
    files = cases(with_entries(DUTIES), 'after = ["order.read"]\nexpect = "permit"')
    files["golden.toml"] = files["golden.toml"].replace(b"task = true", b"task = false")
    with pytest.raises(BundleProblem, match="say task = true"):
        compiled(files)


def test_explaining_says_what_stands_in_the_way_and_what_counts() -> None:
    policy = compiled(without_cases(added("entities.toml", DUTIES + REFUSED, limited(TOTAL))))
    history = History.after(policy.register, ["order.cancel"])
    told = explain(policy, Question(principal=SUPPORT, login="x509", intent=refund().intent, history=history))
    assert isinstance(told.decision, Deny)
    (fact,) = told.facts
    assert "separate duties refund-or-cancel: not in one task with order.cancel" in fact.values
    assert not told.ways
    assert {one.rule.id for one in told.considered if one.applies} == {"support-may-refund"}
    free = explain(policy, refund())
    assert isinstance(free.decision, Permit)
    assert [str(charge.limit) for charge in free.decision.terms.charges] == ["support-may-refund: 9 grants per task"]
    assert len(free.history) == 2


def test_explaining_a_limit_shows_what_would_fit() -> None:
    policy = compiled(without_cases(limited({"per": "task", "max": 700, "sum": "amount"})))
    told = explain(policy, refund(701))
    assert isinstance(told.decision, Deny)
    assert told.decision.reason is Reason.LIMIT_REACHED
    changed = [(change.place, change.after) for way in told.ways for change in way.changes]
    assert (("parameters", "amount"), 700) in changed


def test_paths_show_limits_duties_and_sequences() -> None:
    policy = compiled(without_cases(added("entities.toml", DUTIES + REFUSED, limited(TOTAL))))
    (row,) = [row for row in paths(policy, agents={SUPPORT}) if row.action == "order.refund"]
    assert row.confirmed
    assert [str(total) for permit in row.permits for total in permit.totals] == [
        "support-may-refund: 9 grants per task"
    ]
    assert [line.partition(":")[0] for line in row.history] == [
        "separate duties refund-or-cancel",
        "sequence look-up-then-refund",
    ]
