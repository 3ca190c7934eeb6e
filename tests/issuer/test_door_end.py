"""The door's end of the port against an issuer that dies, sleeps or talks nonsense."""

import asyncio
import socket
from collections.abc import Awaitable, Sequence

import pytest

from broker.errors import Reason, Refusal
from broker.issuer import link as door_end
from broker.issuer.bounds import Bounds
from broker.issuer.client import RemoteIssuer
from broker.issuer.port import (
    BeginTaskCall,
    Change,
    ExchangeAnswer,
    ExchangeCall,
    ImposeCall,
    Overridden,
    ReadCall,
    Stop,
    StopKind,
)
from broker.issuer.v1 import port_pb2 as v1
from broker.issuer.wire import pack, read_frame
from tests.fakes.port_issuer import NOON, PortIssuer
from tests.issuer import nouns
from tests.issuer.links import linked, until

READ = ReadCall(context=nouns.a_context())


async def _refused(work: Awaitable[object]) -> Reason:
    with pytest.raises(Refusal) as caught:
        await asyncio.wait_for(work, 60)
    return caught.value.reason


async def _reasons(work: Awaitable[Sequence[ExchangeAnswer]]) -> set[object]:
    return {each.reason if isinstance(each, Refusal) else each for each in await asyncio.wait_for(work, 60)}


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
    assert await asyncio.wait_for(following, 60) is None
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
    theirs.settimeout(60)
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
        read = await asyncio.wait_for(read_frame(reader), 60)
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


async def test_what_is_urgent_is_carried_however_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends full: no room at the door's, and the issuer's reads nothing more; a stop is carried and answered."""
    monkeypatch.setattr(door_end, "MAX_WAITING", 3)
    done = Overridden(position=7, override="ovr_1", revoked=2)
    issuer = PortIssuer(answer=done, urgent_first=True)
    issuer.open_gate.clear()
    async with linked(issuer, Bounds(max_calls=3, max_bytes=1 << 20)) as remote:
        waiting = [asyncio.ensure_future(remote.state()) for _ in range(3)]
        await until(lambda: len(issuer.asked) == 3)
        assert await _refused(remote.state()) is Reason.LIMIT_BUSY
        call = ImposeCall(context=nouns.a_context(), stop=Stop(kind=StopKind.EVERYTHING), text="stop")
        assert await asyncio.wait_for(remote.impose_override(call), 60) == done
        issuer.open_gate.set()
        await asyncio.gather(*waiting, return_exceptions=True)


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
        issuer.news.put_nowait(Change(size=1, epoch=1, endings=0))
        assert await anext(remote.changes()) == Change(size=1, epoch=1, endings=0)
        issuer.news.put_nowait(None)
        await until(lambda: not remote.attached)
