"""A flood of refusals does not fill the log: ten events a second for one source and reason, the others counted."""

from collections import Counter
from typing import Any

from broker.v1 import exchange_pb2_grpc
from tests.attacks.entrances import begin_task, items, outcome, request
from tests.attacks.house import House
from tests.operations.world import SUPPORT, WHOLESALE
from tests.polling import eventually

FLOOD = 1000


async def test_a_flood_is_counted_and_not_written(own_house: House) -> None:
    house, who = own_house, SUPPORT
    call: Any = exchange_pb2_grpc.ExchangeServiceStub(house.good(who)).ExchangeStream()
    refused: Counter[str] = Counter()
    for _ in range(FLOOD // 250):
        await call.write(items(*[request(purpose="curiosity") for _ in range(250)]))
    while refused.total() < FLOOD:
        refused.update(item.WhichOneof("outcome") for item in (await call.read()).items)
    # The neighbour's first refusal, and another reason of the same source, have their events in the midst of it.
    other = await outcome(begin_task(house.good(WHOLESALE), purpose="curiosity"))
    same = await outcome(begin_task(house.good(who), tenant="wholesale"))
    call.cancel()
    assert refused == {"refusal": FLOOD}
    assert len(await house.recorded(other.request)) == 1
    assert len(await house.recorded(same.request)) == 1

    async def all_there() -> bool:
        events = await house.log()
        written = [
            event for event in events if event.get("reason") == "PURPOSE_REFUSED" and event.get("spiffe_id") == who
        ]
        counted = [
            event for event in events if event["type"] == "refusals.suppressed" and event["opened"]["source"] == who
        ]
        seconds = Counter(event["at"][:19] for event in written)
        # A second of the meter begins with its first refusal, so that two of them can lie in one of the clock's.
        assert max(seconds.values()) <= 20
        assert len(written) <= 10 * (len(seconds) + 1)
        assert {event["reason"] for event in counted} <= {"PURPOSE_REFUSED"}
        return bool(len(written) + sum(event["count"] for event in counted) == FLOOD)

    await eventually(all_there)
    assert any(event["type"] == "refusals.suppressed" for event in house.events)


async def test_strangers_are_counted_by_address(own_house: House) -> None:
    """Nobody's name is proven: the address counts, so that one of them cannot hide another."""
    house = own_house
    async with (
        house.wire(house.svid(SUPPORT, by=house.partner)) as loud,
        house.wire(house.svid(SUPPORT, by=house.partner)) as quiet,
    ):
        for _ in range(40):
            assert (await outcome(begin_task(loud.channel))).reason == "SVID_CHAIN_INVALID"
        told = await outcome(begin_task(quiet.channel))
        assert len(await house.recorded(told.request)) == 1

    async def all_there() -> bool:
        events = await house.log()
        counted = sum(event["count"] for event in events if event["type"] == "refusals.suppressed")
        written = [event for event in events if event.get("reason") == "SVID_CHAIN_INVALID" and "request" in event]
        return bool(counted > 0 and counted + len(written) == 41)

    await eventually(all_there)
