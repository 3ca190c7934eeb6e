"""What ends a subscription, and what does not."""

import asyncio
from datetime import UTC, datetime

import grpc
import pytest

from broker.errors import Reason, Refusal
from tests.server.listener import Listener, audit, revocations
from tests.server.world import World, before_its_end, open_world, settled, tasks, told, until

AUDIT = "/broker.v1.AuditService/SubscribeAudit"


async def test_it_ends_when_the_svid_does() -> None:
    async with open_world(heartbeat=3600) as world:
        await world.issuer.append(2)

        async def begin() -> list[Listener]:
            listeners = [audit(world), revocations(world)]
            for listener in listeners:
                await listener.hear()
            return listeners

        listeners = await before_its_end(world, begin)
        for listener in listeners:
            answer = told(await listener.end())
            assert (answer.code, answer.reason) == (grpc.StatusCode.UNAUTHENTICATED, "SVID_EXPIRED")
        assert datetime.now(UTC) >= world.agent.leaf.not_valid_after_utc


async def test_it_ends_when_the_reader_may_no_longer_read() -> None:
    """The heartbeat would do it too; the change does it at once."""
    async with open_world(heartbeat=3600) as world:
        listener = audit(world)
        await listener.hear()
        world.issuer.refusal = Refusal(Reason.STREAM_REFUSED, policy_ids=("p",))
        await world.issuer.change_authority()
        answer = told(await listener.end())
        assert (answer.code, answer.reason) == (grpc.StatusCode.PERMISSION_DENIED, "STREAM_REFUSED")


CURSORS = [Reason.CURSOR_TAMPERED, Reason.CURSOR_FOREIGN, Reason.CURSOR_FROM_THE_FUTURE, Reason.CURSOR_TOO_OLD]


@pytest.mark.parametrize("reason", CURSORS, ids=lambda reason: reason.name)
async def test_a_bad_cursor_is_an_error_and_never_a_jump(world: World, reason: Reason) -> None:
    world.issuer.refusal = Refusal(reason)
    answer = told(await revocations(world, cursor="x").end())
    assert (answer.code, answer.reason) == (grpc.StatusCode.OUT_OF_RANGE, reason.name)


async def test_an_overlong_cursor_is_refused_before_it_is_looked_at(world: World) -> None:
    answer = told(await audit(world, cursor="c" * 1025).end())
    assert (answer.reason, answer.metadata["detail"]) == ("REQUEST_INVALID", "cursor: string.max_bytes")
    assert [one.operation for one in world.issuer.refused] == ["subscribe_audit"]


async def test_the_hub_comes_back_when_the_issuer_does() -> None:
    async with open_world(heartbeat=3600) as world:
        listener = audit(world)
        await listener.hear()
        await world.issuer.leave()
        await until(lambda: world.issuer.feeds >= 2)
        world.issuer.away = False
        await world.issuer.append()
        assert (await listener.news()).events  # the same stream: nothing told it that the issuer was gone


async def test_a_stream_ends_with_a_reason_when_the_issuer_stays_away(world: World) -> None:
    listener = audit(world)
    await listener.hear()
    await world.issuer.leave()
    answer = told(await listener.end())
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "ISSUER_UNAVAILABLE")


async def test_one_feed_serves_all_streams(world: World) -> None:
    listeners = [audit(world) for _ in range(20)]
    for listener in listeners:
        await listener.hear()
    await world.issuer.append()
    for listener in listeners:
        assert len((await listener.news()).events) == 1
    assert world.issuer.feeds == 1


async def test_readers_that_go_away_leave_no_task(world: World) -> None:
    channel = world.channel()
    warm = audit(world, channel, follow=False)
    await warm.hear()
    assert await warm.call.read() is grpc.aio.EOF
    before = tasks()
    listeners = [audit(world, channel) for _ in range(10)]
    for listener in listeners:
        await listener.hear()
    for listener in listeners:
        listener.call.cancel()
    await until(lambda: world.counters.calls.get(f"{AUDIT} CANCELLED") == 10)
    await until(lambda: not tasks() - before)


async def test_many_streams_wake_within_the_limit_of_pages() -> None:
    """Pages wait for one another and are never refused as too many."""
    async with open_world(heartbeat=3600, pages=2, calls=4) as world:
        listeners = [audit(world) for _ in range(30)]
        for listener in listeners:
            await listener.hear()
        world.issuer.hold = asyncio.Event()
        await world.issuer.append()
        asked = len(world.issuer.calls)
        await settled(lambda: len(world.issuer.calls))
        assert len(world.issuer.calls) <= asked + 2
        world.issuer.hold.set()
        for listener in listeners:
            assert len((await listener.news()).events) == 1
