"""Every way into the broker, with who rightfully takes it; each row of an attack table is tried at each of them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo, LocalizedMessage
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.v1 import (
    approval_pb2,
    approval_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    exchange_pb2,
    exchange_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    outcome_pb2,
    outcome_pb2_grpc,
    override_pb2,
    override_pb2_grpc,
    redeem_pb2,
    redeem_pb2_grpc,
    revoke_pb2,
    revoke_pb2_grpc,
    task_pb2,
    task_pb2_grpc,
    types_pb2,
)
from tests.operations.world import LEAD, ORDERS, SECURITY, SUPPORT

PATIENCE = 60.0
UNSAID = "-"
NOBODYS_TASK = "task_0190a0a0-0000-7000-8000-000000000000"
NOBODYS_APPROVAL = "appr_0190a0a0-0000-7000-8000-000000000000"
NOBODYS_CREDENTIAL = "cred_0190a0a0-0000-7000-8000-000000000000"
NO_CALL = "sha-256:" + "0" * 43
KEY = "the-key-of-one-attempt"


def request(*, request_id: str = "", **changes: Any) -> exchange_pb2.ExchangeRequest:
    """An exchange that the example bundle permits the support assistant, with changes to its intent."""
    fields: dict[str, Any] = {
        "action": "order.read",
        "resource": types_pb2.Resource(type="order", id="1234"),
        "purpose": "customer-support",
        "audience": ORDERS,
    }
    return exchange_pb2.ExchangeRequest(intent=types_pb2.Intent(**(fields | changes)), request_id=request_id)


def items(*requests: exchange_pb2.ExchangeRequest) -> exchange_pb2.ExchangeStreamRequest:
    """One message of a conversation."""
    of = exchange_pb2.ExchangeStreamRequest
    return of(items=[of.Item(correlation=number, request=each) for number, each in enumerate(requests)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended: its code, and of a refusal what a client reads in it.

    The reason is empty for a call that was served, and for no other: what TLS or gRPC refused has a dash there.
    """

    code: grpc.StatusCode
    reason: str = ""
    sentence: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    everything: str = ""
    answer: Any = None

    @property
    def request(self) -> str:
        """The broker's id of the request, by which its event is found."""
        return self.metadata.get("request", "")


def refusal_of(status: Status, code: grpc.StatusCode, text: str = "") -> Outcome:
    """Read a google.rpc.Status; without ErrorInfo the reason is a dash."""
    info, localized = ErrorInfo(), LocalizedMessage()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(localized)
    return Outcome(
        code=code,
        reason=info.reason or UNSAID,
        sentence=localized.message,
        metadata=dict(info.metadata),
        everything=f"{status}{text}",
    )


def failure(error: grpc.aio.AioRpcError) -> Outcome:
    """Read a failed call."""
    details = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    status = Status.FromString(details[0]) if details and isinstance(details[0], bytes) else Status()
    return refusal_of(status, error.code(), error.details() or "")


async def outcome(call: Awaitable[Any]) -> Outcome:
    """Wait for a call; say how it ended."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return failure(error)
    items = exchange_pb2.ExchangeStreamResponse.Item, outcome_pb2.ReportAnswer
    if isinstance(answer, items) and answer.HasField("refusal"):
        codes = {code.value[0]: code for code in grpc.StatusCode}
        return refusal_of(answer.refusal, codes[answer.refusal.code])
    return Outcome(code=grpc.StatusCode.OK, answer=answer)


async def first(call: Any) -> Any:
    """Return the first message of a stream, and leave."""
    try:
        return await call.read()
    finally:
        call.cancel()


async def conversation(channel: grpc.aio.Channel, asked: exchange_pb2.ExchangeRequest) -> Any:
    """Ask for one credential in a stream; return the item that answers."""
    call: Any = exchange_pb2_grpc.ExchangeServiceStub(channel).ExchangeStream(timeout=PATIENCE)
    try:
        with contextlib.suppress(asyncio.InvalidStateError):  # over already: its status says why
            await call.write(items(asked))
        answer = await call.read()
        assert answer is not grpc.aio.EOF
        (item,) = answer.items
        return item
    finally:
        call.cancel()


def exchange(channel: grpc.aio.Channel, asked: exchange_pb2.ExchangeRequest) -> Any:
    """Ask for one credential."""
    return exchange_pb2_grpc.ExchangeServiceStub(channel).Exchange(asked, timeout=PATIENCE)


def begin_task(channel: grpc.aio.Channel, **fields: Any) -> Any:
    asked = task_pb2.BeginTaskRequest(**({"purpose": "customer-support"} | fields))
    return task_pb2_grpc.TaskServiceStub(channel).BeginTask(asked, timeout=PATIENCE)


def end_task(channel: grpc.aio.Channel, task: str) -> Any:
    return task_pb2_grpc.TaskServiceStub(channel).EndTask(task_pb2.EndTaskRequest(task_id=task), timeout=PATIENCE)


def cancel_task(channel: grpc.aio.Channel, task: str) -> Any:
    return task_pb2_grpc.TaskServiceStub(channel).CancelTask(task_pb2.CancelTaskRequest(task_id=task), timeout=PATIENCE)


def heartbeat_task(channel: grpc.aio.Channel, task: str) -> Any:
    asked = task_pb2.HeartbeatTaskRequest(task_id=task)
    return task_pb2_grpc.TaskServiceStub(channel).HeartbeatTask(asked, timeout=PATIENCE)


def narrow_task(channel: grpc.aio.Channel, task: str, *actions: str) -> Any:
    asked = task_pb2.NarrowTaskRequest(task_id=task, boundary=types_pb2.TaskBoundary(actions=actions))
    return task_pb2_grpc.TaskServiceStub(channel).NarrowTask(asked, timeout=PATIENCE)


def resume_task(channel: grpc.aio.Channel, task: str) -> Any:
    asked = task_pb2.ResumeTaskRequest(task_id=task, reason="a test")
    return task_pb2_grpc.TaskServiceStub(channel).ResumeTask(asked, timeout=PATIENCE)


async def report(channel: grpc.aio.Channel, credential: str, report_id: str = "", **what: Any) -> Any:
    """Report on a credential, that it was accepted unless something else is said; return the one answer."""
    said = what or {"accepted": outcome_pb2.Accepted()}
    at = Timestamp(seconds=1_800_000_000)
    one = outcome_pb2.Report(report_id=report_id or f"{uuid4()}", credential_id=credential, at=at, **said)
    stub = outcome_pb2_grpc.OutcomeServiceStub(channel)
    (answer,) = (await stub.Report(outcome_pb2.ReportRequest(reports=[one]), timeout=PATIENCE)).answers
    return answer


def revoke(channel: grpc.aio.Channel, **rule: str) -> Any:
    asked = revoke_pb2.RevokeRequest(rule=revoke_pb2.RevocationRule(**rule))
    return revoke_pb2_grpc.RevocationServiceStub(channel).Revoke(asked, timeout=PATIENCE)


def lift(channel: grpc.aio.Channel, revocation: str) -> Any:
    asked = revoke_pb2.LiftRevocationRequest(revocation_id=revocation)
    return revoke_pb2_grpc.RevocationServiceStub(channel).LiftRevocation(asked, timeout=PATIENCE)


def revocations(channel: grpc.aio.Channel, cursor: str = "", *, timeout: float | None = PATIENCE) -> Any:
    asked = revoke_pb2.SubscribeRevocationsRequest(cursor=cursor)
    return revoke_pb2_grpc.RevocationServiceStub(channel).SubscribeRevocations(asked, timeout=timeout)


def audit(channel: grpc.aio.Channel, cursor: str = "", *, timeout: float | None = PATIENCE, **fields: Any) -> Any:
    asked = audit_pb2.SubscribeAuditRequest(cursor=cursor, **fields)
    return audit_pb2_grpc.AuditServiceStub(channel).SubscribeAudit(asked, timeout=timeout)


def key_set(channel: grpc.aio.Channel) -> Any:
    return keys_pb2_grpc.KeyServiceStub(channel).GetKeySet(keys_pb2.GetKeySetRequest(), timeout=PATIENCE)


def list_keys(channel: grpc.aio.Channel) -> Any:
    return keys_pb2_grpc.KeyServiceStub(channel).ListKeys(keys_pb2.ListKeysRequest(), timeout=PATIENCE)


def rotate_keys(channel: grpc.aio.Channel, **fields: Any) -> Any:
    asked = keys_pb2.RotateKeysRequest(**fields)
    return keys_pb2_grpc.KeyServiceStub(channel).RotateKeys(asked, timeout=PATIENCE)


def checkpoint(channel: grpc.aio.Channel) -> Any:
    return audit_pb2_grpc.AuditServiceStub(channel).GetCheckpoint(audit_pb2.GetCheckpointRequest(), timeout=PATIENCE)


def impose(channel: grpc.aio.Channel, **target: Any) -> Any:
    asked = override_pb2.ImposeOverrideRequest(target=override_pb2.OverrideTarget(**target), reason="a test")
    return override_pb2_grpc.OverrideServiceStub(channel).ImposeOverride(asked, timeout=PATIENCE)


def lift_override(channel: grpc.aio.Channel, override: str) -> Any:
    asked = override_pb2.LiftOverrideRequest(override_id=override, reason="over")
    return override_pb2_grpc.OverrideServiceStub(channel).LiftOverride(asked, timeout=PATIENCE)


def overrides(channel: grpc.aio.Channel) -> Any:
    stub = override_pb2_grpc.OverrideServiceStub(channel)
    return stub.ListOverrides(override_pb2.ListOverridesRequest(), timeout=PATIENCE)


def redeem(channel: grpc.aio.Channel, credential: str, *, digest: str = NO_CALL, key: str = KEY) -> Any:
    asked = redeem_pb2.RedeemRequest(credential_id=credential, call_digest=digest, idempotency_key=key)
    return redeem_pb2_grpc.RedemptionServiceStub(channel).Redeem(asked, timeout=PATIENCE)


def approvals(channel: grpc.aio.Channel, **fields: Any) -> Any:
    stub = approval_pb2_grpc.ApprovalServiceStub(channel)
    return stub.ListApprovals(approval_pb2.ListApprovalsRequest(**fields), timeout=PATIENCE)


def approval(channel: grpc.aio.Channel, name: str) -> Any:
    stub = approval_pb2_grpc.ApprovalServiceStub(channel)
    return stub.GetApproval(approval_pb2.GetApprovalRequest(approval_id=name), timeout=PATIENCE)


def approve(channel: grpc.aio.Channel, name: str, digest: str = "sha-256:none", **call: Any) -> Any:
    stub = approval_pb2_grpc.ApprovalServiceStub(channel)
    asked = approval_pb2.ApproveRequest(approval_id=name, digest=digest)
    return stub.Approve(asked, timeout=PATIENCE, **call)


def deny(channel: grpc.aio.Channel, name: str) -> Any:
    stub = approval_pb2_grpc.ApprovalServiceStub(channel)
    return stub.Deny(approval_pb2.DenyRequest(approval_id=name, reason="a test"), timeout=PATIENCE)


def withdraw(channel: grpc.aio.Channel, name: str) -> Any:
    stub = approval_pb2_grpc.ApprovalServiceStub(channel)
    return stub.WithdrawApproval(approval_pb2.WithdrawApprovalRequest(approval_id=name), timeout=PATIENCE)


def watch_approvals(channel: grpc.aio.Channel, cursor: str = "", *, timeout: float | None = PATIENCE) -> Any:
    stub = approval_pb2_grpc.ApprovalServiceStub(channel)
    return stub.WatchApprovals(approval_pb2.WatchApprovalsRequest(cursor=cursor), timeout=timeout)


def drifted_tasks(channel: grpc.aio.Channel, **fields: Any) -> Any:
    stub = approval_pb2_grpc.ApprovalServiceStub(channel)
    return stub.ListDriftedTasks(approval_pb2.ListDriftedTasksRequest(**fields), timeout=PATIENCE)


def health(channel: grpc.aio.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its stubs declare no methods
    return stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)


def watch(channel: grpc.aio.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """One RPC.

    Attributes:
        name: of the RPC.
        who: SPIFFE ID of somebody who may.
        ask: takes it, with a request that is in order.
        control: the reason that the rightful caller is told; empty when it is served. (What is named does not exist, so
            that nothing changes: whoever gets this reason has come past the gate.)

    """

    name: str
    who: str
    ask: Callable[[grpc.aio.Channel], Awaitable[Any]]
    control: str = ""

    async def __call__(self, channel: grpc.aio.Channel) -> Outcome:
        """Take it; say how that ended."""
        return await outcome(self.ask(channel))


ENTRANCES = (
    Entrance(name="Exchange", who=SUPPORT, ask=lambda to: exchange(to, request())),
    Entrance(name="ExchangeStream", who=SUPPORT, ask=lambda to: conversation(to, request())),
    Entrance(name="BeginTask", who=SUPPORT, ask=begin_task),
    Entrance(name="EndTask", who=SUPPORT, ask=lambda to: end_task(to, NOBODYS_TASK), control="TASK_UNKNOWN"),
    Entrance(name="CancelTask", who=SUPPORT, ask=lambda to: cancel_task(to, NOBODYS_TASK), control="TASK_UNKNOWN"),
    Entrance(
        name="HeartbeatTask", who=SUPPORT, ask=lambda to: heartbeat_task(to, NOBODYS_TASK), control="TASK_UNKNOWN"
    ),
    Entrance(
        name="NarrowTask",
        who=SUPPORT,
        ask=lambda to: narrow_task(to, NOBODYS_TASK, "order.read"),
        control="TASK_UNKNOWN",
    ),
    Entrance(name="ResumeTask", who=SECURITY, ask=lambda to: resume_task(to, NOBODYS_TASK), control="TASK_UNKNOWN"),
    Entrance(name="Report", who=ORDERS, ask=lambda to: report(to, NOBODYS_CREDENTIAL), control="CREDENTIAL_UNKNOWN"),
    Entrance(
        name="Revoke",
        who=SECURITY,
        ask=lambda to: revoke(to, credential_id=NOBODYS_CREDENTIAL),
        control="CREDENTIAL_UNKNOWN",
    ),
    Entrance(name="LiftRevocation", who=SECURITY, ask=lambda to: lift(to, "rev_none"), control="REVOCATION_UNKNOWN"),
    Entrance(
        name="ImposeOverride",
        who=SECURITY,
        ask=lambda to: impose(to, agent="spiffe://example.org/agent/nobody"),
        control="REVOCATION_TARGET_UNKNOWN",
    ),
    Entrance(
        name="LiftOverride", who=SECURITY, ask=lambda to: lift_override(to, "ovr_none"), control="OVERRIDE_UNKNOWN"
    ),
    Entrance(name="ListOverrides", who=SECURITY, ask=overrides),
    Entrance(name="Redeem", who=ORDERS, ask=lambda to: redeem(to, NOBODYS_CREDENTIAL), control="CREDENTIAL_UNKNOWN"),
    Entrance(name="ListApprovals", who=LEAD, ask=approvals),
    Entrance(name="GetApproval", who=LEAD, ask=lambda to: approval(to, NOBODYS_APPROVAL), control="APPROVAL_UNKNOWN"),
    Entrance(name="Approve", who=LEAD, ask=lambda to: approve(to, NOBODYS_APPROVAL), control="APPROVAL_UNKNOWN"),
    Entrance(name="Deny", who=LEAD, ask=lambda to: deny(to, NOBODYS_APPROVAL), control="APPROVAL_UNKNOWN"),
    Entrance(
        name="WithdrawApproval",
        who=SUPPORT,
        ask=lambda to: withdraw(to, NOBODYS_APPROVAL),
        control="APPROVAL_UNKNOWN",
    ),
    Entrance(name="ListDriftedTasks", who=LEAD, ask=drifted_tasks),
    Entrance(name="WatchApprovals", who=SUPPORT, ask=lambda to: first(watch_approvals(to))),
    Entrance(name="SubscribeRevocations", who=ORDERS, ask=lambda to: first(revocations(to))),
    Entrance(name="SubscribeAudit", who=SECURITY, ask=lambda to: first(audit(to))),
    Entrance(name="GetKeySet", who=ORDERS, ask=key_set),
    Entrance(name="ListKeys", who=SECURITY, ask=list_keys),
    Entrance(
        name="RotateKeys",
        who=SECURITY,
        ask=lambda to: rotate_keys(to, emergency_kid="none", reason="a test"),
        control="KEY_UNKNOWN",
    ),
    Entrance(name="GetCheckpoint", who=SECURITY, ask=checkpoint),
    Entrance(name="Health.Check", who=SUPPORT, ask=health),
    Entrance(name="Health.Watch", who=SUPPORT, ask=lambda to: first(watch(to))),
)
BY_NAME = {entrance.name: entrance for entrance in ENTRANCES}
at_every_entrance = pytest.mark.parametrize("entrance", ENTRANCES, ids=[entrance.name for entrance in ENTRANCES])
