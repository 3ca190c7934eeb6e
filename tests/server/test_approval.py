"""Approvals at the door: what is asked and told crosses whole, by its rules, and a change wakes who follows at once."""

import asyncio
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from broker.approval import ApprovalState, Yes
from broker.intent import Intent, Level, Resource
from broker.issuer.port import (
    ApprovalCall,
    ApprovalPage,
    ApproveCall,
    Details,
    Drifted,
    DriftState,
    History,
    ListApprovalsCall,
    ListDriftedCall,
    Page,
    Progress,
    ShownApproval,
    ShownDrifted,
    Task,
)
from broker.policy.step_up import StepUp, StepUpKind
from broker.scope import Scope
from broker.server.convert_approvals import approval, approval_page, drifted_task
from broker.v1 import approval_pb2, approval_pb2_grpc, exchange_pb2_grpc
from tests.fakes.issuer import LISTED_AT
from tests.server.world import World, open_world, request, told

MINUTE = timedelta(minutes=1)
INTENT = Intent(
    action="order.refund",
    resource=Resource(type="order", id="1234"),
    parameters={"amount": 10},
    purpose="support",
    audience="spiffe://example.org/orders",
    risk=Level.HIGH,
)
TASK = Task(
    id="task_1",
    agent="spiffe://example.org/agent",
    begun_by="spiffe://example.org/chat",
    tenant="acme",
    purpose="support",
    conversation="",
    begun_at=LISTED_AT,
    deadline=LISTED_AT + MINUTE,
    type="case",
    person="customer-42",
)
SHOWN = ShownApproval(
    id="appr_1",
    state=ApprovalState.APPROVED,
    agent="spiffe://example.org/agent",
    tenant="acme",
    task="task_1",
    requested_at=LISTED_AT,
    pending_until=LISTED_AT + MINUTE,
    intent_digest=INTENT.digest(),
    requirements=(
        Progress(
            required=StepUp(kind=StepUpKind.GROUP, group="desk", quorum=2, owners_excluded=True, bypass=30 * MINUTE),
            escalated_to=("duty",),
            approvals=1,
        ),
        Progress(required=StepUp(kind=StepUpKind.AUTHENTICATION, max_age=MINUTE), escalated_to=(), approvals=0),
    ),
    decided_at=LISTED_AT,
    usable_until=LISTED_AT + MINUTE,
    bypass_until=LISTED_AT + MINUTE,
    text="fine",
    details=Details(
        digest="sha-256:d",
        nonce="n",
        intent=INTENT,
        scope=Scope.of(INTENT),
        lifetime=MINUTE,
        policy_ids=("p",),
        business_owner="B",
        security_owner="S",
        history=History(since=LISTED_AT, granted=1, refused=2, approved=3, denied=4),
        task=TASK,
        answers=(Yes(person="lena", at=LISTED_AT, by_token=True, bypass=MINUTE),),
    ),
)


DRIFTED = ShownDrifted(
    drifted=Drifted(
        task="task_1",
        agent="spiffe://example.org/agent",
        tenant="acme",
        group="desk",
        since=LISTED_AT,
        at=LISTED_AT + MINUTE,
        refusals=5,
        within=10 * MINUTE,
        reasons=("DUTY_SEPARATED", "TASK_BOUNDARY_EXCEEDED"),
        actions=("order.delete", "order.list"),
        times=3,
        escalated=("duty",),
        escalate_at=LISTED_AT + 9 * MINUTE,
    ),
    task=TASK,
    business_owner="B",
    security_owner="S",
)


def approvals(world: World) -> Any:
    return approval_pb2_grpc.ApprovalServiceStub(world.channel())


def test_what_an_approver_sees_is_told_whole() -> None:
    message = approval(SHOWN)
    group, fresh = message.requirements
    assert (group.kind, group.group, group.quorum, group.approvals) == (approval_pb2.STEP_UP_KIND_GROUP, "desk", 2, 1)
    assert (list(group.escalated_to), group.owners_excluded) == (["duty"], True)
    assert group.bypass.ToTimedelta() == 30 * MINUTE
    assert not group.HasField("max_age")
    assert (fresh.kind, fresh.max_age.ToTimedelta()) == (approval_pb2.STEP_UP_KIND_AUTHENTICATION, MINUTE)
    assert not fresh.HasField("bypass")
    details = message.details
    assert details.intent.parameters == '{"amount":10}'
    assert details.intent.risk == 3
    assert '"amount":[10]' in details.authorization_details.replace(" ", "")
    agent = details.agent
    assert (agent.business_owner, agent.granted, agent.refused, agent.approved, agent.denied) == ("B", 1, 2, 3, 4)
    assert (details.task.person, details.task.type) == ("customer-42", "case")
    (yes,) = details.answers
    assert (yes.person, yes.by_token, yes.bypass.ToTimedelta()) == ("lena", True, MINUTE)
    assert (message.state, message.reason) == (approval_pb2.APPROVAL_STATE_APPROVED, "fine")
    assert message.bypass_until.ToDatetime() == (LISTED_AT + MINUTE).replace(tzinfo=None)


def test_what_is_not_there_is_left_out() -> None:
    page = Page(start=1, stop=2, cursor="c", read_at=LISTED_AT, size=2, valid_until=LISTED_AT)
    bare = ShownApproval(
        id="appr_2",
        state=ApprovalState.PENDING,
        agent="a",
        tenant="t",
        task="",
        requested_at=LISTED_AT,
        pending_until=LISTED_AT,
        intent_digest="d",
        requirements=(),
    )
    (message,) = approval_page(ApprovalPage(page=page, approvals=(bare,))).approvals
    for name in ("decided_at", "usable_until", "bypass_until", "details"):
        assert not message.HasField(name)


async def test_calls_come_to_the_issuer_as_they_were_said(world: World) -> None:
    stub, v1 = approvals(world), approval_pb2
    wanted = v1.ListApprovalsRequest(states=[v1.APPROVAL_STATE_USED], page_size=2**31 - 1, page_token="t")
    listed = await stub.ListApprovals(wanted, timeout=60)
    assert ([each.agent for each in listed.approvals], listed.next_page_token) == ([world.agent.id], "more")
    assert (await stub.GetApproval(v1.GetApprovalRequest(approval_id="a1"), timeout=60)).approval.approval_id
    yes = v1.ApproveRequest(approval_id="a2", digest="d", bypass=Duration(seconds=60))
    assert not (await stub.Approve(yes, timeout=60)).HasField("position")
    assert (await stub.Deny(v1.DenyRequest(approval_id="a3", reason="no"), timeout=60)).position == 13
    withdrawn = await stub.WithdrawApproval(v1.WithdrawApprovalRequest(approval_id="a4", reason="x"), timeout=60)
    assert withdrawn.position == 14
    asked, got, said, denied, taken = world.issuer.calls
    assert isinstance(asked, ListApprovalsCall)
    assert (asked.states, asked.page_size, asked.page_token) == ((ApprovalState.USED,), 2**31 - 1, "t")
    assert isinstance(said, ApproveCall)
    assert (said.approval, said.digest, said.bypass) == ("a2", "d", MINUTE)
    rest = [each for each in (got, denied, taken) if isinstance(each, ApprovalCall)]
    assert [(each.approval, each.text) for each in rest] == [("a1", ""), ("a3", "no"), ("a4", "x")]


def test_a_drifted_task_is_told_whole() -> None:
    message = drifted_task(DRIFTED)
    assert (message.task_id, message.state, message.suspended) == ("task_1", approval_pb2.DRIFT_STATE_OPEN, False)
    assert (message.agent, message.tenant) == ("spiffe://example.org/agent", "acme")
    assert (message.business_owner, message.security_owner) == ("B", "S")
    task = message.task
    assert (task.person, task.type, task.purpose) == ("customer-42", "case", "support")
    assert (task.begun_at.ToDatetime(UTC), task.deadline.ToDatetime(UTC)) == (LISTED_AT, LISTED_AT + MINUTE)
    assert (message.since.ToDatetime(UTC), message.drifted_at.ToDatetime(UTC)) == (LISTED_AT, LISTED_AT + MINUTE)
    assert (message.times, message.refusals, message.within.ToTimedelta()) == (3, 5, 10 * MINUTE)
    assert list(message.reasons) == ["DUTY_SEPARATED", "TASK_BOUNDARY_EXCEEDED"]
    assert list(message.actions) == ["order.delete", "order.list"]
    assert (message.group, list(message.escalated_to)) == ("desk", ["duty"])
    for state, expected in ((DriftState.RESUMED, "DRIFT_STATE_RESUMED"), (DriftState.ENDED, "DRIFT_STATE_ENDED")):
        other = replace(DRIFTED, drifted=replace(DRIFTED.drifted, state=state))
        assert approval_pb2.DriftState.Name(drifted_task(other).state) == expected
    assert drifted_task(replace(DRIFTED, task=replace(TASK, suspended_at=LISTED_AT))).suspended


async def test_drifted_tasks_are_listed_and_followed(world: World) -> None:
    asked = approval_pb2.ListDriftedTasksRequest(page_size=7, page_token="t")
    found = await approvals(world).ListDriftedTasks(asked, timeout=60)
    assert [each.group for each in found.drifted_tasks] == ["desk"]
    assert found.next_page_token == "more"
    (call,) = [each for each in world.issuer.calls if isinstance(each, ListDriftedCall)]
    assert (call.page_size, call.page_token) == (7, "t")
    stream = approvals(world).WatchApprovals(approval_pb2.WatchApprovalsRequest(), timeout=60)
    message = await stream.read()
    assert [each.group for each in message.drifted_tasks] == ["desk"]
    stream.cancel()


V1 = approval_pb2
BROKEN = {
    "no id": ("GetApproval", V1.GetApprovalRequest()),
    "a long id": ("GetApproval", V1.GetApprovalRequest(approval_id="a" * 65)),
    "no digest": ("Approve", V1.ApproveRequest(approval_id="a")),
    "a bypass of nothing": ("Approve", V1.ApproveRequest(approval_id="a", digest="d", bypass=Duration())),
    "a bypass of days": ("Approve", V1.ApproveRequest(approval_id="a", digest="d", bypass=Duration(seconds=86401))),
    "no reason": ("Deny", V1.DenyRequest(approval_id="a")),
    "a long reason": ("Deny", V1.DenyRequest(approval_id="a", reason="x" * 1025)),
    "no state": ("ListApprovals", V1.ListApprovalsRequest(states=[V1.APPROVAL_STATE_UNSPECIFIED])),
    "a state of later": ("ListApprovals", V1.ListApprovalsRequest(states=[99])),  # type: ignore[list-item]
    "states enough": ("ListApprovals", V1.ListApprovalsRequest(states=[V1.APPROVAL_STATE_USED] * 7)),
    "a long token of drifted": ("ListDriftedTasks", V1.ListDriftedTasksRequest(page_token="x" * 1025)),
    "a long token": ("ListApprovals", V1.ListApprovalsRequest(page_token="x" * 1025)),
}


@pytest.mark.parametrize(("name", "broken"), BROKEN.values(), ids=BROKEN)
async def test_what_breaks_a_rule_reaches_nobody(world: World, name: str, broken: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(approvals(world), name)(broken, timeout=60)
    assert told(caught.value).reason == "REQUEST_INVALID"
    assert not world.issuer.calls or not isinstance(world.issuer.calls[-1], ApprovalCall | ApproveCall)


async def test_the_approval_of_an_exchange_comes_to_the_issuer(world: World) -> None:
    asked = request()
    asked.approval_id = "appr_9"
    await exchange_pb2_grpc.ExchangeServiceStub(world.channel()).Exchange(asked, timeout=60)
    (call,) = world.issuer.calls
    assert getattr(call, "approval", "") == "appr_9"


async def test_a_change_wakes_who_follows_long_before_a_heartbeat() -> None:
    async with open_world(heartbeat=600.0) as world:
        call = approvals(world).WatchApprovals(V1.WatchApprovalsRequest(), timeout=60)
        assert (await asyncio.wait_for(call.read(), 60)).cursor
        await world.issuer.change_approvals()
        assert (await asyncio.wait_for(call.read(), 60)).approvals
        call.cancel()
