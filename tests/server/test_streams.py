"""The two subscriptions over loopback: order, ranges, heartbeats, and everything that ends them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from broker.errors import Reason, Refusal
from broker.issuer.port import AuditPageCall
from broker.v1 import audit_pb2, audit_pb2_grpc, revoke_pb2, revoke_pb2_grpc
from tests.fakes.issuer import PAGE
from tests.server.world import World, ended, open_world, settled, tasks, told, until

AUDIT = "/broker.v1.AuditService/SubscribeAudit"


class Listener:
    """A stream under test."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def hear(self) -> Any:
        async with asyncio.timeout(15):
            heard = await self.call.read()
        assert heard is not grpc.aio.EOF
        return heard

    async def news(self) -> Any:
        """The next message that is more than a heartbeat."""
        while True:
            heard = await self.hear()
            if getattr(heard, "events", None) or getattr(heard, "revoked", None):
                return heard

    async def end(self) -> grpc.aio.AioRpcError:
        return await ended(self.call)


def audit(world: World, channel: grpc.aio.Channel | None = None, **wanted: Any) -> Listener:
    asked = audit_pb2.SubscribeAuditRequest(**({"follow": True} | wanted))
    return Listener(audit_pb2_grpc.AuditServiceStub(channel or world.channel()).SubscribeAudit(asked))


def revocations(world: World, cursor: str = "") -> Listener:
    asked = revoke_pb2.SubscribeRevocationsRequest(cursor=cursor)
    return Listener(revoke_pb2_grpc.RevocationServiceStub(world.channel()).SubscribeRevocations(asked))


async def test_the_log_comes_whole_in_order_and_without_gaps(world: World) -> None:
    await world.issuer.append(3 * PAGE + 1)
    listener, expected = audit(world), 0
    positions: list[int] = []
    while len(positions) < 3 * PAGE + 1:
        heard = await listener.hear()
        assert heard.from_position == expected
        expected = heard.to_position
        positions += [event.position for event in heard.events]
    assert positions == list(range(3 * PAGE + 1))
    await world.issuer.append()
    assert [event.position for event in (await listener.news()).events] == [3 * PAGE + 1]


async def test_what_was_filtered_out_is_still_covered(world: World) -> None:
    await world.issuer.append(PAGE)
    listener, expected = audit(world, filter=audit_pb2.AuditFilter(kinds=["task.begun"])), 0
    while expected < 2 * PAGE:
        heard = await listener.hear()
        assert (heard.from_position, list(heard.events)) == (expected, [])
        expected = heard.to_position
        if expected == PAGE:
            await world.issuer.append(PAGE)
    call = next(call for call in world.issuer.calls if isinstance(call, AuditPageCall))
    assert call.filter.kinds == ("task.begun",)


async def test_a_cursor_resumes_and_the_first_page_alone_is_an_opening(world: World) -> None:
    await world.issuer.append(PAGE + 2)
    first = await audit(world).hear()
    resumed = await audit(world, cursor=first.cursor).hear()
    assert resumed.from_position == first.to_position
    calls = [call for call in world.issuer.calls if isinstance(call, AuditPageCall)]
    openings = [call.cursor for call in calls if call.opening]
    assert openings == ["", first.cursor]
    assert len(calls) > len(openings)


async def test_without_follow_it_ends_at_the_size_it_found(world: World) -> None:
    await world.issuer.append(PAGE + 1)
    listener = audit(world, follow=False)
    assert [(await listener.hear()).to_position for _ in range(2)] == [PAGE, PAGE + 1]
    assert await listener.call.read() is grpc.aio.EOF
    assert await listener.call.code() is grpc.StatusCode.OK


async def test_without_follow_an_empty_log_gives_one_message(world: World) -> None:
    listener = audit(world, follow=False)
    assert (await listener.hear()).to_position == 0
    assert await listener.call.read() is grpc.aio.EOF


async def test_from_the_end_only_what_comes(world: World) -> None:
    await world.issuer.append(3)
    listener = audit(world, start=audit_pb2.AUDIT_START_END)
    assert (await listener.hear()).from_position == 3
    await world.issuer.append()
    assert [event.position for event in (await listener.news()).events] == [3]


async def test_a_heartbeat_comes_though_nothing_happens(world: World) -> None:
    await world.issuer.append(2)
    listener = audit(world)
    beats = [(await listener.hear()).heartbeat for _ in range(3)]
    times = [beat.at.ToDatetime(tzinfo=UTC) for beat in beats]
    assert {beat.position for beat in beats} == {2}
    assert times == sorted(set(times))
    assert abs(times[-1] - datetime.now(UTC)) < timedelta(seconds=5)


async def test_news_does_not_wait_for_the_heartbeat() -> None:
    async with open_world(heartbeat=3600) as world:
        listener = audit(world)
        await listener.hear()
        for _ in range(20):
            await world.issuer.append()
            assert (await listener.hear()).events  # each would take an hour


async def test_a_snapshot_comes_first_and_keys_only_when_they_change(world: World) -> None:
    await world.issuer.append(2)
    listener = revocations(world)
    first = await listener.hear()
    assert (first.from_position, first.to_position) == (2, 2)
    assert (first.snapshot.status_indexes, list(first.snapshot.credential_ids)) == (b"bitmap", ["cred_1"])
    assert first.key_set.issuer
    second = await listener.hear()
    assert not second.HasField("snapshot")
    assert not second.HasField("key_set")
    world.issuer.keys = "k2"
    while not (await listener.hear()).HasField("key_set"):
        pass
    assert not (await listener.hear()).HasField("key_set")


async def test_an_empty_snapshot_is_a_snapshot(world: World) -> None:
    """A reader must be able to tell "nothing is revoked" from "you were not told"."""
    first = await revocations(world).hear()
    assert first.HasField("snapshot")


async def test_a_revocation_comes_at_once(world: World) -> None:
    listener = revocations(world)
    await listener.hear()
    await world.issuer.add_revocation(5, 6)
    heard = await listener.news()
    assert [list(one.status_indexes) for one in heard.revoked] == [[5, 6]]


async def test_revocations_stay_gap_free_while_the_log_is_busy(world: World) -> None:
    listener = revocations(world)
    expected = (await listener.hear()).to_position
    for _ in range(30):
        await world.issuer.append(3)
    await world.issuer.add_revocation(1)
    while True:
        heard = await listener.hear()
        assert heard.from_position == expected
        expected = heard.to_position
        if heard.revoked:
            break


async def test_a_busy_log_does_not_make_a_page_of_every_event() -> None:
    """What comes within the spacing is one page: otherwise each commit would cost a page a subscriber."""
    async with open_world(heartbeat=3600, spacing=0.2) as world:
        listener = revocations(world)
        await listener.hear()
        before = world.issuer.pages
        for _ in range(100):
            await world.issuer.append()
            await asyncio.sleep(0)
        await world.issuer.add_revocation(1)
        await listener.news()
        assert (
            world.issuer.pages - before < 60
        )  # 101 positions in pages of 4 are 26; one an event would be more than 101


async def test_a_stalled_reader_slows_nobody(world: World) -> None:
    stalled = audit(world, world.channel(None, ("grpc.http2.lookahead_bytes", 65536)))
    await stalled.hear()
    healthy = audit(world)
    await healthy.hear()
    seen = 0
    for _ in range(50):
        await world.issuer.append(PAGE, size=60_000)
        while seen < len(world.issuer.log):
            heard = await healthy.hear()
            seen = heard.to_position
    # 12 MB were kept from the reader that did not read; now it goes on where it was, and gets all of them.
    expected = 0
    while expected < len(world.issuer.log):
        heard = await stalled.hear()
        assert heard.from_position == expected
        expected = heard.to_position


async def test_a_stalled_reader_does_not_make_the_door_read_ahead(world: World) -> None:
    await world.issuer.append(2000, size=60_000)  # 120 MB
    stalled = audit(world)
    await stalled.hear()
    await settled(lambda: world.issuer.pages)
    assert world.issuer.pages < 100  # of 500


async def test_it_ends_when_the_svid_does() -> None:
    async with open_world(heartbeat=3600) as world:
        world.agent = world.domain.svid("/agent", ttl=timedelta(seconds=3))
        await world.issuer.append(2)
        listeners = [audit(world), revocations(world)]
        for listener in listeners:
            await listener.hear()
        for listener in listeners:
            answer = told(await listener.end())
            assert (answer.code, answer.reason) == (grpc.StatusCode.UNAUTHENTICATED, "SVID_EXPIRED")
        assert timedelta() <= datetime.now(UTC) - world.agent.leaf.not_valid_after_utc < timedelta(seconds=2)


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
        await world.issuer.append()
        for listener in listeners:
            assert len((await listener.news()).events) == 1
