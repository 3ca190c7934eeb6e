"""A subscriber: each position once, and after a crash only what was not acknowledged."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.client import (
    BookmarkInvalid,
    BrokerError,
    CursorFile,
    CursorUnusable,
    Denied,
    Fork,
    Gap,
    OutOfRange,
    Session,
    Unauthenticated,
    follow_audit,
    follow_revocations,
)
from broker.client.bookmark import Bookmark
from broker.errors import Reason, Refusal
from broker.issuer.port import AuditEvent
from broker.v1 import audit_pb2
from tests.fakes.issuer import PAGE, FakeIssuer
from tests.server.supply import Supply, session_with
from tests.server.world import World, open_world, until

STREAM = "/broker.v1.AuditService/SubscribeAudit"


@dataclass
class Kept:
    """Cursors in memory; `full` refuses to keep."""

    bookmark: str = ""
    saves: int = 0
    full: bool = False

    async def load(self) -> str:
        return self.bookmark

    async def save(self, bookmark: str) -> None:
        if self.full:
            raise CursorUnusable("no room")
        self.bookmark = bookmark
        self.saves += 1


async def read(
    session: Session, cursors: Any, count: int, *, acknowledge: int | None = None, **wanted: Any
) -> list[int]:
    """Read some events, acknowledge the first ones of them (all when None), and leave."""
    positions: list[int] = []
    async with follow_audit(session, cursors, **wanted) as subscriber, asyncio.timeout(60):
        while len(positions) < count:
            received = await anext(subscriber)
            positions.append(received.value.position)
            if acknowledge is None or len(positions) <= acknowledge:
                await subscriber.ack(received)
    return positions


async def distinct(world: World, count: int) -> None:
    """Let the log grow by events that differ."""
    for _ in range(count):
        world.issuer.log.append(AuditEvent(position=len(world.issuer.log), content=b"e%d" % len(world.issuer.log)))
    await world.issuer._notify()


# --- what was acknowledged -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("acknowledged", range(2 * PAGE + 2))
async def test_only_what_was_not_acknowledged_comes_again(world: World, session: Session, acknowledged: int) -> None:
    """At every place: before, within, between and after messages."""
    await distinct(world, 2 * PAGE + 3)
    kept = Kept()
    assert await read(session, kept, 2 * PAGE + 1, acknowledge=acknowledged) == list(range(2 * PAGE + 1))
    rest = 2 * PAGE + 3 - acknowledged
    assert await read(session, kept, rest) == list(range(acknowledged, 2 * PAGE + 3))


async def test_to_acknowledge_one_is_to_acknowledge_what_came_before(world: World, session: Session) -> None:
    await distinct(world, PAGE)
    kept = Kept()
    async with follow_audit(session, kept) as subscriber:
        first, second, third = [await anext(subscriber) for _ in range(3)]
        await subscriber.ack(second)
        before = kept.bookmark
        await subscriber.ack(first)  # again: nothing goes back
        await subscriber.ack(second)
        assert (kept.bookmark, kept.saves) == (before, 1)
        assert third.bookmark != second.bookmark
    assert await read(session, kept, 2) == [2, 3]


async def test_a_message_at_a_time(world: World, session: Session) -> None:
    await distinct(world, PAGE + 2)
    kept = Kept()
    await read(session, kept, 2)
    found: list[tuple[int, int, list[int]]] = []
    async with follow_audit(session, kept) as subscriber, asyncio.timeout(60):
        async for received in subscriber.messages():
            message, events = received.value
            found.append((message.from_position, message.to_position, [event.position for event in events]))
            await subscriber.ack(received)
            if message.to_position == PAGE + 2:
                break
    assert found == [(0, PAGE, [2, 3]), (PAGE, PAGE + 2, [4, 5])]
    await distinct(world, 1)
    assert await read(session, kept, 1) == [PAGE + 2]


async def test_without_forever_it_ends(world: World, session: Session) -> None:
    await distinct(world, PAGE + 1)
    async with follow_audit(session, forever=False) as subscriber:
        assert [received.value.position async for received in subscriber] == list(range(PAGE + 1))


async def test_from_the_end_is_said_once(world: World, session: Session) -> None:
    """What comes while the subscriber is away is not left out for having begun at the end."""
    await distinct(world, 3)
    kept = Kept()
    async with follow_audit(session, kept, from_end=True) as subscriber:
        waiting = asyncio.ensure_future(anext(subscriber))
        await until(lambda: kept.bookmark)
        waiting.cancel()
        await asyncio.wait([waiting])
    await distinct(world, 2)
    assert await read(session, kept, 2, from_end=True) == [3, 4]


async def test_what_a_filter_leaves_out_is_not_scanned_again(world: World, session: Session) -> None:
    await distinct(world, 3 * PAGE)
    kept = Kept()
    wanted = audit_pb2.AuditFilter(kinds=["task.begun"])
    async with follow_audit(session, kept, wanted=wanted) as subscriber:
        waiting = asyncio.ensure_future(anext(subscriber))
        await until(lambda: kept.bookmark and Bookmark.parse(kept.bookmark).position == 3 * PAGE)
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_nothing_moves_on_while_something_is_not_acknowledged(world: World, session: Session) -> None:
    await distinct(world, 1)
    kept = Kept()
    async with follow_audit(session, kept) as subscriber:
        received = await anext(subscriber)
        waiting = asyncio.ensure_future(anext(subscriber))
        pages = world.issuer.pages
        await until(lambda: world.issuer.pages > pages + 3)  # heartbeats
        assert kept.saves == 0
        await subscriber.ack(received)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert kept.saves == 1


async def test_effect_and_bookmark_in_one_transaction(world: World, session: Session, tmp_path: Path) -> None:
    """The whole of what exactly-once takes: `save` writes into the transaction that holds the effect."""
    await distinct(world, 2 * PAGE)
    with closing(sqlite3.connect(tmp_path / "own.db", isolation_level=None)) as database:
        database.executescript("CREATE TABLE effect (position INTEGER PRIMARY KEY); CREATE TABLE mark (text)")

        class Own:
            async def load(self) -> str:
                row = database.execute("SELECT text FROM mark").fetchone()
                return row[0] if row else ""

            async def save(self, bookmark: str) -> None:
                database.execute("DELETE FROM mark")
                database.execute("INSERT INTO mark VALUES (?)", (bookmark,))

        async def work(until_position: int, *, fail: bool) -> None:
            async with follow_audit(session, Own()) as subscriber:
                async for received in subscriber:
                    database.execute("BEGIN IMMEDIATE")
                    database.execute("INSERT INTO effect VALUES (?)", (received.value.position,))
                    await subscriber.ack(received)
                    if received.value.position == until_position and fail:
                        database.execute("ROLLBACK")  # as a crash before the commit does
                        return
                    database.execute("COMMIT")
                    if received.value.position == until_position:
                        return

        for stop, fail in ((2, True), (5, True), (2 * PAGE - 1, False)):
            await work(stop, fail=fail)
        rows = [position for (position,) in database.execute("SELECT position FROM effect ORDER BY rowid")]
    assert rows == list(range(2 * PAGE))  # a second effect would have been refused by the table


async def test_what_cannot_be_kept_is_not_acknowledged(world: World, session: Session) -> None:
    await distinct(world, 3)
    kept = Kept()
    async with follow_audit(session, kept) as subscriber:
        first, second = await anext(subscriber), await anext(subscriber)
        await subscriber.ack(first)
        kept.full = True
        with pytest.raises(CursorUnusable):
            await subscriber.ack(second)
        kept.full = False
        await subscriber.ack(second)
    assert await read(session, kept, 1) == [2]


# --- revocations ---------------------------------------------------------------------------------------------------


async def test_revocations_are_acknowledged_by_message(world: World, session: Session, tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    with CursorFile(path) as cursors:
        async with follow_revocations(session, cursors) as subscriber, asyncio.timeout(60):
            snapshot = await anext(subscriber)
            assert snapshot.value.HasField("snapshot")
            await subscriber.ack(snapshot)
            await world.issuer.add_revocation(1)
            while not (first := await anext(subscriber)).value.revoked:
                pass
            await subscriber.ack(first)
            await world.issuer.add_revocation(2)
            assert list((await anext(subscriber)).value.revoked[0].status_indexes) == [2]  # and a crash
    await world.issuer.add_revocation(3)
    with CursorFile(path) as cursors:
        async with follow_revocations(session, cursors) as subscriber, asyncio.timeout(60):
            received = await anext(subscriber)
            assert not received.value.HasField("snapshot")
            assert [list(each.status_indexes) for each in received.value.revoked] == [[2], [3]]


# --- what is not believed ------------------------------------------------------------------------------------------


async def partly(world: World, session: Session) -> Kept:
    """Acknowledge the first two events of a message of four."""
    await distinct(world, PAGE)
    kept = Kept()
    await read(session, kept, 2)
    return kept


async def test_another_event_where_one_was_acknowledged_is_a_fork(world: World, session: Session) -> None:
    kept = await partly(world, session)
    before = kept.bookmark
    real = world.issuer.log[1]
    world.issuer.log[1] = replace(real, content=b"another history")
    with pytest.raises(Fork, match="Position 1 "):
        await read(session, kept, 1)
    assert kept.bookmark == before
    world.issuer.log[1] = real
    assert await read(session, kept, 2) == [2, 3]


async def test_nothing_where_one_was_acknowledged_is_a_fork(world: World, session: Session) -> None:
    kept = await partly(world, session)
    with pytest.raises(Fork):
        await read(session, kept, 1, wanted=audit_pb2.AuditFilter(kinds=["task.begun"]))
    assert await read(session, kept, 2) == [2, 3]


def moved(change: Callable[[Bookmark], Bookmark]) -> Callable[[Kept], None]:
    def apply(kept: Kept) -> None:
        kept.bookmark = change(Bookmark.parse(kept.bookmark)).text

    return apply


MOVED = {
    "further": (moved(lambda mark: replace(mark, position=mark.position + 1)), Fork),
    "back": (moved(lambda mark: replace(mark, position=mark.position - 1)), Fork),
    "elsewhere": (moved(lambda mark: replace(mark, start=mark.start + 1, position=mark.position + 1)), Gap),
}


@pytest.mark.parametrize(("move", "error"), MOVED.values(), ids=MOVED)
async def test_a_bookmark_that_was_moved_by_hand(
    world: World, session: Session, move: Callable[[Kept], None], error: type[Exception]
) -> None:
    kept = await partly(world, session)
    good = kept.bookmark
    move(kept)
    with pytest.raises(error):
        await read(session, kept, 1)
    kept.bookmark = good
    assert await read(session, kept, 2) == [2, 3]


async def test_what_is_kept_and_is_no_bookmark_asks_nothing(world: World, session: Session) -> None:
    with pytest.raises(BookmarkInvalid):
        await read(session, Kept(bookmark="x.y"), 1)
    assert world.issuer.pages == 0


@pytest.mark.parametrize(
    "reason", [Reason.CURSOR_FOREIGN, Reason.CURSOR_TAMPERED, Reason.CURSOR_FROM_THE_FUTURE], ids=lambda each: each.name
)
async def test_another_log_is_refused_by_the_broker(world: World, session: Session, reason: Reason) -> None:
    world.issuer.refusal = Refusal(reason)
    with pytest.raises(OutOfRange, match=reason.name):
        await read(session, Kept(bookmark=Bookmark(cursor="7", start=7, position=7).text), 1)


LIES: dict[str, Callable[[list[AuditEvent]], list[AuditEvent]]] = {
    "twice": lambda events: [*events, events[-1]],
    "left-out": lambda events: events[1:],
    "out-of-order": lambda events: events[::-1],
    "beyond-the-range": lambda events: [*events, replace(events[-1], position=99)],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_message_that_contradicts_itself(
    world: World, session: Session, monkeypatch: pytest.MonkeyPatch, lie: Callable[[Any], Any]
) -> None:
    real = FakeIssuer.audit_page

    async def lying(issuer: FakeIssuer, call: Any) -> Any:
        page = await real(issuer, call)
        return replace(page, events=tuple(lie(list(page.events)))) if page.events else page

    await distinct(world, 2)
    assert await read(session, None, 2) == [0, 1]
    monkeypatch.setattr(FakeIssuer, "audit_page", lying)
    with pytest.raises(Gap):
        await read(session, None, 1)


# --- connections ---------------------------------------------------------------------------------------------------


async def test_the_end_of_the_reader_is_an_error_and_keeps_what_was_acknowledged(
    world: World, session: Session, tmp_path: Path
) -> None:
    await distinct(world, 2)
    path = tmp_path / "cursor"
    with CursorFile(path) as cursors:
        async with follow_audit(session, cursors) as subscriber:
            await subscriber.ack(await anext(subscriber))
            await anext(subscriber)
            world.issuer.refusal = Refusal(Reason.AGENT_REVOKED)
            await world.issuer.change_authority()
            with pytest.raises(Denied, match="AGENT_REVOKED"):
                await anext(subscriber)
    world.issuer.refusal = None
    with CursorFile(path) as cursors:
        assert await read(session, cursors, 1) == [1]


async def test_a_slow_consumer_loses_nothing_when_its_generation_goes() -> None:
    """Its SVID ends, and its channel is closed, while it is busy with what it has."""
    async with open_world(heartbeat=0.1) as world:
        supply = Supply(world.domain, world.agent)
        session = session_with(world, supply)
        await distinct(world, 3 * PAGE)
        async with follow_audit(session) as subscriber, asyncio.timeout(30):
            positions = [(await anext(subscriber)).value.position]
            supply.svid = world.domain.svid("/agent", ttl=timedelta(hours=3))
            world.ahead[0] = timedelta(hours=2)  # by now the first one is over
            await until(lambda: world.counters.calls.get(f"{STREAM} UNAUTHENTICATED"))
            await until(lambda: _generations_after(session) == 1)
            positions += [(await anext(subscriber)).value.position for _ in range(3 * PAGE - 1)]
        assert positions == list(range(3 * PAGE))
        await session.close()


def _generations_after(session: Session) -> int:
    """Return how many generations are left once the session was asked for its current one."""
    session._generations.current()
    return len(session._generations._generations)


async def test_a_channel_that_is_closed_under_a_stream_is_opened_anew(world: World, session: Session) -> None:
    """What gRPC reports as a cancellation is none of the consumer's task."""
    await distinct(world, 1)
    async with follow_audit(session) as subscriber, asyncio.timeout(60):
        assert (await anext(subscriber)).value.position == 0
        await session._generations.current().close()
        session._generations._generations.clear()
        await distinct(world, 1)
        assert (await anext(subscriber)).value.position == 1


async def test_a_consumer_that_is_cancelled_is_cancelled(world: World, session: Session) -> None:
    async with follow_audit(session) as subscriber:
        waiting = asyncio.ensure_future(anext(subscriber))
        await until(lambda: world.issuer.pages)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


@pytest.mark.parametrize("by_message", [False, True], ids=["by-event", "by-message"])
async def test_a_subscriber_that_was_cancelled_says_so_when_it_is_asked_again(
    world: World, session: Session, *, by_message: bool
) -> None:
    """A log that has no end must not seem to have one, because somebody waited with a timeout."""
    async with follow_audit(session) as subscriber:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(subscriber.messages() if by_message else subscriber)
        await distinct(world, 1)
        for ask in (lambda: anext(subscriber), lambda: anext(subscriber.messages())):
            with pytest.raises(BrokerError, match="was cancelled"):
                await ask()
    assert await read(session, None, 1) == [0]


async def test_a_session_that_is_closed_ends_its_streams(world: World, supply: Supply) -> None:
    session = session_with(world, supply)
    async with AsyncExitStack() as stack:
        subscriber = await stack.enter_async_context(follow_audit(session))
        waiting = asyncio.ensure_future(anext(subscriber))
        await until(lambda: world.issuer.pages)
        await session.close()
        with pytest.raises(Exception, match="session is closed"):
            await asyncio.wait_for(waiting, 60)


async def test_a_new_authority_takes_the_old_leaf_away_and_the_stream_goes_on(world: World) -> None:
    """The old leaf is still in time, and is refused: only its successor will do."""
    supply = Supply(world.domain, world.agent)
    session = session_with(world, supply)
    await distinct(world, 1)
    async with follow_audit(session) as subscriber, asyncio.timeout(60):
        assert (await anext(subscriber)).value.position == 0
        supply.svid = world.domain.svid("/agent")
        world.issuer.refusal = Refusal(Reason.SVID_CHAIN_INVALID)
        await world.issuer.change_authority()
        await until(lambda: world.counters.calls.get(f"{STREAM} UNAUTHENTICATED"))
        world.issuer.refusal = None
        await distinct(world, 1)
        assert (await anext(subscriber)).value.position == 1
        # The control: without a successor it is an end.
        world.issuer.refusal = Refusal(Reason.SVID_CHAIN_INVALID)
        await world.issuer.change_authority()
        with pytest.raises(Unauthenticated):
            await anext(subscriber)
    await session.close()
