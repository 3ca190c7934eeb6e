"""The hub: one feed, many waiting streams."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.errors import Refusal
from broker.issuer.port import Change
from broker.server.hub import Hub, News
from tests.server.world import until


class Feed:
    """A feed that a test drives; None ends it, an exception breaks it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Change | Exception | None] = asyncio.Queue()
        self.opened = 0

    def say(self, size: int, epoch: int = 1) -> None:
        self.queue.put_nowait(Change(size=size, epoch=epoch, endings=0))

    async def __call__(self) -> AsyncIterator[Change]:
        self.opened += 1
        while (change := await self.queue.get()) is not None:
            if isinstance(change, Exception):
                raise change
            yield change


async def test_a_change_wakes_everybody_who_waits() -> None:
    feed = Feed()
    hub = Hub(feed)
    hub.start()
    waiting = [asyncio.ensure_future(hub.beyond(hub.version, 60)) for _ in range(100)]
    await asyncio.sleep(0)
    feed.say(1)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    await hub.close()


async def test_a_change_before_the_waiting_is_not_missed() -> None:
    feed = Feed()
    hub = Hub(feed)
    hub.start()
    seen = hub.version
    feed.say(1)
    await asyncio.wait_for(hub.beyond(seen, 60), 5)
    await asyncio.wait_for(hub.beyond(seen, 60), 5)  # it is over, and still newer than what was seen
    await hub.close()


async def test_waiting_is_bounded() -> None:
    hub = Hub(Feed())
    hub.start()
    await asyncio.wait_for(hub.beyond(hub.version, 0.01), 5)
    await asyncio.wait_for(hub.beyond(hub.version, -1), 5)
    await hub.close()


async def test_authority_rises_with_the_epoch_and_with_a_restart_and_not_with_the_log() -> None:
    feed = Feed()
    hub = Hub(feed)
    hub.start()

    async def after(change: Change | None) -> int:
        seen = hub.version
        feed.queue.put_nowait(change)
        if change is None:
            feed.say(1, epoch=2)  # the issuer that was restarted begins with its own state
        await asyncio.wait_for(hub.beyond(seen, 60), 5)
        return hub.authority

    first = await after(Change(size=1, epoch=1, endings=0))
    assert await after(Change(size=2, epoch=1, endings=0)) == first
    assert await after(Change(size=2, epoch=2, endings=0)) == first + 1
    assert await after(None) == first + 2
    assert feed.opened == 2
    await hub.close()


@pytest.mark.parametrize(
    ("news", "other", "one"),
    [
        (News.ENDINGS, {"endings": 0, "approvals": 7}, {"endings": 1}),
        (News.APPROVALS, {"approvals": 0, "endings": 7}, {"approvals": 1}),
    ],
    ids=lambda value: value.value if isinstance(value, News) else "",
)
async def test_news_wake_those_who_wait_for_nothing_else(
    news: News, other: dict[str, int], one: dict[str, int]
) -> None:
    feed = Feed()
    hub = Hub(feed)
    hub.start()

    async def rises(change: Change | None) -> bool:
        seen, heard = hub.version, hub.heard(news)
        waiting = asyncio.ensure_future(hub.beyond(heard, 60, news))
        feed.queue.put_nowait(change)
        if change is None:
            feed.say(3)
        await asyncio.wait_for(hub.beyond(seen, 60), 5)
        await asyncio.sleep(0)
        done = waiting.done()
        assert done == (hub.heard(news) > heard)
        waiting.cancel()
        return done

    none: dict[str, int] = {"endings": 0, "approvals": 0}
    assert await rises(Change(size=1, epoch=1, **none)), "the first state: nobody knows what came before"
    assert not await rises(Change(size=2, epoch=1, **none | other))
    assert await rises(Change(size=3, epoch=1, **none | other | one))
    assert not await rises(Change(size=4, epoch=1, **none | other | one))
    assert await rises(Change(size=4, epoch=2, **none | other | one))
    assert await rises(None), "an issuer that was restarted counts from nothing"
    waiting = asyncio.ensure_future(hub.beyond(hub.heard(news), 60, news))
    await asyncio.sleep(0)
    await hub.close()
    with pytest.raises(Refusal):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(Refusal):
        await hub.beyond(hub.heard(news), 60, news)


@pytest.mark.parametrize("end", [None, RuntimeError("gone")], ids=["ends", "fails"])
async def test_it_is_ready_while_the_feed_is_open(end: Exception | None) -> None:
    feed = Feed()
    hub = Hub(feed)
    assert not hub.ready
    hub.start()
    seen = hub.version
    feed.say(1)
    await asyncio.wait_for(hub.beyond(seen, 60), 5)
    assert hub.ready
    feed.queue.put_nowait(end)
    await until(lambda: not hub.ready)
    seen = hub.version
    feed.say(1)
    await asyncio.wait_for(hub.beyond(seen, 60), 5)
    assert hub.ready
    await hub.close()


async def test_closing_ends_the_waiting_with_a_refusal() -> None:
    hub = Hub(Feed())
    hub.start()
    waiting = asyncio.ensure_future(hub.beyond(hub.version, 60))
    await asyncio.sleep(0)
    await hub.close()
    with pytest.raises(Refusal):
        await waiting
    with pytest.raises(Refusal):
        await hub.beyond(hub.version, 60)
