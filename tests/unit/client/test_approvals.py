"""What a session makes of an approval: what is not what its digest is of is shown to nobody."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.approval import Approval, Yes
from broker.client import BrokerError
from broker.client.approval_decode import approval_of
from broker.intent import Intent, Resource, parse_parameters
from broker.operations.approval_calls import Details, History, Progress, ShownApproval
from broker.policy.step_up import StepUp, StepUpKind
from broker.scope import Scope
from broker.server import convert_approvals
from broker.task import Task
from broker.v1 import approval_pb2

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ORDERS = "spiffe://example.org/service/orders"
AGENT = "spiffe://example.org/agent/assistant"
TASK = "task_00000000-0000-7000-8000-000000000001"
DUTY = StepUp(
    kind=StepUpKind.GROUP, group="duty", quorum=2, owners_excluded=True, bypass=timedelta(minutes=30)
)  # fmt: skip


def message(
    parameters: str = '{"amount":9900,"currency":"EUR"}', requirements: tuple[StepUp, ...] = (DUTY,)
) -> approval_pb2.Approval:
    """An approval as the broker shows it to who may decide."""
    resource = Resource(type="order", id="1234")
    asked = Approval(
        id="appr_1",
        agent=AGENT,
        tenant="main",
        task_type="case",
        intent=Intent(
            action="order.refund", resource=resource, parameters=parse_parameters(parameters),
            purpose="customer-support", audience=ORDERS, task=TASK,
        ),
        action_class="write",
        nonce="a-nonce",
        requirements=requirements,
        policy_ids=("refund-more",),
        scope=Scope(actions=frozenset({"order.refund"}), resource=resource, constraints={}, audience=ORDERS),
        lifetime=timedelta(minutes=2),
        requested_at=NOW - timedelta(minutes=2),
        pending_until=NOW + timedelta(minutes=13),
    )  # fmt: skip
    details = Details(
        digest=asked.digest(),
        nonce=asked.nonce,
        intent=asked.intent,
        scope=asked.scope,
        lifetime=asked.lifetime,
        policy_ids=asked.policy_ids,
        business_owner="Support",
        security_owner="Security",
        history=History(since=NOW - timedelta(hours=3), granted=12, refused=3, approved=2, denied=1),
        task=Task(
            id=TASK, begun_by=AGENT, agent=AGENT, tenant="main", purpose="customer-support", type="case",
            person="ana", conversation="",
            begun_at=NOW, deadline=NOW,
        ),
        answers=(Yes(person="ben", at=NOW, by_token=True),),
    )  # fmt: skip
    shown = ShownApproval(
        id=asked.id,
        state=asked.state,
        agent=asked.agent,
        tenant=asked.tenant,
        task=TASK,
        requested_at=asked.requested_at,
        pending_until=asked.pending_until,
        intent_digest=asked.intent.digest(),
        requirements=tuple(Progress(required=each, escalated_to=("leads",), approvals=1) for each in requirements),
        details=details,
    )
    return convert_approvals.approval(shown)


def test_it_is_decoded_whole() -> None:
    found = approval_of(message())
    assert (found.state, found.requirements[0].kind, found.requirements[0].bypass) == (
        ("pending", "group", timedelta(minutes=30))
    )
    assert found.details is not None
    assert (found.details.intent.parameters, found.details.granted) == ({"amount": 9900, "currency": "EUR"}, 12)
    assert (found.decided_at, found.bypass_until, found.details.answers[0].person) == (None, None, "ben")
    assert "9900" not in repr(found)
    later: Any = 99
    assert approval_of(approval_pb2.Approval(approval_id="appr_1", state=later)).state == "other"


seconds = st.integers(1, 86_400).map(lambda count: timedelta(seconds=count))
required = st.builds(
    StepUp,
    kind=st.just(StepUpKind.GROUP),
    group=st.sampled_from(("duty", "leads")),
    quorum=st.integers(1, 16),
    pending_for=seconds,
    good_for=seconds,
    owners_excluded=st.booleans(),
    bypass=st.none() | seconds,
) | st.builds(
    StepUp,
    kind=st.sampled_from((StepUpKind.USER, StepUpKind.AUTHENTICATION)),
    pending_for=seconds,
    good_for=seconds,
    bypass=st.none() | seconds,
    max_age=st.none() | seconds,
)


@given(st.lists(required, min_size=1, max_size=3))
def test_the_digest_is_computed_from_what_is_shown_as_the_broker_does(requirements: list[StepUp]) -> None:
    assert approval_of(message(requirements=tuple(requirements))).details is not None


def _parameters(text: str) -> Callable[[approval_pb2.Approval], None]:
    def change(shown: approval_pb2.Approval) -> None:
        shown.details.intent.parameters = text

    return change


def _set(path: str, value: object) -> Callable[[approval_pb2.Approval], None]:
    def change(shown: approval_pb2.Approval) -> None:
        *places, name = path.split(".")
        at: Any = shown
        for place in places:
            at = at[int(place)] if place.isdigit() else getattr(at, place)
        setattr(at, name, value)

    return change


FORGED: dict[str, Callable[[approval_pb2.Approval], None]] = {
    "amount": _parameters('{"amount":9901,"currency":"EUR"}'),
    "one-more-parameter": _parameters('{"amount":9900,"currency":"EUR","to":"x"}'),
    "resource": _set("details.intent.resource.id", "1235"),
    "action": _set("details.intent.action", "order.cancel"),
    "on-behalf-of": _set("details.intent.on_behalf_of", "somebody"),
    "audience": _set("details.intent.audience", ORDERS + "2"),
    "task": _set("details.intent.task_id", TASK[:-1] + "2"),
    "agent": _set("agent", AGENT + "2"),
    "approval": _set("approval_id", "appr_2"),
    "nonce": _set("details.nonce", "another"),
    "digest": _set("details.digest", "sha-256:" + "A" * 43),
    "intent-digest": _set("intent_digest", "sha-256:" + "A" * 43),
    "quorum": _set("requirements.0.quorum", 1),
    "group": _set("requirements.0.group", "leads"),
    "owners": _set("requirements.0.owners_excluded", value=False),
    "no-requirements": lambda shown: shown.ClearField("requirements"),
    "longer-bypass": lambda shown: shown.requirements[0].bypass.FromSeconds(86_400),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_what_is_not_what_the_digest_is_of_is_not_shown(forge: Callable[[approval_pb2.Approval], None]) -> None:
    shown = message()
    approval_of(shown)
    forge(shown)
    with pytest.raises(BrokerError, match="shows something else"):
        approval_of(shown)


@pytest.mark.parametrize(
    "forge", [_parameters('{"amount": 1.5}'), _parameters("x"), _set("details.intent.action", "P")]
)
def test_what_is_no_intent_is_not_shown(forge: Callable[[approval_pb2.Approval], None]) -> None:
    shown = message()
    forge(shown)
    with pytest.raises(BrokerError, match="intent that is none"):
        approval_of(shown)
