"""Requests as bytes: whatever protobuf can carry, and what it cannot."""

import asyncio
from typing import Any

import grpc
from google.protobuf.message import Message

from broker.v1 import exchange_pb2
from tests.attacks.entrances import PATIENCE, Outcome, failure, outcome

PATHS = {
    "Exchange": "/broker.v1.ExchangeService/Exchange",
    "ExchangeStream": "/broker.v1.ExchangeService/ExchangeStream",
    "BeginTask": "/broker.v1.TaskService/BeginTask",
    "EndTask": "/broker.v1.TaskService/EndTask",
    "CancelTask": "/broker.v1.TaskService/CancelTask",
    "HeartbeatTask": "/broker.v1.TaskService/HeartbeatTask",
    "NarrowTask": "/broker.v1.TaskService/NarrowTask",
    "ResumeTask": "/broker.v1.TaskService/ResumeTask",
    "Report": "/broker.v1.OutcomeService/Report",
    "Revoke": "/broker.v1.RevocationService/Revoke",
    "LiftRevocation": "/broker.v1.RevocationService/LiftRevocation",
    "SubscribeRevocations": "/broker.v1.RevocationService/SubscribeRevocations",
    "SubscribeAudit": "/broker.v1.AuditService/SubscribeAudit",
    "GetKeySet": "/broker.v1.KeyService/GetKeySet",
    "ListKeys": "/broker.v1.KeyService/ListKeys",
    "RotateKeys": "/broker.v1.KeyService/RotateKeys",
    "ImposeOverride": "/broker.v1.OverrideService/ImposeOverride",
    "LiftOverride": "/broker.v1.OverrideService/LiftOverride",
    "ListOverrides": "/broker.v1.OverrideService/ListOverrides",
    "Redeem": "/broker.v1.RedemptionService/Redeem",
    "ListApprovals": "/broker.v1.ApprovalService/ListApprovals",
    "GetApproval": "/broker.v1.ApprovalService/GetApproval",
    "Approve": "/broker.v1.ApprovalService/Approve",
    "Deny": "/broker.v1.ApprovalService/Deny",
    "WithdrawApproval": "/broker.v1.ApprovalService/WithdrawApproval",
    "ListDriftedTasks": "/broker.v1.ApprovalService/ListDriftedTasks",
    "WatchApprovals": "/broker.v1.ApprovalService/WatchApprovals",
    "GetCheckpoint": "/broker.v1.AuditService/GetCheckpoint",
    "Health.Check": "/grpc.health.v1.Health/Check",
    "Health.Watch": "/grpc.health.v1.Health/Watch",
}


def varint(number: int) -> bytes:
    """Encode a base 128 varint."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def text(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field: text, bytes or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    """Encode a varint field."""
    return varint(field << 3) + varint(value & (1 << 64) - 1)


def intent(content: bytes) -> bytes:
    """An ExchangeRequest around an intent's bytes."""
    return text(1, content)


def stream_item(request: bytes) -> bytes:
    """An ExchangeStreamRequest of one item around a request's bytes."""
    return text(1, number(1, 7) + text(2, request))


async def send(channel: grpc.aio.Channel, path: str, content: bytes, **call: Any) -> Outcome:
    """Send bytes as the one request of a unary call or a stream; say how it ended, with the first answer's bytes."""
    plain: Any = channel.stream_stream(path)
    sent = plain(timeout=PATIENCE, **call)
    try:
        try:
            await sent.write(content)
            await sent.done_writing()
        except asyncio.InvalidStateError:
            pass  # over already: its status says why
        answer = await sent.read()
    except grpc.aio.AioRpcError as error:
        return failure(error)
    finally:
        sent.cancel()
    assert answer is not grpc.aio.EOF
    return Outcome(code=grpc.StatusCode.OK, answer=answer)


async def ask(channel: grpc.aio.Channel, entrance: str, request: bytes | Message) -> Outcome:
    """Send the bytes of an ExchangeRequest to Exchange, or as an item of ExchangeStream; read the credential."""
    content = request if isinstance(request, bytes) else request.SerializeToString()
    if entrance == "Exchange":
        told = await send(channel, PATHS[entrance], content)
        if told.answer is None:
            return told
        credential = exchange_pb2.ExchangeResponse.FromString(told.answer).credential
        return Outcome(code=told.code, answer=credential)
    told = await send(channel, PATHS["ExchangeStream"], stream_item(content))
    if told.answer is None:
        return told
    (item,) = exchange_pb2.ExchangeStreamResponse.FromString(told.answer).items
    assert item.correlation == 7

    async def given() -> Any:
        return item

    told = await outcome(given())
    return Outcome(code=told.code, answer=item.credential) if told.answer is not None else told
