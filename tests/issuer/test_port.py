"""The port over real sockets: what goes in comes out the same, whatever it is."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.issuer.bounds import Bounds
from broker.issuer.client import RemoteIssuer
from broker.issuer.port import Change, ReadCall, RefusedCall, State
from broker.issuer.server import serve_links
from tests.fakes.port_issuer import NOON, PortIssuer
from tests.issuer import approval_nouns, nouns
from tests.issuer.links import linked, until

FEW = settings(max_examples=30, deadline=None)
EVERY_VERB = [*nouns.VERBS, *approval_nouns.VERBS]


@FEW
@given(calls=st.lists(st.tuples(nouns.exchange_calls, nouns.credentials | nouns.refusals), min_size=1, max_size=4))
async def test_exchanges_and_their_answers_cross_unchanged(calls: list[tuple[Any, Any]]) -> None:
    issuer = PortIssuer(in_order=[answer for _, answer in calls])
    async with linked(issuer) as remote:
        answers = await remote.exchange([call for call, _ in calls])
    assert [nouns.shown(each) for each in answers] == [nouns.shown(answer) for _, answer in calls]
    assert [nouns.shown(each) for each in issuer.asked] == [nouns.shown(call) for call, _ in calls]


@pytest.mark.parametrize(("method", "calls", "answers"), EVERY_VERB, ids=[verb[0] for verb in EVERY_VERB])
@FEW
@given(data=st.data())
async def test_a_verb_crosses_unchanged(
    method: str, calls: st.SearchStrategy[Any], answers: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    call, answer = data.draw(calls), data.draw(answers)
    issuer = PortIssuer(answer=answer)
    async with linked(issuer) as remote:
        assert nouns.shown(await getattr(remote, method)(call)) == nouns.shown(answer)
    assert issuer.asked == [call]


@FEW
@given(call=nouns.refused_calls, answer=nouns.refusals)
async def test_a_refused_call_gets_the_refusal_to_give(call: RefusedCall, answer: Refusal) -> None:
    issuer = PortIssuer(answer=answer)
    async with linked(issuer) as remote:
        assert nouns.shown(await remote.refuse(call)) == nouns.shown(answer)
    assert nouns.shown(issuer.asked[0]) == nouns.shown(call)


@FEW
@given(refusal=nouns.refusals)
async def test_a_refusal_keeps_reason_detail_policies_decision_and_sentence(refusal: Refusal) -> None:
    async with linked(PortIssuer(answer=refusal)) as remote:
        with pytest.raises(Refusal) as caught:
            await remote.key_set(ReadCall(context=nouns.a_context()))
    assert nouns.shown(caught.value) == nouns.shown(refusal)


@FEW
@given(state=nouns.states)
async def test_the_state_crosses_unchanged(state: State) -> None:
    async with linked(PortIssuer(answer=state)) as remote:
        assert await remote.state() == state


async def test_ten_thousand_exchanges_at_once_each_get_their_own_answer() -> None:
    count = 10_000
    issuer = PortIssuer(exchanged={f"req_{n}": nouns.a_credential(n) for n in range(0, count, 2)})
    async with linked(issuer) as remote:
        answers = await asyncio.gather(*(remote.exchange([nouns.an_exchange(n)]) for n in range(count)))
    for number, (answer,) in enumerate(answers):
        if number % 2:
            assert isinstance(answer, Refusal)
            assert answer.reason is Reason.POLICY_NOT_PERMITTED
        else:
            assert isinstance(answer, Credential)
            assert answer.grant.status_index == number
    assert sum(issuer.groups) == count


async def test_what_is_asked_at_the_same_time_goes_in_one_group() -> None:
    issuer = PortIssuer()
    async with linked(issuer) as remote:
        await asyncio.gather(*(remote.exchange([nouns.an_exchange(n)]) for n in range(100)))
    assert issuer.groups == [100]


async def test_a_slow_answer_holds_up_no_other() -> None:
    issuer = PortIssuer()
    issuer.open_gate.clear()
    async with linked(issuer) as remote:
        slow = asyncio.create_task(remote.exchange([nouns.an_exchange(1)]))
        await until(lambda: len(issuer.asked) == 1)
        issuer.open_gate = asyncio.Event()
        issuer.open_gate.set()
        assert len(await remote.exchange([nouns.an_exchange(2)])) == 1
        assert not slow.done()
        slow.cancel()


async def test_a_caller_who_gives_up_leaves_the_others_their_answers() -> None:
    issuer = PortIssuer(answer=NOON)
    issuer.open_gate.clear()
    async with linked(issuer) as remote:
        asks = [asyncio.create_task(remote.exchange([nouns.an_exchange(n)])) for n in range(3)]
        reads = [asyncio.create_task(remote.authenticate(ReadCall(context=nouns.a_context(n)))) for n in range(3)]
        await until(lambda: len(issuer.asked) == 6)
        asks[1].cancel()
        reads[1].cancel()
        issuer.open_gate.set()
        done = await asyncio.gather(*asks, *reads, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in done] == [False, True, False, False, True, False]


async def test_above_its_bound_the_issuer_does_not_read_on() -> None:
    issuer = PortIssuer(answer=NOON)
    issuer.open_gate.clear()
    bounds = Bounds(max_calls=5, max_bytes=10**9)
    async with linked(issuer, bounds) as remote:
        reads = [asyncio.create_task(remote.authenticate(ReadCall(context=nouns.a_context(n)))) for n in range(50)]
        await until(lambda: len(issuer.asked) == 5)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(issuer.asked) == 5
        issuer.open_gate.set()
        assert await asyncio.gather(*reads) == [NOON] * 50
    assert (bounds.calls, bounds.bytes) == (0, 0)


async def test_changes_come_and_what_piled_up_may_come_as_one() -> None:
    issuer = PortIssuer()
    async with linked(issuer) as remote:
        followed = [remote.changes(), remote.changes()]
        issuer.news.put_nowait(Change(size=1, epoch=0, endings=0))
        assert [await anext(each) for each in followed] == [Change(size=1, epoch=0, endings=0)] * 2
        for size in range(2, 1000):
            issuer.news.put_nowait(Change(size=size, epoch=0, endings=0))
        for each in followed:
            async with asyncio.timeout(60):
                while (await anext(each)).size < 999:
                    pass
        # Who comes later hears the newest at once.
        assert (await anext(remote.changes())).size == 999


async def test_changes_end_when_the_issuer_ends_them() -> None:
    issuer = PortIssuer()
    async with linked(issuer) as remote:
        issuer.news.put_nowait(Change(size=1, epoch=0, endings=0))
        issuer.news.put_nowait(None)
        async with asyncio.timeout(60):
            assert len([change async for change in remote.changes()]) <= 1
        await until(lambda: not remote.attached)


async def test_a_new_link_replaces_the_old_one_at_both_ends() -> None:
    links: asyncio.Queue[socket.socket | None] = asyncio.Queue()

    async def arriving() -> AsyncIterator[socket.socket]:
        while (link := await links.get()) is not None:
            yield link

    issuer = PortIssuer(answer=NOON)
    issuer.open_gate.clear()
    serving = asyncio.create_task(serve_links(arriving(), issuer))
    lost: list[None] = []
    remote = RemoteIssuer(on_lost=lambda: lost.append(None))
    ours, theirs = socket.socketpair()
    await remote.attach(ours)
    links.put_nowait(theirs)
    waiting = asyncio.create_task(remote.authenticate(ReadCall(context=nouns.a_context())))
    await until(lambda: len(issuer.asked) == 1)
    feed = remote.changes()
    following = asyncio.ensure_future(anext(feed, None))
    ours, theirs = socket.socketpair()
    links.put_nowait(theirs)
    await remote.attach(ours)
    with pytest.raises(Refusal, match="ISSUER_UNAVAILABLE"):
        await waiting
    assert await following is None
    issuer.open_gate.set()
    assert await remote.authenticate(ReadCall(context=nouns.a_context())) == NOON
    links.put_nowait(None)
    await serving
    await until(lambda: not remote.attached)
    # A link that was replaced is not one that was lost; one that ended by itself is.
    await until(lambda: len(lost) == 1)
    await remote.close()
    gc.collect()


async def test_a_new_link_closes_the_old_one_that_its_door_still_holds() -> None:
    links: asyncio.Queue[socket.socket] = asyncio.Queue()

    async def arriving() -> AsyncIterator[socket.socket]:
        while True:
            yield await links.get()

    serving = asyncio.create_task(serve_links(arriving(), PortIssuer()))
    pairs = [socket.socketpair() for _ in range(2)]
    for ours, theirs in pairs:
        ours.settimeout(60)
        links.put_nowait(theirs)
    assert await asyncio.to_thread(pairs[0][0].recv, 1) == b""
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert await asyncio.to_thread(pairs[1][0].recv, 1) == b""
    for ours, _ in pairs:
        ours.close()


async def test_what_is_asked_while_four_groups_are_unanswered_goes_out_when_one_is() -> None:
    issuer = PortIssuer()
    issuer.open_gate.clear()
    async with linked(issuer) as remote:
        full = asyncio.create_task(remote.exchange([nouns.an_exchange(n) for n in range(5 * 256)]))
        await until(lambda: len(issuer.groups) == 4)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(issuer.groups) == 4
        issuer.open_gate.set()
        async with asyncio.timeout(60):
            assert len(await full) == 5 * 256


async def test_following_without_a_link_waits_for_one() -> None:
    remote = RemoteIssuer()
    following = asyncio.ensure_future(anext(remote.changes()))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not following.done()
    issuer = PortIssuer()
    issuer.news.put_nowait(Change(size=7, epoch=1, endings=0))
    ours, theirs = socket.socketpair()

    async def one() -> AsyncIterator[socket.socket]:
        yield theirs
        await asyncio.Event().wait()

    serving = asyncio.create_task(serve_links(one(), issuer))
    await remote.attach(ours)
    assert await following == Change(size=7, epoch=1, endings=0)
    await remote.close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
