"""Feed: over a real channel, from any end of the stream back to a view that is right."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import grpc
import pytest
from google.rpc import code_pb2

from broker.errors import Reason, Refusal
from broker.validator import Feed, FeedSettings, RevocationView
from tests.fakes.revocations import End, FakeRevocations, Step, response, serving, status_of, until
from tests.unit.credential.samples import ISSUER, NOW, OTHER_SIGNER, SIGNER

JWKS = '{"keys":[' + SIGNER.public_jwk + "]}"
BOTH = f'{{"keys":[{SIGNER.public_jwk},{OTHER_SIGNER.public_jwk}]}}'
FIRST = response(5, 5, snapshot=[1], read_at=NOW, jwks=JWKS, issuer=ISSUER)
QUICK = FeedSettings(
    first_pause=timedelta(milliseconds=1), longest_pause=timedelta(milliseconds=20), spread=timedelta(0)
)


@dataclass
class Clock:
    """A clock that the test sets."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Following:
    """A feed at work, and the broker that it follows."""

    fake: FakeRevocations
    view: RevocationView
    feed: Feed
    clock: Clock


@asynccontextmanager
async def following(settings: FeedSettings = QUICK) -> AsyncIterator[Following]:
    fake, view, clock = FakeRevocations(), RevocationView(issuer=ISSUER), Clock()
    async with serving(fake), grpc.aio.insecure_channel(f"127.0.0.1:{fake.port}") as channel:
        feed = Feed(channel=channel, view=view, clock=clock, jitter=lambda: 0.0, settings=settings)
        task = asyncio.create_task(feed.run())
        try:
            yield Following(fake, view, feed, clock)
            assert not task.done()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_it_is_ready_with_the_first_snapshot_and_not_before() -> None:
    async with following() as now:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await now.feed.ready()
        assert now.view.is_revoked(2)
        now.fake.push(FIRST)
        await now.feed.ready()
        assert [now.view.is_revoked(index) for index in (1, 2)] == [True, False]
        assert now.view.keys.keys() == {SIGNER.kid}
        now.fake.push(response(5, 6, revoked=[2], read_at=NOW))
        await until(lambda: now.view.is_revoked(2))


async def test_a_snapshot_without_keys_is_not_ready() -> None:
    async with following() as now:
        now.fake.push(response(5, 5, snapshot=[1], read_at=NOW))
        await until(lambda: now.view.stop == 5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await now.feed.ready()
        now.fake.push(response(5, 5, read_at=NOW, jwks=JWKS, issuer=ISSUER))
        await now.feed.ready()


async def test_a_next_key_is_known_before_it_signs() -> None:
    async with following() as now:
        now.fake.push(FIRST, response(5, 5, read_at=NOW, jwks=BOTH, issuer=ISSUER))
        await until(lambda: OTHER_SIGNER.kid in now.view.keys)


BREAKS: dict[str, Step] = {
    "end": End(),
    "unavailable": status_of(Reason.ISSUER_UNAVAILABLE, code_pb2.UNAVAILABLE),
    "denied": status_of(Reason.STREAM_REFUSED, code_pb2.PERMISSION_DENIED),
    "svid-expired": status_of(Reason.SVID_EXPIRED, code_pb2.UNAUTHENTICATED),
}


@pytest.mark.parametrize("step", BREAKS.values(), ids=BREAKS.keys())
async def test_after_a_break_it_goes_on_from_its_cursor(step: Step) -> None:
    async with following() as now:
        now.fake.push(FIRST, step)
        await until(lambda: now.fake.cursors == ["", "at-5"])
        assert not now.view.is_revoked(2)
        now.fake.push(response(5, 9, revoked=[2], read_at=NOW))
        await until(lambda: now.view.is_revoked(2))


STARTS: dict[str, Step] = {
    "cursor-too-old": status_of(Reason.CURSOR_TOO_OLD),
    "cursor-future": status_of(Reason.CURSOR_FROM_THE_FUTURE),
    "cursor-tampered": status_of(Reason.CURSOR_TAMPERED, code_pb2.INVALID_ARGUMENT),
    "gap": response(7, 8, read_at=NOW),
    "again": response(4, 5, read_at=NOW),
    "keys-of-another-issuer": response(5, 5, read_at=NOW, jwks=JWKS, issuer="https://other.example"),
    "keys-garbage": response(5, 5, read_at=NOW, jwks="{", issuer=ISSUER),
}


@pytest.mark.parametrize("step", STARTS.values(), ids=STARTS.keys())
async def test_what_does_not_fit_means_a_new_snapshot_and_refusal_until_then(step: Step) -> None:
    async with following() as now:
        now.fake.push(FIRST)
        await now.feed.ready()
        now.fake.push(step)
        await until(lambda: now.fake.cursors == ["", ""])
        with pytest.raises(Refusal):
            now.view.require_fresh(NOW, timedelta(hours=1))
        now.fake.push(response(20, 20, snapshot=[3], read_at=NOW))
        await now.feed.ready()
        assert [now.view.is_revoked(index) for index in (1, 3)] == [False, True]


async def test_a_first_message_without_snapshot_is_not_taken() -> None:
    async with following() as now:
        now.fake.push(response(0, 1, read_at=NOW, jwks=JWKS, issuer=ISSUER))
        await until(lambda: len(now.fake.cursors) > 1)
        assert now.view.staleness(NOW) is None
        now.fake.push(FIRST)
        await now.feed.ready()


async def test_a_silent_stream_is_given_up() -> None:
    async with following(FeedSettings(silence=timedelta(milliseconds=50), first_pause=timedelta(0))) as now:
        now.fake.push(FIRST)
        await until(lambda: now.fake.cursors[-1:] == ["at-5"])
        assert now.view.stop == 5


async def test_while_the_broker_is_away_the_view_grows_old_and_then_comes_back() -> None:
    fake, view, clock = FakeRevocations(), RevocationView(issuer=ISSUER), Clock()
    async with serving(fake) as server:
        options = [("grpc.max_reconnect_backoff_ms", 50), ("grpc.initial_reconnect_backoff_ms", 10)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{fake.port}", options=options) as channel:
            feed = Feed(channel=channel, view=view, clock=clock, jitter=lambda: 0.0, settings=QUICK)
            task = asyncio.create_task(feed.run())
            fake.push(FIRST)
            await feed.ready()
            await server.stop(None)
            clock.now = NOW + timedelta(seconds=11)
            with pytest.raises(Refusal) as refused:
                view.require_fresh(clock.now, timedelta(seconds=10))
            assert refused.value.reason is Reason.VIEW_STALE
            again = FakeRevocations()
            async with serving(again, fake.port):
                again.push(response(5, 7, revoked=[2], read_at=clock.now))
                await until(lambda: view.is_revoked(2))
                assert again.cursors == ["at-5"]
                view.require_fresh(clock.now, timedelta(seconds=10))
                task.cancel()


async def test_pauses_grow_to_their_bound_and_begin_anew() -> None:
    pauses = FeedSettings(first_pause=timedelta(seconds=1), longest_pause=timedelta(seconds=5))
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        parts = iter([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
        feed = Feed(
            channel=channel,
            view=RevocationView(issuer=ISSUER),
            clock=Clock(),
            jitter=lambda: next(parts),
            settings=pauses,
        )
        lengths = [feed._pause(failures).total_seconds() for failures in (0, 1, 2, 3, 10**6, 0)]
    assert lengths == [2, 3, 5, 6, 6, 0.5]  # the spread of a second is in it


async def test_a_hurried_feed_comes_back_without_its_pause_and_only_once() -> None:
    async with following(FeedSettings(first_pause=timedelta(hours=1), longest_pause=timedelta(hours=1))) as now:
        now.fake.push(FIRST)
        await now.feed.ready()
        now.feed.hurry()  # before the end of the stream was seen
        now.fake.push(End())
        await until(lambda: now.fake.cursors == ["", "at-5"])
        now.fake.push(End())
        await until(lambda: now.feed.problem == "the broker ended it")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await until(lambda: len(now.fake.cursors) > 2)
        now.feed.hurry()  # in the middle of the pause
        await until(lambda: len(now.fake.cursors) == 3)


async def test_a_thousand_readers_come_back_over_a_second() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        parts = iter(number / 1000 for number in range(1000))
        feed = Feed(channel=channel, view=RevocationView(issuer=ISSUER), clock=Clock(), jitter=lambda: next(parts))
        pauses = sorted(feed._pause(0).total_seconds() for _ in range(1000))
    windows = [sum(start <= pause < start + 0.1 for pause in pauses) for start in pauses]
    assert max(windows) <= 100
    assert pauses[-1] < 1.2
