"""The port when the other end is broken, captured, dead or asleep."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

import pytest

from broker.errors import Reason, Refusal
from broker.issuer import link as door_end
from broker.issuer.client import RemoteIssuer
from broker.issuer.convert_exchange import encode_exchange_call
from broker.issuer.port import BeginTaskCall, Change, ExchangeAnswer, ExchangeCall, KeySet, ReadCall
from broker.issuer.server import serve_link
from broker.issuer.v1 import port_pb2 as v1
from broker.issuer.wire import MAX_FRAME, pack, read_frame
from tests.fakes.port_issuer import NOON, PortIssuer
from tests.issuer import nouns
from tests.issuer.links import linked, until

READ = ReadCall(context=nouns.a_context())


async def _refused(work: Awaitable[object]) -> Reason:
    with pytest.raises(Refusal) as caught:
        await asyncio.wait_for(work, 20)
    return caught.value.reason


async def _reasons(work: Awaitable[Sequence[ExchangeAnswer]]) -> set[object]:
    return {each.reason if isinstance(each, Refusal) else each for each in await asyncio.wait_for(work, 20)}


# --- the issuer's end against a door that is not to be trusted ------------------------------------------------------


class RawDoor:
    """A door that sends what a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, frame: v1.Frame) -> v1.Frame:
        self.writer.write(pack(frame))
        return await self.answer()

    async def answer(self) -> v1.Frame:
        read = await asyncio.wait_for(read_frame(self.reader), 20)
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
    await asyncio.wait_for(asyncio.gather(serving, return_exceptions=True), 20)


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
    assert await asyncio.wait_for(door.reader.read(), 20) == b""
    await asyncio.wait_for(serving, 20)


@pytest.mark.parametrize("kept", [1, 3, 4, 5, 100])
async def test_half_a_frame_and_an_end_close_the_link(
    served: tuple[RawDoor, "asyncio.Task[None]"], issuer: PortIssuer, kept: int
) -> None:
    door, serving = served
    calls = v1.ExchangeCalls(calls=[encode_exchange_call(nouns.an_exchange())])
    door.writer.write(pack(v1.Frame(number=1, exchange=calls))[:kept])
    door.writer.write_eof()
    await asyncio.wait_for(serving, 20)
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
    assert await asyncio.wait_for(door.reader.read(), 20) == b""
    await asyncio.wait_for(serving, 20)


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


# --- the door's end against an issuer that dies ---------------------------------------------------------------------


async def test_without_a_link_every_call_is_refused_at_once() -> None:
    remote = RemoteIssuer()
    assert not remote.attached
    assert await _refused(remote.key_set(READ)) is Reason.ISSUER_UNAVAILABLE
    assert await _refused(remote.state()) is Reason.ISSUER_UNAVAILABLE
    calls = [nouns.an_exchange(n) for n in range(3)]
    assert await _reasons(remote.exchange(calls)) == {Reason.ISSUER_UNAVAILABLE}
    assert len(await remote.exchange(calls)) == 3


@pytest.mark.parametrize("count", [1, 5000])
async def test_a_link_that_dies_ends_every_wait(count: int) -> None:
    ours, theirs = socket.socketpair()
    lost: list[None] = []
    remote = RemoteIssuer(on_lost=lambda: lost.append(None))
    await remote.attach(ours)
    asks = [asyncio.create_task(remote.exchange([nouns.an_exchange(n), nouns.an_exchange(n)])) for n in range(count)]
    reads = [asyncio.create_task(remote.authenticate(READ)) for _ in range(10)]
    following = asyncio.ensure_future(anext(remote.changes(), None))
    await asyncio.sleep(0)
    assert not any(each.done() for each in [*asks, *reads, following])
    theirs.close()
    for ask in asks:
        assert await _reasons(ask) == {Reason.ISSUER_UNAVAILABLE}
        assert len(ask.result()) == 2
    for read in reads:
        assert await _refused(read) is Reason.ISSUER_UNAVAILABLE
    assert await asyncio.wait_for(following, 20) is None
    await until(lambda: len(lost) == 1)
    assert not remote.attached


async def test_a_link_replaced_before_its_first_step_ends_its_waits_too() -> None:
    remote = RemoteIssuer()
    first, second = socket.socketpair(), socket.socketpair()
    await remote.attach(first[0])
    ask = asyncio.ensure_future(remote.exchange([nouns.an_exchange()]))
    await asyncio.sleep(0)
    await remote.attach(second[0])
    assert await _reasons(ask) == {Reason.ISSUER_UNAVAILABLE}
    await remote.close()
    first[1].close()
    second[1].close()


async def test_a_link_dropped_before_its_first_step_is_closed() -> None:
    remote = RemoteIssuer()
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    await remote.attach(ours)
    await remote.close()
    assert await asyncio.to_thread(theirs.recv, 1) == b""
    theirs.close()


@pytest.mark.parametrize(
    "answer",
    [
        v1.Frame(number=99, ended=v1.Ended()),
        v1.Frame(number=99),
    ],
    ids=["to nothing", "no body"],
)
async def test_an_issuer_that_answers_nonsense_loses_the_link(answer: v1.Frame) -> None:
    ours, theirs = socket.socketpair()
    remote = RemoteIssuer()
    await remote.attach(ours)
    waiting = asyncio.ensure_future(remote.authenticate(READ))
    theirs.sendall(pack(answer))
    assert await _refused(waiting) is Reason.ISSUER_UNAVAILABLE
    theirs.close()


WRONG = {
    "another verb": v1.Frame(ended=v1.Ended()),
    "a time beyond time": v1.Frame(authenticated=v1.Authenticated(valid_until_us=2**63 - 1)),
    "an unknown refusal": v1.Frame(refused=v1.Refusal(reason="NO_SUCH")),
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG.keys())
async def test_an_answer_that_does_not_convert_is_internal_and_the_link_lives_on(answer: v1.Frame) -> None:
    ours, theirs = socket.socketpair()
    remote = RemoteIssuer()
    await remote.attach(ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    waiting = asyncio.ensure_future(remote.authenticate(READ))
    answer.number = await _number_of(reader, "authenticate")
    writer.write(pack(answer))
    assert await _refused(waiting) is Reason.INTERNAL
    assert remote.attached
    await remote.close()
    writer.transport.abort()


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_the_wrong_number_of_answers_is_internal_for_the_whole_group(count: int) -> None:
    ours, theirs = socket.socketpair()
    remote = RemoteIssuer()
    await remote.attach(ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    waiting = asyncio.ensure_future(remote.exchange([nouns.an_exchange(1), nouns.an_exchange(2)]))
    number = await _number_of(reader, "exchange")
    answer = v1.ExchangeAnswer(refusal=v1.Refusal(reason="SCOPE_EMPTY"))
    writer.write(pack(v1.Frame(number=number, exchanged=v1.ExchangeAnswers(answers=[answer] * count))))
    assert await _reasons(waiting) == {Reason.INTERNAL}
    await remote.close()
    writer.transport.abort()


async def _number_of(reader: asyncio.StreamReader, body: str) -> int:
    while True:
        read = await asyncio.wait_for(read_frame(reader), 20)
        assert read is not None
        if read[0].WhichOneof("body") == body:
            return read[0].number


async def test_an_issuer_that_sleeps_costs_the_door_a_bounded_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_end, "MAX_WAITING", 50)
    ours, theirs = socket.socketpair()
    remote = RemoteIssuer()
    await remote.attach(ours)
    # Callers who give up and ask again, as one with a deadline does, must not pile up either.
    for _ in range(200):
        asks = [asyncio.ensure_future(remote.exchange([nouns.an_exchange()])), asyncio.ensure_future(remote.state())]
        await asyncio.sleep(0)
        for ask in asks:
            ask.cancel()
        await asyncio.gather(*asks, return_exceptions=True)
    last = asyncio.ensure_future(remote.state())
    await asyncio.sleep(0)
    assert await _refused(remote.state()) is Reason.LIMIT_BUSY
    assert await _reasons(remote.exchange([nouns.an_exchange()])) == {Reason.LIMIT_BUSY}
    theirs.close()
    assert await _refused(last) is Reason.ISSUER_UNAVAILABLE


async def test_a_text_that_has_no_encoding_is_refused_here() -> None:
    issuer = PortIssuer()
    async with linked(issuer) as remote:
        call = BeginTaskCall(context=nouns.a_context(), purpose="\ud800")
        assert await _refused(remote.begin_task(call)) is Reason.REQUEST_MALFORMED
        bad = ExchangeCall(context=nouns.a_context(), intent=nouns.an_exchange().intent, request_id="\ud800")
        assert await _reasons(remote.exchange([bad])) == {Reason.REQUEST_MALFORMED}
    assert issuer.asked == []


async def test_a_failing_feed_ends_the_link_and_nothing_else() -> None:
    issuer = PortIssuer(answer=NOON)
    async with linked(issuer) as remote:
        issuer.news.put_nowait(Change(size=1, epoch=1))
        assert await anext(remote.changes()) == Change(size=1, epoch=1)
        issuer.news.put_nowait(None)
        await until(lambda: not remote.attached)
