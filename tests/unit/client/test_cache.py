"""The bounds of what is held, and a stream that is not allowed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from broker.client import cache as module
from broker.client.cache import REST, ReadCache
from broker.client.credential import Credential
from broker.client.errors import Denied
from broker.credential.token import Token
from broker.errors import Reason
from broker.intent import Intent, Resource
from broker.v1 import revoke_pb2

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def intent(number: int) -> Intent:
    return Intent(
        action="order.read",
        resource=Resource(type="order", id=str(number)),
        purpose="support",
        audience="spiffe://example.org/orders",
    )


def credential(number: int) -> Credential:
    return Credential(
        token=Token("t", credential_id=f"cred_{number}"),
        id=f"cred_{number}",
        expires_at=NOW + timedelta(minutes=5),
        authorization_details=(),
        intent_digest="",
        decision_id="",
        policy_ids=(),
        transaction_id="",
        tenant="acme",
        thumbprint="leaf",
    )


class Stream:
    """The revocation stream: says once that it has read everything, then is silent; or is refused."""

    def __init__(self, *, allowed: bool) -> None:
        self.allowed = allowed
        self.opened = 0

    async def __call__(self) -> AsyncIterator[revoke_pb2.SubscribeRevocationsResponse]:
        self.opened += 1
        if not self.allowed:
            raise Denied(reason=Reason.POLICY_FORBIDDEN, message="no")
        message = revoke_pb2.SubscribeRevocationsResponse(to_position=3)
        message.heartbeat.position = 3
        message.heartbeat.at.FromDatetime(NOW)
        yield message
        await asyncio.Event().wait()


async def turn() -> None:
    """Let what was started run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_it_holds_so_many_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD", 3)
    cache = ReadCache(clock=lambda: NOW, follow=Stream(allowed=True))
    for number in range(3):
        cache.put(intent(number), None, credential(number))
    await turn()
    assert cache.get(intent(0), None, "leaf") is not None  # the oldest is now 1
    cache.put(intent(3), None, credential(3))
    held = [cache.get(intent(number), None, "leaf") for number in range(4)]
    assert [each is not None for each in held] == [True, False, True, True]
    assert cache.get(intent(0), timedelta(minutes=1), "leaf") is None, "another lifetime was asked for"
    await cache.close()


async def test_before_the_stream_has_spoken_nothing_is_given() -> None:
    cache = ReadCache(clock=lambda: NOW, follow=Stream(allowed=True))
    cache.put(intent(0), None, credential(0))
    assert cache.get(intent(0), None, "leaf") is None
    await turn()
    assert cache.get(intent(0), None, "leaf") is not None
    await cache.close()


async def test_a_stream_that_is_not_allowed_is_not_asked_for_at_each_call() -> None:
    now, stream = [NOW], Stream(allowed=False)
    cache = ReadCache(clock=lambda: now[0], follow=stream)
    for number in range(5):
        cache.put(intent(number), None, credential(number))
        await turn()
    assert stream.opened == 1
    assert not cache._entries
    now[0], stream.allowed = NOW + REST, True
    cache.put(intent(0), None, credential(0))
    await turn()
    assert stream.opened == 2
    await cache.close()


async def test_what_is_good_once_is_neither_held_nor_shared() -> None:
    cache = ReadCache(clock=lambda: NOW, follow=Stream(allowed=True))
    cache.put(intent(0), None, credential(0))
    await turn()
    kinds: tuple[tuple[Literal["many", "once"], bool], ...] = (("many", True), ("once", False))
    for use, shared in kinds:
        asked: list[Credential] = []
        go = asyncio.Event()

        async def ask(
            use: Literal["many", "once"] = use, asked: list[Credential] = asked, go: asyncio.Event = go
        ) -> Credential:
            await go.wait()
            asked.append(replace(credential(len(asked)), use=use))
            return asked[-1]

        both = [asyncio.create_task(cache.obtain(intent(9), None, "leaf", ask)) for _ in range(3)]
        await turn()
        go.set()
        given = {each.id for each in await asyncio.gather(*both)}
        assert (len(given), len(asked)) == ((1, 1) if shared else (3, 3))
        assert (cache.get(intent(9), None, "leaf") is not None) is shared
        cache.forget(asked[0])
    await cache.close()
