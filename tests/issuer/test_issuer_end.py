"""The issuer's end of the port against a door that is not to be trusted."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

import pytest

from broker.errors import Reason, Refusal
from broker.issuer.convert_exchange import encode_exchange_call
from broker.issuer.port import ExchangeAnswer, ExchangeCall, KeySet, ReadCall
from broker.issuer.server import serve_link
from broker.issuer.v1 import port_pb2 as v1
from broker.issuer.wire import MAX_FRAME, pack, read_frame
from tests.fakes.port_issuer import NOON, PortIssuer
from tests.issuer import nouns
from tests.issuer.links import linked

READ = ReadCall(context=nouns.a_context())


async def _refused(work: Awaitable[object]) -> Reason:
    with pytest.raises(Refusal) as caught:
        await asyncio.wait_for(work, 60)
    return caught.value.reason


async def _reasons(work: Awaitable[Sequence[ExchangeAnswer]]) -> set[object]:
    return {each.reason if isinstance(each, Refusal) else each for each in await asyncio.wait_for(work, 60)}


class RawDoor:
    """A door that sends what a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, frame: v1.Frame) -> v1.Frame:
        self.writer.write(pack(frame))
        return await self.answer()

    async def answer(self) -> v1.Frame:
        read = await asyncio.wait_for(read_frame(self.reader), 60)
        assert read is not None
        return read[0]


@pytest.fixture
async def issuer() -> PortIssuer:
    return PortIssuer(answer=NOON)


@pytest.fixture
async def served(issuer: PortIssuer) -> AsyncIterator[tuple[RawDoor, "asyncio.Task[None]"]]:
    ours, theirs = socket.socketpair()
    serving = asyncio.create_task(serve_link(theirs, issuer))
    reader, writer = await asyncio.open_connection(sock=ours)
    yield RawDoor(reader, writer), serving
    writer.transport.abort()
    await asyncio.wait_for(asyncio.gather(serving, return_exceptions=True), 60)


GARBAGE = {
    "not protobuf": struct.pack(">I", 4) + b"\xff\xff\xff\xff",
    "nothing": struct.pack(">I", 0),
    "no body": pack(v1.Frame(number=7)),
    "unknown body": struct.pack(">I", 3) + b"\xfa\x3f\x00",
    "text that is not utf-8": struct.pack(">I", 9) + b"\x08\x01\x32\x05\x12\x03\xff\xfe\xfd",
    "over the limit": struct.pack(">I", MAX_FRAME + 1),
    "far over the limit": b"\xff\xff\xff\xff",
    "an http request": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
async def test_a_frame_that_does_not_decode_closes_the_link(
    served: tuple[RawDoor, "asyncio.Task[None]"], content: bytes
) -> None:
    door, serving = served
    door.writer.write(content)
    assert await asyncio.wait_for(door.reader.read(), 60) == b""
    await asyncio.wait_for(serving, 60)


@pytest.mark.parametrize("kept", [1, 3, 4, 5, 100])
async def test_half_a_frame_and_an_end_close_the_link(
    served: tuple[RawDoor, "asyncio.Task[None]"], issuer: PortIssuer, kept: int
) -> None:
    door, serving = served
    calls = v1.ExchangeCalls(calls=[encode_exchange_call(nouns.an_exchange())])
    door.writer.write(pack(v1.Frame(number=1, exchange=calls))[:kept])
    door.writer.write_eof()
    await asyncio.wait_for(serving, 60)
    assert issuer.asked == []


async def test_a_door_that_writes_byte_by_byte_is_understood(served: tuple[RawDoor, "asyncio.Task[None]"]) -> None:
    door, _ = served
    calls = v1.ExchangeCalls(calls=[encode_exchange_call(nouns.an_exchange())])
    for byte in pack(v1.Frame(number=3, exchange=calls)):
        door.writer.write(bytes([byte]))
        await asyncio.sleep(0)
    answer = await door.answer()
    assert answer.number == 3
    assert answer.exchanged.answers[0].refusal.reason == "POLICY_NOT_PERMITTED"


def _call(**changes: object) -> v1.Frame:
    message = encode_exchange_call(nouns.an_exchange())
    for path, value in changes.items():
        *parents, name = path.split("__")
        target: Any = message
        for parent in parents:
            target = getattr(target, parent)
        if value is None:
            target.ClearField(name)
        else:
            setattr(target, name, value)
    return v1.Frame(number=1, exchange=v1.ExchangeCalls(calls=[message, encode_exchange_call(nouns.an_exchange(2))]))


NOT_CALLS = {
    "no context": _call(context=None),
    "no evidence": _call(context__evidence=None),
    "no id of the call": _call(context__request=""),
    "long id of the call": _call(context__request="r" * 65),
    "long id in other letters": _call(context__request="ř" * 33),
    "trace in capitals": _call(context__trace="A" * 32),
    "trace with a line break": _call(context__trace="a" * 32 + "\n"),
    "large certificate": _call(context__evidence__leaf=b"L" * 128 * 1024),
    "long source": _call(context__evidence__source="s" * 1025),
    "nothing asked": _call(intent=None),
    "unknown level": _call(intent__risk=9),
    "no lifetime at all": _call(lifetime_us=0),
    "lifetime before now": _call(lifetime_us=-1),
    "long request id": _call(request_id="r" * 65),
}


@pytest.mark.parametrize("frame", NOT_CALLS.values(), ids=NOT_CALLS.keys())
async def test_a_call_that_does_not_convert_is_refused_alone(
    served: tuple[RawDoor, "asyncio.Task[None]"], issuer: PortIssuer, frame: v1.Frame
) -> None:
    door, _ = served
    answers = (await door.ask(frame)).exchanged.answers
    assert [each.refusal.reason for each in answers] == ["REQUEST_MALFORMED", "POLICY_NOT_PERMITTED"]
    assert [call.context.request for call in issuer.asked if isinstance(call, ExchangeCall)] == ["req_2"]


NOT_INTENTS = {
    "action": (_call(intent__action="Order Refund"), Reason.INTENT_NAME_INVALID),
    "audience": (_call(intent__audience="https://example.org"), Reason.INTENT_NAME_INVALID),
    "wildcard resource": (_call(intent__resource__id="", intent__resource__set="*"), Reason.INTENT_NAME_INVALID),
    "float": (_call(intent__parameters='{"amount":1.5}'), Reason.INTENT_PARAMETERS_NUMBER),
    "duplicate": (_call(intent__parameters='{"a":1,"a":2}'), Reason.INTENT_PARAMETERS_DUPLICATE),
    "null": (_call(intent__parameters='{"a":null}'), Reason.INTENT_PARAMETERS_NULL),
    "deep": (_call(intent__parameters='{"a":' * 99), Reason.INTENT_PARAMETERS_SIZE),
    "large": (_call(intent__parameters='{"a":"' + "x" * 32768 + '"}'), Reason.INTENT_PARAMETERS_SIZE),
    "task": (_call(intent__task="../x"), Reason.TASK_UNKNOWN),
}


@pytest.mark.parametrize(("frame", "reason"), NOT_INTENTS.values(), ids=NOT_INTENTS.keys())
async def test_a_wrong_intent_reaches_the_issuer_as_its_refusal_to_be_recorded(
    served: tuple[RawDoor, "asyncio.Task[None]"], issuer: PortIssuer, frame: v1.Frame, reason: Reason
) -> None:
    door, _ = served
    await door.ask(frame)
    first = issuer.asked[0]
    assert isinstance(first, ExchangeCall)
    assert isinstance(first.intent, Refusal)
    assert first.intent.reason is reason


CONTEXT = encode_exchange_call(nouns.an_exchange()).context
NOT_VERBS = {
    "an answer": v1.Frame(number=1, ended=v1.Ended(position=1)),
    "no exchanges": v1.Frame(number=1, exchange=v1.ExchangeCalls()),
    "257 exchanges": v1.Frame(
        number=1, exchange=v1.ExchangeCalls(calls=[encode_exchange_call(nouns.an_exchange())] * 257)
    ),
    "no rule kind": v1.Frame(number=1, revoke=v1.RevokeCall(context=CONTEXT, name="x")),
    "unknown rule kind": v1.Frame(number=1, revoke=v1.RevokeCall(context=CONTEXT, kind=9, name="x")),  # type: ignore[arg-type]
    "long text": v1.Frame(number=1, revoke=v1.RevokeCall(context=CONTEXT, kind=v1.RULE_KIND_TASK, text="x" * 1025)),
    "two lines": v1.Frame(number=1, revoke=v1.RevokeCall(context=CONTEXT, kind=v1.RULE_KIND_TASK, text="a\nb")),
    "a conversation of two lines": v1.Frame(
        number=1, begin_task=v1.BeginTaskCall(context=CONTEXT, purpose="x", conversation="a\nb")
    ),
    "unknown reason": v1.Frame(
        number=1, refuse=v1.RefusedCall(context=CONTEXT, operation="x", refusal=v1.Refusal(reason="NO_SUCH"))
    ),
    "a dunder for a reason": v1.Frame(
        number=1, refuse=v1.RefusedCall(context=CONTEXT, operation="x", refusal=v1.Refusal(reason="__class__"))
    ),
    "long detail": v1.Frame(
        number=1,
        refuse=v1.RefusedCall(
            context=CONTEXT, operation="x", refusal=v1.Refusal(reason="REQUEST_INVALID", detail="x" * 1025)
        ),
    ),
    "no start": v1.Frame(number=1, read_audit=v1.AuditPageCall(context=CONTEXT)),
    "many kinds": v1.Frame(
        number=1,
        read_audit=v1.AuditPageCall(
            context=CONTEXT, start=v1.START_END, filter=v1.AuditFilter(kinds=["credential.granted"] * 65)
        ),
    ),
    "long cursor": v1.Frame(number=1, read_revocations=v1.RevocationPageCall(context=CONTEXT, cursor="x" * 1025)),
    "no caller": v1.Frame(number=1, read_key_set=v1.ReadCall()),
    "endless lifetime": v1.Frame(number=1, begin_task=v1.BeginTaskCall(context=CONTEXT, lifetime_us=0)),
}


@pytest.mark.parametrize("frame", NOT_VERBS.values(), ids=NOT_VERBS.keys())
async def test_what_is_no_call_is_refused_and_the_link_lives_on(
    served: tuple[RawDoor, "asyncio.Task[None]"], issuer: PortIssuer, frame: v1.Frame
) -> None:
    door, _ = served
    assert (await door.ask(frame)).refused.reason == "REQUEST_MALFORMED"
    assert issuer.asked == []
    alive = await door.ask(v1.Frame(number=2, authenticate=v1.ReadCall(context=CONTEXT)))
    assert alive.HasField("authenticated")


async def test_watching_twice_closes_the_link(served: tuple[RawDoor, "asyncio.Task[None]"]) -> None:
    door, serving = served
    for number in (1, 2):
        door.writer.write(pack(v1.Frame(number=number, watch=v1.WatchCall())))
    assert await asyncio.wait_for(door.reader.read(), 60) == b""
    await asyncio.wait_for(serving, 60)


async def test_a_defect_of_the_issuer_costs_one_call_its_answer() -> None:
    issuer = PortIssuer(answer=RuntimeError("the token is eyJ"))
    async with linked(issuer) as remote:
        with pytest.raises(Refusal) as caught:
            await remote.key_set(READ)
        assert caught.value.reason is Reason.INTERNAL
        assert "eyJ" not in str(caught.value)
        issuer.answer = NOON
        assert await remote.authenticate(READ) == NOON


async def test_an_answer_over_the_limit_is_refused_and_the_link_lives_on() -> None:
    issuer = PortIssuer(answer=KeySet(issuer="i", jwks="x" * MAX_FRAME, checkpoint_key="", digest=""))
    async with linked(issuer) as remote:
        assert await _refused(remote.key_set(READ)) is Reason.INTERNAL
        issuer.answer = NOON
        assert await remote.authenticate(READ) == NOON


async def test_a_door_that_does_not_read_costs_the_issuer_a_bounded_amount(
    served: tuple[RawDoor, "asyncio.Task[None]"], issuer: PortIssuer
) -> None:
    door, serving = served
    door.reader._transport.pause_reading()  # type: ignore[attr-defined]
    issuer.answer = KeySet(issuer="i", jwks="x" * 100_000, checkpoint_key="", digest="")
    frame = pack(v1.Frame(number=1, read_key_set=v1.ReadCall(context=CONTEXT)))
    sending = asyncio.create_task(_flood(door.writer, frame, 20_000))
    quiet = 0
    seen = -1
    while quiet < 2000:
        quiet, seen = (quiet + 1, seen) if len(issuer.asked) == seen else (0, len(issuer.asked))
        await asyncio.sleep(0)
    assert not sending.done()
    # In flight: 2048 calls at the most; sent before that: what the socket's buffers hold.
    assert seen < 2048 + 100
    sending.cancel()
    assert not serving.done()


async def _flood(writer: asyncio.StreamWriter, frame: bytes, count: int) -> None:
    for _ in range(count):
        writer.write(frame)
        await writer.drain()
