"""What is stopped is stopped at every entrance, each with its reason and its event; a new RPC is noticed here."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from importlib import import_module
from pkgutil import iter_modules
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2

import broker.v1
from broker.v1 import (
    approval_pb2,
    audit_pb2,
    exchange_pb2,
    keys_pb2,
    outcome_pb2,
    override_pb2,
    override_pb2_grpc,
    redeem_pb2,
    revoke_pb2,
    task_pb2,
    types_pb2,
)
from tests.attacks.entrances import (
    KEY,
    NO_CALL,
    NOBODYS_APPROVAL,
    NOBODYS_CREDENTIAL,
    NOBODYS_TASK,
    Outcome,
    audit,
    exchange,
    failure,
    first,
    items,
    outcome,
    request,
    revocations,
)
from tests.attacks.house import AUDITOR, House
from tests.attacks.test_endings import follow_revocations
from tests.operations.world import ORDERS, SECURITY, SUPPORT, WHOLESALE

PATIENCE = 60.0
STOPPED = "OVERRIDE_IN_FORCE"
TARGET = override_pb2.OverrideTarget
BEFORE_ACT = {
    "agent": TARGET(agent=SUPPORT),
    "tenant": TARGET(tenant="retail"),
    "everything": TARGET(everything=override_pb2.Everything()),
}
OF_ACTS = {
    "class": TARGET(action_class=override_pb2.ACTION_CLASS_READ),
    "class-within": TARGET(action_class=override_pb2.ACTION_CLASS_READ, within_tenant="retail"),
    "action": TARGET(action="order.read"),
    "action-within": TARGET(action="order.read", within_tenant="retail"),
}

# Of every RPC a request that is in order. Whoever adds an RPC adds it here; it is then held to every override.
REQUESTS: dict[str, Message] = {
    "ApprovalService/Approve": approval_pb2.ApproveRequest(approval_id=NOBODYS_APPROVAL, digest="x"),
    "ApprovalService/Deny": approval_pb2.DenyRequest(approval_id=NOBODYS_APPROVAL, reason="x"),
    "ApprovalService/GetApproval": approval_pb2.GetApprovalRequest(approval_id=NOBODYS_APPROVAL),
    "ApprovalService/ListApprovals": approval_pb2.ListApprovalsRequest(),
    "ApprovalService/ListDriftedTasks": approval_pb2.ListDriftedTasksRequest(),
    "ApprovalService/WatchApprovals": approval_pb2.WatchApprovalsRequest(),
    "ApprovalService/WithdrawApproval": approval_pb2.WithdrawApprovalRequest(approval_id=NOBODYS_APPROVAL),
    "AuditService/GetCheckpoint": audit_pb2.GetCheckpointRequest(),
    "AuditService/SubscribeAudit": audit_pb2.SubscribeAuditRequest(),
    "ExchangeService/Exchange": request(),
    "ExchangeService/ExchangeStream": items(request()),
    "KeyService/GetKeySet": keys_pb2.GetKeySetRequest(),
    "KeyService/ListKeys": keys_pb2.ListKeysRequest(),
    "KeyService/RotateKeys": keys_pb2.RotateKeysRequest(use=keys_pb2.KEY_USE_TOKENS),
    "OutcomeService/Report": outcome_pb2.ReportRequest(
        reports=[
            outcome_pb2.Report(
                report_id=str(UUID(int=1)),
                credential_id=NOBODYS_CREDENTIAL,
                at=Timestamp(seconds=1_800_000_000),
                accepted=outcome_pb2.Accepted(),
            )
        ]
    ),
    "OverrideService/ImposeOverride": override_pb2.ImposeOverrideRequest(target=TARGET(agent=SUPPORT), reason="x"),
    "OverrideService/LiftOverride": override_pb2.LiftOverrideRequest(override_id="ovr_none", reason="x"),
    "OverrideService/ListOverrides": override_pb2.ListOverridesRequest(),
    "RedemptionService/Redeem": redeem_pb2.RedeemRequest(
        credential_id=NOBODYS_CREDENTIAL, call_digest=NO_CALL, idempotency_key=KEY
    ),
    "RevocationService/LiftRevocation": revoke_pb2.LiftRevocationRequest(revocation_id="rev_none"),
    "RevocationService/Revoke": revoke_pb2.RevokeRequest(
        rule=revoke_pb2.RevocationRule(credential_id=NOBODYS_CREDENTIAL)
    ),
    "RevocationService/SubscribeRevocations": revoke_pb2.SubscribeRevocationsRequest(),
    "TaskService/BeginTask": task_pb2.BeginTaskRequest(purpose="customer-support"),
    "TaskService/CancelTask": task_pb2.CancelTaskRequest(task_id=NOBODYS_TASK),
    "TaskService/EndTask": task_pb2.EndTaskRequest(task_id=NOBODYS_TASK),
    "TaskService/HeartbeatTask": task_pb2.HeartbeatTaskRequest(task_id=NOBODYS_TASK),
    "TaskService/ResumeTask": task_pb2.ResumeTaskRequest(task_id=NOBODYS_TASK, reason="x"),
    "TaskService/NarrowTask": task_pb2.NarrowTaskRequest(task_id=NOBODYS_TASK, boundary=types_pb2.TaskBoundary()),
}
HEALTH: dict[str, Message] = {name: health_pb2.HealthCheckRequest() for name in ("Health/Check", "Health/Watch")}
EXCHANGES = ("ExchangeService/Exchange", "ExchangeService/ExchangeStream")


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    """Every RPC of the agent port, from the descriptors."""
    modules = [import_module(f"broker.v1.{each.name}") for each in iter_modules(broker.v1.__path__)]
    for module in [*(each for each in modules if each.__name__.endswith("_pb2")), health_pb2]:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"{service.name}/{method.name}", method


METHODS = dict(methods())


def test_every_rpc_is_held_to_the_overrides() -> None:
    served = {name for name in METHODS if name != "Health/List"}  # grpc.health.v1 declares it; nobody serves it
    assert served == REQUESTS.keys() | HEALTH.keys()
    assert [
        name for name, asked in REQUESTS.items() if METHODS[name].input_type.full_name != asked.DESCRIPTOR.full_name
    ] == []


async def ask(channel: grpc.aio.Channel, name: str) -> Outcome:
    """Call an RPC with its request in order; of a stream, wait for the first message."""
    method = METHODS[name]
    assert method.containing_service is not None
    path = f"/{method.containing_service.full_name}/{method.name}"
    parse = GetMessageClass(method.output_type).FromString
    asked = (REQUESTS | HEALTH)[name]

    def written(message: Message) -> bytes:
        return message.SerializeToString()

    if method.client_streaming:
        talk: Any = channel.stream_stream(path, written, parse)(timeout=PATIENCE)
        with contextlib.suppress(asyncio.InvalidStateError):
            await talk.write(asked)
        found = await outcome(first(talk))
        answer = found.answer
        if isinstance(answer, exchange_pb2.ExchangeStreamResponse):

            async def item() -> Any:
                return answer.items[0]

            return await outcome(item())
        return found
    if method.server_streaming:
        return await outcome(first(channel.unary_stream(path, written, parse)(asked, timeout=PATIENCE)))
    return await outcome(channel.unary_unary(path, written, parse)(asked, timeout=PATIENCE))


@contextlib.asynccontextmanager
async def stopping(house: House, target: override_pb2.OverrideTarget) -> AsyncIterator[None]:
    """Stop something while the block lasts."""
    by = override_pb2_grpc.OverrideServiceStub(house.good(SECURITY))
    done = await by.ImposeOverride(override_pb2.ImposeOverrideRequest(target=target, reason="a test"), timeout=PATIENCE)
    try:
        yield
    finally:
        other = override_pb2_grpc.OverrideServiceStub(house.good(AUDITOR))
        over = override_pb2.LiftOverrideRequest(override_id=done.override_id, reason="over")
        await other.LiftOverride(over, timeout=PATIENCE)


async def refused(house: House, name: str) -> None:
    """Assert that the agent is refused, with reason, sentence and an event."""
    how = await ask(house.good(SUPPORT), name)
    assert (name, how.code, how.reason) == (name, grpc.StatusCode.PERMISSION_DENIED, STOPPED)
    assert how.sentence.startswith("The people responsible for me")
    (event,) = await house.recorded(how.request)
    assert (event["reason"], event["spiffe_id"]) == (STOPPED, SUPPORT)
    house.time.ahead += timedelta(seconds=1)  # refusals are recorded at a rate, by source and reason


@pytest.mark.parametrize("kind", BEFORE_ACT)
async def test_a_stopped_agent_is_refused_at_every_entrance(house: House, kind: str) -> None:
    async with stopping(house, BEFORE_ACT[kind]):
        for name in REQUESTS | HEALTH:
            await refused(house, name)
        assert ((await ask(house.good(WHOLESALE), EXCHANGES[0])).reason == STOPPED) is (kind == "everything")
    for name in REQUESTS | HEALTH:  # the control: none of them says so without
        assert (await ask(house.good(SUPPORT), name)).reason != STOPPED


@pytest.mark.parametrize("kind", OF_ACTS)
async def test_a_stopped_act_is_refused_wherever_it_is_asked_for(house: House, kind: str) -> None:
    async with stopping(house, OF_ACTS[kind]):
        for name in REQUESTS | HEALTH:
            if name in EXCHANGES:
                await refused(house, name)
            else:  # somebody who does nothing of the kind goes on
                assert (await ask(house.good(SUPPORT), name)).reason != STOPPED
        reaches_all = kind in ("class", "action")
        assert ((await ask(house.good(WHOLESALE), EXCHANGES[0])).reason == STOPPED) is reaches_all
    for name in EXCHANGES:
        assert (await ask(house.good(SUPPORT), name)).reason == ""


async def test_who_looks_after_agents_goes_on_under_everything(house: House) -> None:
    async with stopping(house, BEFORE_ACT["everything"]):
        assert (await outcome(first(revocations(house.good(ORDERS))))).reason == ""
        assert (await outcome(first(audit(house.good(SECURITY))))).reason == ""
        assert (await ask(house.good(SECURITY), "OverrideService/ListOverrides")).reason == ""
        assert (await ask(house.good(ORDERS), "KeyService/GetKeySet")).reason == ""


async def end_of(following: Any, last: Any) -> tuple[Outcome, Any]:
    """Read a stream until it ends; return how, and its last message."""
    while True:
        try:
            found = await following.read()
        except grpc.aio.AioRpcError as error:
            return failure(error), last
        assert found is not grpc.aio.EOF
        last = found


async def test_streams_end_or_say_so_and_go_on_afterwards(house: House) -> None:
    channel = house.channel(house.svid(SUPPORT))
    following = follow_revocations(channel, "")
    message = await following.read()
    talk: Any = channel.stream_stream(
        "/broker.v1.ExchangeService/ExchangeStream",
        lambda asked: asked.SerializeToString(),
        exchange_pb2.ExchangeStreamResponse.FromString,
    )(timeout=PATIENCE)
    await talk.write(items(request()))
    assert (await talk.read()).items[0].HasField("credential")
    async with stopping(house, BEFORE_ACT["everything"]):
        how, message = await end_of(following, message)
        assert how.reason == STOPPED
        await talk.write(items(request()))
        (item,) = (await talk.read()).items

        async def said() -> Any:
            return item

        assert (await outcome(said())).reason == STOPPED
    await talk.write(items(request()))
    assert (await talk.read()).items[0].HasField("credential")
    again = await first(follow_revocations(channel, message.cursor))
    assert [each.rule for each in again.revoked] == ["override"]  # what it held when it was stopped
    await channel.close()


async def test_a_tenant_beside_what_has_none_is_not_understood(house: House) -> None:
    by = override_pb2_grpc.OverrideServiceStub(house.good(SECURITY))
    target = TARGET(agent=SUPPORT, within_tenant="retail")
    how = await outcome(by.ImposeOverride(override_pb2.ImposeOverrideRequest(target=target, reason="x")))
    assert how.reason == "REQUEST_INVALID"
    without = await outcome(by.ImposeOverride(override_pb2.ImposeOverrideRequest(target=BEFORE_ACT["tenant"])))
    assert without.reason == "REQUEST_INVALID"
    assert (await outcome(exchange(house.good(SUPPORT), request()))).reason == ""
