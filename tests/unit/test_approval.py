"""Approval: what its digest covers, where it stands, and what it is for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.approval import Approval, ApprovalState, intent_from, waits_for, why_unusable, withdrawn
from broker.errors import Reason
from broker.intent import Intent, Level, Resource
from broker.policy.step_up import StepUp, StepUpKind
from broker.scope import Scope

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
INTENT = Intent(
    action="order.refund",
    resource=Resource(type="order", id="1234"),
    parameters={"amount": 10, "note": "ü"},
    purpose="support",
    audience="spiffe://example.org/service/orders",
    task="task_0190a0a0-0000-7000-8000-000000000001",
)
GROUP = StepUp(kind=StepUpKind.GROUP, group="desk", quorum=2)
APPROVAL = Approval(
    id="appr_1",
    agent="spiffe://example.org/agent/a",
    tenant="retail",
    task_type="case",
    intent=INTENT,
    action_class="write",
    nonce="n1",
    requirements=(GROUP, StepUp(kind=StepUpKind.USER)),
    policy_ids=("p",),
    scope=Scope.of(INTENT),
    lifetime=MINUTE,
    requested_at=NOW,
    pending_until=NOW + 15 * MINUTE,
)

COVERED_BY_THE_DIGEST: dict[str, dict[str, Any]] = {
    "id": {"id": "appr_2"},
    "agent": {"agent": "spiffe://example.org/agent/b"},
    "nonce": {"nonce": "n2"},
    "parameters": {"intent": replace(INTENT, parameters={"amount": 11, "note": "ü"})},
    "task": {"intent": replace(INTENT, task="")},
    "risk": {"intent": replace(INTENT, risk=Level.LOW)},
    "quorum": {"requirements": (replace(GROUP, quorum=1), StepUp(kind=StepUpKind.USER))},
    "one requirement less": {"requirements": (GROUP,)},
    "bypass": {"requirements": (replace(GROUP, bypass=MINUTE), StepUp(kind=StepUpKind.USER))},
}


@pytest.mark.parametrize("changes", COVERED_BY_THE_DIGEST.values(), ids=COVERED_BY_THE_DIGEST)
def test_each_part_of_what_is_approved_changes_the_digest(changes: dict[str, Any]) -> None:
    assert replace(APPROVAL, **changes).digest() != APPROVAL.digest()


def test_what_is_said_of_it_does_not() -> None:
    later = replace(APPROVAL, state=ApprovalState.USED, escalated=("duty",), text="x", revision=7, bypass_until=NOW)
    assert later.digest() == APPROVAL.digest()


@pytest.mark.parametrize("state", ApprovalState)
def test_what_is_too_late_is_expired_whatever_is_written(state: ApprovalState) -> None:
    each = replace(APPROVAL, state=state, usable_until=NOW + 20 * MINUTE)
    still_open = {ApprovalState.PENDING: 15, ApprovalState.APPROVED: 20}
    until = still_open.get(state)
    assert each.state_at(NOW) is state
    if until is not None:
        assert each.state_at(NOW + until * MINUTE - timedelta(microseconds=1)) is state
        assert each.state_at(NOW + until * MINUTE) is ApprovalState.EXPIRED
    else:
        assert each.state_at(NOW + 999 * MINUTE) is state


def test_only_an_approved_one_may_be_used() -> None:
    told = {state: why_unusable(state) for state in ApprovalState}
    assert [state for state, reason in told.items() if reason is None] == [ApprovalState.APPROVED]
    assert len(set(told.values())) == len(told), "each state is told apart"


def test_where_to_wait() -> None:
    held = APPROVAL.held()
    assert (held.approval, held.waits_for, held.until) == ("appr_1", ("group:desk", "user"), APPROVAL.pending_until)
    assert waits_for(StepUp(kind=StepUpKind.AUTHENTICATION)) == "authentication"


def test_it_fits_one_intent_of_one_agent() -> None:
    assert APPROVAL.fits(INTENT, APPROVAL.agent)
    assert not APPROVAL.fits(INTENT, APPROVAL.agent + "b")
    assert not APPROVAL.fits(replace(INTENT, parameters={"amount": 10, "note": "u\u0308"}), APPROVAL.agent)


def test_what_is_withdrawn_keeps_what_it_was_used_for() -> None:
    used = replace(APPROVAL, state=ApprovalState.USED, bypass_until=NOW + MINUTE)
    assert withdrawn(used, NOW) == replace(used, bypass_until=None)
    taken = withdrawn(APPROVAL, NOW, "no")
    assert (taken.state, taken.decided_at, taken.text) == (ApprovalState.WITHDRAWN, NOW, "no")
    assert Reason.APPROVAL_WITHDRAWN is why_unusable(taken.state)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)


@given(
    parameters=st.dictionaries(texts, st.integers(-9, 9) | st.booleans() | texts | st.lists(texts), max_size=3),
    levels=st.tuples(st.none() | st.sampled_from(Level), st.none() | st.sampled_from(Level)),
    task=st.sampled_from(["", INTENT.task]),
    by_set=st.booleans(),
)
def test_an_intent_comes_back_from_its_canonical_object(
    parameters: dict[str, Any], levels: tuple[Level | None, Level | None], task: str, by_set: bool
) -> None:
    intent = replace(
        INTENT,
        parameters=parameters,
        sensitivity=levels[0],
        risk=levels[1],
        task=task,
        resource=Resource(type="order", set="all") if by_set else INTENT.resource,
    )
    again = intent_from(intent.canonical_object())
    assert again.digest() == intent.digest()
    assert again == intent


def test_nothing_personal_is_printed() -> None:
    shown = repr(replace(APPROVAL, text="the customer is unhappy"))
    assert "unhappy" not in shown
    assert "amount" not in shown
