"""A flood of refusals does not fill the log: ten events a second for one source and reason, the others counted."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from broker.errors import Refusal
from broker.operations.record import Recorder, RefusalMeter
from broker.store.interface import Committed, Item, Store, StoreUnavailable
from broker.v1 import exchange_pb2_grpc
from tests.attacks.entrances import begin_task, items, outcome, request
from tests.attacks.house import House
from tests.operations.world import SUPPORT, WHOLESALE
from tests.polling import eventually

FLOOD = 1000
SHORT_FLOOD = 200


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
        house.time.still = datetime.now(UTC)  # all within one second of the meter, however long they take
        for _ in range(40):
            assert (await outcome(begin_task(loud.channel))).reason == "SVID_CHAIN_INVALID"
        told = await outcome(begin_task(quiet.channel))
        assert len(await house.recorded(told.request)) == 1
        house.time.still = None

    async def all_there() -> bool:
        events = await house.log()
        counted = sum(event["count"] for event in events if event["type"] == "refusals.suppressed")
        written = [event for event in events if event.get("reason") == "SVID_CHAIN_INVALID" and "request" in event]
        return bool(counted == 30 and len(written) == 11)

    await eventually(all_there)


async def test_a_broker_that_stops_writes_its_counts_first(own_house: House) -> None:
    house = own_house
    call: Any = exchange_pb2_grpc.ExchangeServiceStub(house.good(SUPPORT)).ExchangeStream()
    await call.write(items(*[request(purpose="curiosity") for _ in range(SHORT_FLOOD)]))
    answered = 0
    while answered < SHORT_FLOOD:
        answered += len((await call.read()).items)
    call.cancel()
    await house.restart()
    events = await house.log(whole=True)
    written = [event for event in events if event.get("reason") == "PURPOSE_REFUSED" and "request" in event]
    counted = [event["count"] for event in events if event["type"] == "refusals.suppressed"]
    assert len(written) + sum(counted) == answered
    assert counted


class Unwritable:
    """A store that cannot be written for a while."""

    def __init__(self) -> None:
        self.broken = True
        self.written = 0

    def commit(self, group: Sequence[Item]) -> list[Committed]:
        if self.broken:
            raise StoreUnavailable("a test")
        self.written += len(group)
        return [Committed(position=0, revoked=()) for _ in group]


async def test_counts_outlive_a_store_that_cannot_be_written() -> None:
    store = Unwritable()
    recorder = Recorder(store=cast(Store, store), salt=lambda: bytes(32), meter=RefusalMeter())
    now = datetime.now(UTC)
    for _ in range(11):
        recorder.meter.admits("somebody", "POLICY_FORBIDDEN", now)
    with pytest.raises(Refusal):
        recorder.flush_suppressed(now, everything=True)
    store.broken = False
    recorder.flush_suppressed(now)
    assert store.written == 1
