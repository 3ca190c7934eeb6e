"""What every store does with approvals: remembers them whole, guards answers and uses, ends them with what ends."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.approval import Approval, ApprovalState, Yes
from broker.credential.revocation import Rule, RuleKind
from broker.errors import Reason
from broker.intent import Intent, Level, Resource
from broker.override import Override, Stop, StopKind
from broker.policy.step_up import StepUp, StepUpKind
from broker.scope import Scope
from broker.store.approval_items import (
    ApprovalOpen,
    ApprovalUsable,
    ApprovalView,
    BypassInForce,
    ChangeApproval,
    FewPending,
    OpenApproval,
)
from broker.store.interface import AddOverride, Committed, Item, Rejected, Store
from tests.contract.store_builders import (
    AGENT,
    LATER,
    NOW,
    OPERATOR,
    ORDERS,
    OTHER_AGENT,
    beginning,
    ended,
    ending,
    entry,
    revoking,
    task,
)
from tests.contract.test_store import sqlite_file, sqlite_memory

MINUTE = timedelta(minutes=1)
TASK = "task_0190a0a0-0000-7000-8000-000000000001"


@pytest.fixture(params=[sqlite_file, sqlite_memory], ids=["sqlite-file", "sqlite-memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = request.param(tmp_path)
    yield opened
    opened.close()


def intent(account: str = "A", **changes: Any) -> Intent:
    members: dict[str, Any] = {
        "action": "customer.payout_change",
        "resource": Resource(type="customer", id="c-77"),
        "parameters": {"account": account, "deep": [{"a": True}, "ü"]},
        "purpose": "support",
        "audience": ORDERS,
        "task": TASK,
        "on_behalf_of": "somebody",
        "risk": Level.HIGH,
    }
    return Intent(**(members | changes))


def approval(name: str = "1", **changes: Any) -> Approval:
    asked = changes.pop("intent", intent())
    members: dict[str, Any] = {
        "id": f"appr_{name}",
        "agent": AGENT,
        "tenant": "emea",
        "task_type": "case",
        "intent": asked,
        "action_class": "high-impact",
        "nonce": "n",
        "requirements": (
            StepUp(kind=StepUpKind.GROUP, group="desk", quorum=2, owners_excluded=True, bypass=timedelta(hours=1)),
            StepUp(kind=StepUpKind.AUTHENTICATION, max_age=MINUTE),
        ),
        "policy_ids": ("p1", "p2"),
        "scope": Scope.of(asked),
        "lifetime": timedelta(seconds=90),
        "requested_at": NOW,
        "pending_until": LATER,
    }
    return Approval(**(members | changes))


def opening(opened: Approval, *guards: Any) -> Item:
    return Item(guards=guards, writes=(OpenApproval(approval=opened),), accepted=lambda _: entry(opened.id))


def changing(changed: Approval, *guards: Any) -> Item:
    return Item(guards=guards, writes=(ChangeApproval(approval=changed),), accepted=lambda _: entry(changed.id))


def given(of: Approval, **changes: Any) -> Approval:
    """An approval as it is once people have approved it."""
    yes = Yes(person="lena", at=NOW, by_token=True, authenticated_at=NOW - MINUTE, bypass=timedelta(minutes=5))
    members: dict[str, Any] = {
        "state": ApprovalState.APPROVED,
        "answers": (yes, Yes(person="omar", at=NOW)),
        "decided_at": NOW,
        "usable_until": LATER,
        "escalated": ("duty", "security"),
        "text": "fine",
    }
    return replace(of, **(members | changes))


def test_it_is_remembered_whole(store: Store) -> None:
    first, changed = approval(escalate_at=NOW + MINUTE), given(approval(), bypass_until=LATER)
    store.commit([opening(first)])
    assert store.approval("appr_1") == first
    assert store.approval("appr_none") is None
    store.commit([changing(changed)])
    assert store.approval("appr_1") == replace(changed, revision=1)
    assert first.digest() == changed.digest(), "what was asked does not change"


def reason(answer: Any) -> Reason | None:
    assert isinstance(answer, Committed | Rejected)
    return answer.reason if isinstance(answer, Rejected) else None


def checked(store: Store, *guards: Any) -> Reason | None:
    (answer,) = store.commit([Item(guards=guards)])
    return reason(answer)


UNUSABLE = {
    ApprovalState.PENDING: Reason.APPROVAL_PENDING,
    ApprovalState.APPROVED: None,
    ApprovalState.DENIED: Reason.APPROVAL_DENIED,
    ApprovalState.EXPIRED: Reason.APPROVAL_EXPIRED,
    ApprovalState.WITHDRAWN: Reason.APPROVAL_WITHDRAWN,
    ApprovalState.USED: Reason.APPROVAL_USED,
}


@pytest.mark.parametrize(("state", "expected"), UNUSABLE.items(), ids=lambda value: getattr(value, "name", ""))
def test_only_what_was_approved_may_be_used(store: Store, state: ApprovalState, expected: Reason | None) -> None:
    store.commit([opening(approval()), changing(given(approval(), state=state))])
    assert checked(store, ApprovalUsable(approval="appr_1", now=NOW)) is expected
    if expected is None:
        assert checked(store, ApprovalUsable(approval="appr_1", now=LATER)) is Reason.APPROVAL_EXPIRED
    assert checked(store, ApprovalUsable(approval="appr_2", now=NOW)) is Reason.APPROVAL_UNKNOWN


def test_of_two_uses_in_a_group_the_second_meets_the_first(store: Store) -> None:
    approved = given(approval())
    store.commit([opening(approval()), changing(approved)])
    use = changing(replace(approved, state=ApprovalState.USED), ApprovalUsable(approval="appr_1", now=NOW))
    assert [reason(each) for each in store.commit([use, use, use])] == [None, *[Reason.APPROVAL_USED] * 2]


def test_an_answer_meets_what_came_before_it(store: Store) -> None:
    store.commit([opening(approval())])
    first = changing(given(approval()), ApprovalOpen(approval="appr_1", revision=0))
    late = changing(given(approval(), state=ApprovalState.DENIED), ApprovalOpen(approval="appr_1", revision=0))
    told = [reason(each) for each in store.commit([first, late])]
    assert told == [None, Reason.APPROVAL_PENDING]
    assert checked(store, ApprovalOpen(approval="appr_1", revision=1)) is None
    assert checked(store, ApprovalOpen(approval="appr_2", revision=0)) is Reason.APPROVAL_UNKNOWN
    store.commit([changing(given(approval(), state=ApprovalState.USED))])
    assert checked(store, ApprovalOpen(approval="appr_1", revision=0)) is Reason.APPROVAL_USED


def test_a_bypass_is_in_force_until_its_time(store: Store) -> None:
    store.commit([opening(approval()), changing(given(approval(), bypass_until=NOW + MINUTE))])
    assert checked(store, BypassInForce(approval="appr_1", now=NOW)) is None
    assert checked(store, BypassInForce(approval="appr_1", now=NOW + MINUTE)) is Reason.STEP_UP_REQUIRED
    assert checked(store, BypassInForce(approval="appr_2", now=NOW)) is Reason.STEP_UP_REQUIRED


KINDS: dict[str, tuple[dict[str, Any], bool]] = {
    "the same": ({}, True),
    "other parameters": ({"parameters": {}}, True),
    "another resource of the type": ({"resource": Resource(type="customer", id="c-1")}, True),
    "another type": ({"resource": Resource(type="order", id="c-77")}, False),
    "another action": ({"action": "customer.read"}, False),
    "another service": ({"audience": ORDERS + "/2"}, False),
    "another task": ({"task": TASK[:-1] + "2"}, False),
    "no task": ({"task": ""}, False),
}


@pytest.mark.parametrize(("changes", "found"), KINDS.values(), ids=KINDS)
def test_a_bypass_is_found_for_its_kind(store: Store, changes: dict[str, Any], found: bool) -> None:
    store.commit([opening(approval()), changing(given(approval(), bypass_until=NOW + MINUTE))])
    wanted = intent(**changes)
    assert (store.bypass_for(AGENT, wanted, NOW) is not None) is found
    assert store.bypass_for(OTHER_AGENT, wanted, NOW) is None
    assert store.bypass_for(AGENT, wanted, NOW + MINUTE) is None


def test_of_many_pending_no_more_are_opened(store: Store) -> None:
    few = FewPending(agent=AGENT, most=3, most_withdrawn=9, now=NOW)
    opened = [opening(approval(f"{number}", intent=intent(f"{number}")), few) for number in range(5)]
    assert [reason(each) for each in store.commit(opened)] == [None] * 3 + [Reason.LIMIT_APPROVALS] * 2
    assert checked(store, FewPending(agent=OTHER_AGENT, most=1, most_withdrawn=9, now=NOW)) is None
    assert checked(store, FewPending(agent=AGENT, most=3, most_withdrawn=9, now=LATER)) is None, (
        "what is over does not count"
    )


COVERED: dict[str, tuple[Item, bool]] = {
    "its task ends": (ending("task_1"), False),
    "its own task ends": (ending(TASK), True),
    "its agent": (revoking(RuleKind.AGENT, AGENT), True),
    "another agent": (revoking(RuleKind.AGENT, OTHER_AGENT), False),
    "its tenant": (revoking(RuleKind.TENANT, "emea"), True),
    "another tenant": (revoking(RuleKind.TENANT, "apac"), False),
    "its task is revoked": (revoking(RuleKind.TASK, TASK), True),
    "one of its policies": (revoking(RuleKind.POLICY, "p2"), True),
    "another policy": (revoking(RuleKind.POLICY, "p"), False),
    "a credential": (revoking(RuleKind.CREDENTIAL, "appr_1"), False),
}
STOPS: dict[str, tuple[Stop, bool]] = {
    "its agent": (Stop(kind=StopKind.AGENT, name=AGENT), True),
    "another agent": (Stop(kind=StopKind.AGENT, name=OTHER_AGENT), False),
    "its tenant": (Stop(kind=StopKind.TENANT, name="emea"), True),
    "its class": (Stop(kind=StopKind.CLASS, name="high-impact"), True),
    "its class in its tenant": (Stop(kind=StopKind.CLASS, name="high-impact", tenant="emea"), True),
    "its class in another": (Stop(kind=StopKind.CLASS, name="high-impact", tenant="apac"), False),
    "another class": (Stop(kind=StopKind.CLASS, name="write"), False),
    "its action": (Stop(kind=StopKind.ACTION, name="customer.payout_change"), True),
    "its action in another tenant": (Stop(kind=StopKind.ACTION, name="customer.payout_change", tenant="apac"), False),
    "everything": (Stop(kind=StopKind.EVERYTHING), True),
}


def stopping(stop: Stop) -> Item:
    return Item(
        writes=(AddOverride(override=Override(id="ovr_1", stop=stop, at=NOW, by=OPERATOR, text="why")),), accepted=ended
    )


@pytest.mark.parametrize(
    ("item", "covered"),
    [*COVERED.values(), *((stopping(stop), covered) for stop, covered in STOPS.values())],
    ids=[*COVERED, *(f"stopped: {name}" for name in STOPS)],
)
def test_what_ends_takes_back_what_is_open_under_it(store: Store, item: Item, covered: bool) -> None:
    names = {
        "pending": approval("1"),
        "approved": given(approval("2")),
        "used": given(approval("3"), bypass_until=LATER),
    }
    used = replace(names["used"], state=ApprovalState.USED)
    denied = replace(given(approval("4")), state=ApprovalState.DENIED, bypass_until=None)
    for each in (names["pending"], names["approved"], used, denied):
        store.commit([opening(replace(each, state=ApprovalState.PENDING, bypass_until=None)), changing(each)])
    store.commit([beginning(task("1")), beginning(replace(task("1"), id=TASK))])
    expected = ["appr_1", "appr_2", "appr_3"] if covered else []
    before = store.approval_changes
    rule = next((under for under in (_under(item),) if under is not None), None)
    assert rule is None or list(store.approvals_under(rule, NOW)) == expected
    store.commit([item])
    assert store.approval_changes > before
    states = [found.state.value for number in range(1, 5) if (found := store.approval(f"appr_{number}"))]
    assert states == (
        ["withdrawn", "withdrawn", "used", "denied"] if covered else ["pending", "approved", "used", "denied"]
    )
    last = store.approval("appr_3")
    assert last is not None
    assert (last.bypass_until is None) is covered


def _under(item: Item) -> Rule | Stop | None:
    (write,) = item.writes
    if isinstance(write, AddOverride):
        return write.override.stop
    return write.revocation.rule if hasattr(write, "revocation") else None


def test_what_is_due_is_told(store: Store) -> None:
    store.commit(
        [
            opening(approval("late", pending_until=NOW)),
            opening(approval("waits", intent=intent("B"))),
            opening(approval("escalates", intent=intent("C"), escalate_at=NOW)),
            opening(approval("unused", intent=intent("D"))),
            changing(given(approval("unused", intent=intent("D")), usable_until=NOW)),
        ]
    )
    assert {each.id for each in store.approvals_due(NOW)} == {"appr_late", "appr_escalates", "appr_unused"}
    assert {each.id for each in store.approvals_due(LATER)} == {
        f"appr_{name}" for name in ("late", "waits", "escalates", "unused")
    }


def test_the_same_intent_is_found_newest_first(store: Store) -> None:
    store.commit([opening(approval("1")), opening(approval("2")), opening(approval("3", intent=intent("B")))])
    assert [each.id for each in store.approvals_for(AGENT, intent())] == ["appr_2", "appr_1"]
    assert store.approvals_for(OTHER_AGENT, intent()) == []
    assert store.approvals_for(AGENT, intent(task="")) == []


def test_views_and_changes_show_each_reader_its_own(store: Store) -> None:
    store.commit([beginning(replace(task("1"), id=TASK, begun_by=OPERATOR, person="https://shop.example#1"))])
    store.commit(
        [
            opening(approval("1")),
            opening(approval("2", tenant="apac", agent=OTHER_AGENT, intent=intent(task=""))),
            opening(approval("3", intent=intent("C"))),
            changing(given(approval("3", intent=intent("C")))),
        ]
    )
    views = {
        ApprovalView(): ["1", "2", "3"],
        ApprovalView(agent=AGENT): ["1", "3"],
        ApprovalView(agent=OTHER_AGENT): ["2"],
        ApprovalView(begun_by=OPERATOR): ["1", "3"],
        ApprovalView(begun_by=AGENT): [],
        ApprovalView(begun_by=OPERATOR, persons=("kate", "https://shop.example#1")): ["1", "3"],
        ApprovalView(begun_by=OPERATOR, persons=("https://shop.example#2", "https://shop.example#")): [],
        ApprovalView(begun_by=AGENT, persons=("https://shop.example#1",)): [],
        ApprovalView(tenants=("apac",)): ["2"],
        ApprovalView(tenants=()): [],
        ApprovalView(states=(ApprovalState.APPROVED,)): ["3"],
    }
    for view, expected in views.items():
        found = store.approvals_after(0, view, 10)
        assert [each.id for _, each in found] == [f"appr_{name}" for name in expected]
        changed = store.approvals_changed(0, store.size(), view, 10)
        assert sorted(each.id for _, each in changed) == [f"appr_{name}" for name in expected]
    (number, _), *_ = store.approvals_after(0, ApprovalView(), 1)
    assert [each.id for _, each in store.approvals_after(number, ApprovalView(), 1)] == ["appr_2"]
    size = store.size()
    store.commit([changing(given(approval("1"), state=ApprovalState.DENIED))])
    assert [(at, each.id) for at, each in store.approvals_changed(size, store.size(), ApprovalView(), 9)] == [
        (size, "appr_1")
    ]
    assert store.approval_counts(AGENT) == (1, 1)


def test_closed_ones_are_forgotten_after_a_week_and_open_ones_are_not(store: Store) -> None:
    store.commit([opening(approval("open")), opening(approval("closed", intent=intent("B")))])
    store.commit([changing(given(approval("closed", intent=intent("B")), state=ApprovalState.DENIED))])
    store.forget_expired(NOW + timedelta(days=6))
    assert store.approval("appr_closed") is not None
    store.forget_expired(NOW + timedelta(days=7))
    assert store.approval("appr_closed") is None
    assert store.approval("appr_open") is not None


def test_it_is_there_in_the_next_process_too(tmp_path: Path) -> None:
    first = sqlite_file(tmp_path)
    first.commit([opening(approval())])
    first.close()
    again = sqlite_file(tmp_path)
    assert again.approval("appr_1") == approval()
    again.close()
