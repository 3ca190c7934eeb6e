"""Readers of the streams: each its own only, nothing lost or twice (H2, H4); of those that stall: test_stalled.py."""

import asyncio
from itertools import pairwise
from typing import Any

import grpc
from pyroaring import BitMap

from tests.attacks.entrances import exchange, first, outcome, request, revocations, revoke
from tests.attacks.house import INVOICES, House
from tests.attacks.readers import session
from tests.operations.world import ORDERS, SECURITY, SUPPORT, WHOLESALE
from tests.polling import eventually
from tests.streams.history import violations
from tests.streams.raw import Raw
from tests.streams.traffic import Traffic, dice
from tests.streams.truth import Log, View

SOON = 2.0


async def heard(call: Any, **wanted: int) -> Any:
    """Read on until a message has what is wanted; its ranges leave nothing out."""
    reached: int | None = None
    async with asyncio.timeout(60):
        while True:
            message = await call.read()
            assert message is not grpc.aio.EOF
            assert reached is None or message.from_position == reached
            reached = message.to_position
            if all(len(getattr(message, name)) >= least for name, least in wanted.items()):
                return message


async def test_h2_a_reader_hears_of_its_own_only(own_house: House) -> None:
    house = own_house
    orders = [(await exchange(house.good(SUPPORT), request())).credential for _ in range(3)]
    invoice = (await exchange(house.good(SUPPORT), request(audience=INVOICES))).credential
    await exchange(house.good(WHOLESALE), request())
    calls = {who: revocations(house.good(who)) for who in (ORDERS, INVOICES, SUPPORT, WHOLESALE)}
    opened = {who: await call.read() for who, call in calls.items()}
    assert not BitMap.deserialize(opened[ORDERS].snapshot.status_indexes)
    assert opened[ORDERS].HasField("key_set")
    assert not opened[SUPPORT].HasField("key_set")
    await revoke(house.good(SECURITY), credential_id=orders[2].credential_id)
    await revoke(house.good(SECURITY), agent=WHOLESALE)
    # 2 and 3 are the places of these credentials in the list of this audience, and nobody else's.
    assert list((await heard(calls[ORDERS], revoked=1)).revoked[0].status_indexes) == [2]
    assert list((await heard(calls[SUPPORT], revoked=1)).revoked[0].credential_ids) == [orders[2].credential_id]
    told = await heard(calls[INVOICES])
    while told.heartbeat.position < (await house.issuer.state()).size:
        assert not told.revoked
        told = await heard(calls[INVOICES])
    snapshots = {who: (await first(revocations(house.good(who)))).snapshot for who in (ORDERS, INVOICES, SUPPORT)}
    assert set(BitMap.deserialize(snapshots[ORDERS].status_indexes)) == {2, 3}
    assert not BitMap.deserialize(snapshots[INVOICES].status_indexes)
    assert list(snapshots[SUPPORT].credential_ids) == [orders[2].credential_id]
    assert (await outcome(first(revocations(house.good(WHOLESALE))))).reason == "AGENT_REVOKED"
    await revoke(house.good(SECURITY), credential_id=invoice.credential_id)
    assert list((await heard(calls[INVOICES], revoked=1)).revoked[0].status_indexes) == [0]
    for call in calls.values():
        call.cancel()


async def test_h4_what_eight_write_at_once_comes_once_and_in_order(own_house: House) -> None:
    house = own_house
    writers = [Traffic(house=house, dice=dice(seed)) for seed in range(8)]
    log = Raw(house=house, view=View(stream="audit", reader=SECURITY))
    feed = Raw(house=house, view=View(stream="revocations", reader=ORDERS))

    async def write(traffic: Traffic) -> None:
        for _ in range(6):
            await traffic.round()

    async def read(reader: Raw, wanted: int) -> None:
        while (reader.reached or 0) < wanted:
            await reader.read_to((reader.reached or 0) + 7)  # and resumes

    async with asyncio.TaskGroup() as group:
        for reader in (log, feed):
            group.create_task(read(reader, 200))
        for traffic in writers:
            group.create_task(write(traffic))
    size = (await house.issuer.state()).size
    known = [each for traffic in writers for each in traffic.known]
    for reader in (log, feed):
        await reader.read_to(size)
        truth = Log.read(house.settings.store.path).truth(reader.view, until=size, known=known)
        assert len(truth.contents) > 20
        assert not violations(reader.history(), truth)
    for traffic in writers:
        await traffic.close()


async def test_h5_heartbeats_come_as_often_as_configured(house: House) -> None:
    call = revocations(house.good(ORDERS), timeout=None)
    await call.read()

    async def beats() -> bool:
        """Whether so many came in ten beats of the configuration, one of the default; a busy machine has it again."""
        begun = asyncio.get_running_loop().time()
        for _ in range(4):
            assert (await call.read()).HasField("heartbeat")
        return asyncio.get_running_loop().time() - begun < SOON

    await eventually(beats)
    call.cancel()


async def test_the_sdk_resumes_without_gap_and_without_repeating(own_house: House) -> None:
    """Two restarts under both streams: every position once, in order, and every revocation once."""
    house = own_house
    async with session(house, SECURITY) as operator, session(house, ORDERS) as service:
        log: Any = operator.subscribe_audit()
        feed: Any = service.subscribe_revocations()
        positions: list[int] = []
        revoked: list[int] = []
        ranges: list[tuple[int, int]] = []
        for _ in range(3):
            channel = house.channel(house.svid(SUPPORT))
            given = (await exchange(channel, request())).credential
            security = house.channel(house.svid(SECURITY))
            position = (await revoke(security, credential_id=given.credential_id)).position
            async with asyncio.timeout(60):
                while position not in revoked:
                    message = await anext(feed)
                    ranges.append((message.from_position, message.to_position))
                    if message.HasField("snapshot"):
                        revoked.append(position)  # the first one stands in the snapshot
                    revoked += [each.position for each in message.revoked]
                while not positions or positions[-1] < position:
                    positions += [event.position for event in (await anext(log)).events]
            await house.restart()
        assert positions == list(range(len(positions)))
        assert len(revoked) == len(set(revoked)) == 3
        assert all(before[1] == after[0] for before, after in pairwise(ranges))
        for stream in (log, feed):
            await stream.aclose()
