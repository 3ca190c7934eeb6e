"""The two subscriptions over loopback: order, ranges, heartbeats, and everything that ends them."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from broker.errors import Reason, Refusal
from broker.issuer.port import AuditPage, AuditPageCall, Page, RevocationPageCall
from broker.svid.principal import Principal
from broker.v1 import audit_pb2
from tests.fakes.issuer import PAGE, FakeIssuer
from tests.server.listener import audit, revocations
from tests.server.world import World, open_world, settled, told, until

AUDIT = "/broker.v1.AuditService/SubscribeAudit"


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
    assert abs(times[-1] - datetime.now(UTC)) < timedelta(seconds=60)


async def test_news_does_not_wait_for_the_heartbeat() -> None:
    async with open_world(heartbeat=3600) as world:
        listener = audit(world)
        await listener.hear()
        for _ in range(20):
            await world.issuer.append()
            assert (await listener.hear()).events  # each would take an hour


async def test_what_happens_while_a_page_is_on_its_way_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = FakeIssuer.audit_page

    async def overtaken(issuer: FakeIssuer, call: AuditPageCall) -> AuditPage:
        page = await real(issuer, call)
        if len(issuer.log) < 3:  # the log grows, and the door hears of it before it has the page
            await issuer.append()
            await settled(lambda: issuer.pages)
        return page

    monkeypatch.setattr(FakeIssuer, "audit_page", overtaken)
    async with open_world(heartbeat=3600) as world:
        listener = audit(world)
        positions: list[int] = []
        while len(positions) < 3:
            positions += [event.position for event in (await listener.hear()).events]
        assert positions == [0, 1, 2]


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


async def more_pages(world: World, than: int) -> None:
    await until(lambda: world.issuer.pages > than)


async def test_a_busy_log_does_not_make_a_page_of_every_event() -> None:
    """Pages of one stream keep a distance: otherwise each commit would cost a page a subscriber."""
    async with open_world(heartbeat=3600, spacing=0.2) as world:
        listener = audit(world, filter=audit_pb2.AuditFilter(kinds=["task.begun"]))
        await listener.hear()
        begun = time.monotonic()
        for _ in range(5):
            pages = world.issuer.pages
            await world.issuer.append()
            await more_pages(world, pages)
        assert time.monotonic() - begun > 4 * 0.2


async def test_revocations_sleep_while_nothing_ends() -> None:
    """Most of what is committed are grants: they cost a reader of revocations no page, and it misses nothing."""
    async with open_world(heartbeat=3600) as world:
        listener, log = revocations(world), audit(world)
        start = (await listener.hear()).to_position
        await log.hear()
        for _ in range(20):
            await world.issuer.append()
            assert (await log.news()).events  # the control: whoever reads the log is woken each time
        assert len([call for call in world.issuer.calls if isinstance(call, RevocationPageCall)]) == 1
        await world.issuer.add_revocation(7)
        expected = start
        while True:
            heard = await listener.hear()
            assert heard.from_position == expected
            expected = heard.to_position
            if heard.revoked:
                break
        assert expected == len(world.issuer.log)


async def test_revocations_wake_when_rights_may_have_ended() -> None:
    async with open_world(heartbeat=3600) as world:
        listener = revocations(world)
        await listener.hear()
        world.issuer.refusal = Refusal(Reason.STREAM_REFUSED)
        await world.issuer.append()
        await world.issuer.change_authority()
        assert told(await listener.end()).reason == "STREAM_REFUSED"


async def test_a_gap_in_what_the_issuer_gives_is_shown_and_not_covered_up(monkeypatch: pytest.MonkeyPatch) -> None:
    real = FakeIssuer._page

    def skipping(issuer: FakeIssuer, start: int, stop: int, caller: Principal) -> Page:
        page = real(issuer, start, stop, caller)
        return replace(page, cursor=str(stop + 1)) if (start, stop) == (0, 1) else page

    monkeypatch.setattr(FakeIssuer, "_page", skipping)
    async with open_world(heartbeat=3600) as world:
        listener = revocations(world)
        await listener.hear()
        await world.issuer.append()
        await world.issuer.change_authority()
        await until(lambda: world.issuer.pages >= 2)  # a page without news, which is held back
        await world.issuer.append()
        await world.issuer.add_revocation(1)
        assert (await listener.hear()).from_position == 2


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
