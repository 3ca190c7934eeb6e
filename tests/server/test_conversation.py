"""ExchangeStream over loopback: many intents in one call."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from broker.errors import Reason, Refusal
from broker.v1 import exchange_pb2, exchange_pb2_grpc
from tests.server.world import (
    World,
    before_its_end,
    ended,
    open_world,
    read_status,
    request,
    settled,
    tasks,
    told,
    until,
)

STREAM = "/broker.v1.ExchangeService/ExchangeStream"
Item = exchange_pb2.ExchangeStreamRequest.Item


def message(*correlations: int, **changes: Any) -> exchange_pb2.ExchangeStreamRequest:
    items = [Item(correlation=number, request=request(**changes)) for number in correlations]
    return exchange_pb2.ExchangeStreamRequest(items=items)


class Talk:
    """A stream under test."""

    def __init__(self, world: World, *, deadline: float | None = None) -> None:
        self.call = exchange_pb2_grpc.ExchangeServiceStub(world.channel()).ExchangeStream(timeout=deadline)

    async def say(self, sent: exchange_pb2.ExchangeStreamRequest) -> None:
        await self.call.write(sent)

    async def hear(self) -> "exchange_pb2.ExchangeStreamResponse":
        async with asyncio.timeout(60):
            heard = await self.call.read()
        assert isinstance(heard, exchange_pb2.ExchangeStreamResponse), heard
        return heard

    async def hear_all(self, count: int) -> "list[exchange_pb2.ExchangeStreamResponse.Item]":
        items: list[exchange_pb2.ExchangeStreamResponse.Item] = []
        while len(items) < count:
            items.extend((await self.hear()).items)
        return items

    async def end(self) -> grpc.aio.AioRpcError:
        return await ended(self.call)


async def test_each_item_is_answered_under_its_number(world: World) -> None:
    talk = Talk(world)
    await talk.say(message(7, 3))
    await talk.say(message(9))
    await talk.call.done_writing()
    items = await talk.hear_all(3)
    assert sorted(item.correlation for item in items) == [3, 7, 9]
    assert all(item.credential.token for item in items)
    assert await talk.call.read() is grpc.aio.EOF
    assert await talk.call.code() is grpc.StatusCode.OK


async def test_evidence_goes_with_every_item(world: World) -> None:
    talk = Talk(world)
    await talk.say(message(1, 2))
    await talk.hear_all(2)
    decided = [call for call in world.issuer.calls if hasattr(call, "intent")]
    assert len(decided) == 2
    assert all(call.context.evidence.leaf == world.agent.leaf_pem for call in decided)  # type: ignore[attr-defined]


REFUSED_ITEMS = {
    "empty item": (Item(correlation=2), "REQUEST_INVALID"),
    "a rule broken": (Item(correlation=2, request=request(action="")), "REQUEST_INVALID"),
    "no one meaning": (Item(correlation=2, request=request(parameters="{")), "INTENT_PARAMETERS_SYNTAX"),
}


@pytest.mark.parametrize(("bad", "reason"), REFUSED_ITEMS.values(), ids=REFUSED_ITEMS.keys())
async def test_a_refused_item_ends_neither_the_stream_nor_its_neighbours(world: World, bad: Item, reason: str) -> None:
    talk = Talk(world)
    good = Item(correlation=1, request=request())
    await talk.say(exchange_pb2.ExchangeStreamRequest(items=[good, bad]))
    first, second = await talk.hear_all(2)
    assert first.credential.token
    answer = read_status(second.refusal, grpc.StatusCode.INVALID_ARGUMENT, second.refusal.message)
    assert (second.correlation, answer.reason) == (2, reason)
    assert second.refusal.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    await talk.say(message(4))
    assert (await talk.hear_all(1))[0].credential.token


async def test_what_policy_refuses_carries_decision_policies_and_sentence(world: World) -> None:
    world.issuer.refusal = None
    talk = Talk(world)
    await talk.say(message(1))
    await talk.hear_all(1)
    world.issuer.refusal = Refusal(
        Reason.POLICY_FORBIDDEN, policy_ids=("limit", "base"), decision_id="dec_1", sentence="Too much."
    )
    await talk.say(message(2))
    (item,) = await talk.hear_all(1)
    answer = read_status(item.refusal, grpc.StatusCode.PERMISSION_DENIED, item.refusal.message)
    assert answer.metadata["policy_ids"] == "limit,base"
    assert (answer.metadata["decision_id"], answer.sentence) == ("dec_1", "Too much.")


NOT_A_MESSAGE = {
    "garbage": (b"\xff\xff", "REQUEST_MALFORMED", grpc.StatusCode.INVALID_ARGUMENT),
    "unknown field": (
        message(1).SerializeToString() + b"\xf8\x7f\x01",
        "REQUEST_MALFORMED",
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "no items": (b"", "REQUEST_INVALID", grpc.StatusCode.INVALID_ARGUMENT),
    "257 items": (b"\x0a\x00" * 257, "LIMIT_STREAM_ITEMS", grpc.StatusCode.RESOURCE_EXHAUSTED),
    "half a million items": (b"\x0a\x00" * 500_000, "LIMIT_STREAM_ITEMS", grpc.StatusCode.RESOURCE_EXHAUSTED),
}


@pytest.mark.parametrize(("raw", "reason", "code"), NOT_A_MESSAGE.values(), ids=NOT_A_MESSAGE.keys())
async def test_what_is_not_a_message_ends_the_stream_and_is_recorded_once(
    world: World, raw: bytes, reason: str, code: grpc.StatusCode
) -> None:
    call: grpc.aio.StreamStreamCall[bytes, bytes] = world.channel().stream_stream(STREAM)(timeout=30)
    await call.write(message(1).SerializeToString())
    assert await call.read()  # a good one is answered
    await call.write(raw)
    answer = told(await ended(call))
    assert (answer.code, answer.reason) == (code, reason)
    assert [one.refusal.reason.name for one in world.issuer.refused] == [reason]


async def test_256_items_are_not_too_many(world: World) -> None:
    talk = Talk(world)
    await talk.say(message(*range(256)))
    assert len(await talk.hear_all(256)) == 256


async def test_what_piles_up_goes_as_one_group_and_comes_back_in_one_message(world: World) -> None:
    world.issuer.hold = asyncio.Event()
    talk = Talk(world)
    world.issuer.hold.set()
    await talk.say(message(0))
    await talk.hear_all(1)
    world.issuer.hold.clear()
    await talk.say(message(1))
    await until(lambda: world.issuer.groups == [1, 1])
    for number in range(2, 12):
        await talk.say(message(number))
    call: grpc.aio.StreamStreamCall[Any, Any] = talk.call
    await call.done_writing()
    await settled(lambda: world.issuer.groups)  # gives the messages time to arrive; nothing shows that they have
    world.issuer.hold.set()
    heard: list[int] = []
    while len(heard) < 11:
        answer = await talk.hear()
        heard.extend(item.correlation for item in answer.items)
    assert sorted(heard) == list(range(1, 12))
    assert max(world.issuer.groups) > 1


async def test_no_more_is_read_while_a_full_message_waits(world: World) -> None:
    """A caller that sends faster than the issuer decides is held back by flow control, not kept in memory."""
    world.issuer.hold = asyncio.Event()
    world.issuer.hold.set()
    talk = Talk(world)
    await talk.say(message(0))
    await talk.hear_all(1)
    world.issuer.hold.clear()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await talk.say(message(*range(200), parameters='{"a":"' + "x" * 2000 + '"}'))
            sent += 1

    flooding = asyncio.ensure_future(flood())
    await settled(lambda: sent)
    assert sent < 40  # 200 items wait, 200 more, and what the transport holds
    flooding.cancel()
    talk.call.cancel()
    world.issuer.hold.set()


async def test_an_issuer_that_is_away_refuses_items_and_not_the_stream(world: World) -> None:
    talk = Talk(world)
    await talk.say(message(1))
    await talk.hear_all(1)
    world.issuer.away = True
    await talk.say(message(2))
    (item,) = await talk.hear_all(1)
    assert read_status(item.refusal, grpc.StatusCode.UNAVAILABLE, "").reason == "ISSUER_UNAVAILABLE"
    world.issuer.away = False
    await talk.say(message(3))
    assert (await talk.hear_all(1))[0].credential.token


async def test_it_ends_when_the_svid_does() -> None:
    """Nothing is sent and nothing changes: the SVID's end alone ends it."""
    async with open_world(heartbeat=3600) as world:

        async def begin() -> Talk:
            talk = Talk(world)
            await talk.say(message(1))
            assert (await talk.hear_all(1))[0].credential.token
            return talk

        talk = await before_its_end(world, begin)
        answer = told(await talk.end())
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAUTHENTICATED, "SVID_EXPIRED")
        assert datetime.now(UTC) >= world.agent.leaf.not_valid_after_utc


async def test_it_ends_when_the_bundle_no_longer_holds_the_authority(world: World) -> None:
    talk, other = Talk(world), Talk(world)
    for each in (talk, other):
        await each.say(message(1))
        await each.hear_all(1)
    await world.issuer.change_authority()  # something else changed
    await other.say(message(2))
    assert (await other.hear_all(1))[0].credential.token
    world.domain.add_authority()
    world.domain.remove_authority()
    world.issuer.bundles = world.domain.bundles(epoch=2)
    await world.issuer.change_authority()
    assert told(await talk.end()).reason == "SVID_CHAIN_INVALID"


async def test_a_stranger_does_not_get_a_stream(world: World) -> None:
    world.agent = world.domain.svid("spiffe://other.org/agent")
    assert told(await Talk(world).end()).reason == "SVID_TRUST_DOMAIN_UNKNOWN"


async def test_a_caller_that_goes_away_leaves_no_task(world: World) -> None:
    warm = Talk(world)
    await warm.say(message(1))
    await warm.hear_all(1)
    await warm.call.done_writing()
    assert await warm.call.read() is grpc.aio.EOF
    before = tasks()
    world.issuer.hold = asyncio.Event()
    talk = exchange_pb2_grpc.ExchangeServiceStub(world.channels[0]).ExchangeStream()
    await asyncio.sleep(0)
    world.issuer.hold.set()
    await talk.write(message(1))
    assert await talk.read() is not grpc.aio.EOF
    world.issuer.hold.clear()
    await talk.write(message(2, 3))
    await until(lambda: world.issuer.groups[-1:] == [2])
    talk.cancel()
    await until(lambda: world.counters.calls.get(f"{STREAM} CANCELLED"))
    world.issuer.hold.set()
    await until(lambda: not tasks() - before)
    assert world.issuer.finished == 4
