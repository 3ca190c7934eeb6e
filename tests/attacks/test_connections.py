"""Connections that outlive what they stood on: an SVID, a session, an authority, a federation (threats.md F2, M2)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from broker.errors import Reason
from tests.attacks.entrances import BY_NAME, ENTRANCES, Entrance, exchange, outcome, request
from tests.attacks.house import PARTNER_AUDITOR, House
from tests.attacks.test_svids import refused_once
from tests.attacks.wire import Wire
from tests.operations.world import COURIER, SUPPORT
from tests.polling import eventually

CALLERS = tuple(dict.fromkeys(entrance.who for entrance in ENTRANCES))
# Seconds that an SVID is good for: the first in which every entrance can be taken twice before it is over.
LIVES = (6, 15, 45)


@asynccontextmanager
async def wires(house: House, **form: Any) -> AsyncIterator[dict[str, Wire]]:
    """One wire for each rightful caller."""
    async with AsyncExitStack() as stack:
        yield {who: await stack.enter_async_context(house.wire(house.svid(who, **form))) for who in CALLERS}


async def all_served(opened: dict[str, Wire]) -> None:
    for entrance in ENTRANCES:
        told = await entrance(opened[entrance.who].channel)
        assert told.reason == entrance.control, (entrance.name, told)


@asynccontextmanager
async def served_until_the_end(
    house: House, served: Callable[[dict[str, Wire]], Awaitable[None]]
) -> AsyncIterator[dict[str, Wire]]:
    """Wires that were served, and whose SVIDs end soon: later, where they ended before all had been served."""
    for seconds in LIVES:
        over = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
        async with wires(house, ttl=timedelta(seconds=seconds)) as opened:
            try:
                await served(opened)
            except AssertionError:
                if datetime.now(UTC) < over:
                    raise
                continue
            yield opened
            return
    raise AssertionError(f"not all are served in {LIVES[-1]} s")


async def all_refused(house: House, opened: dict[str, Wire], reason: Reason) -> None:
    for entrance in ENTRANCES:
        house.time.ahead += timedelta(seconds=1)  # refusals are recorded at a rate, by source and reason
        await refused_once(house, await entrance(opened[entrance.who].channel), reason)


async def refusing(wire: Wire, reason: Reason) -> bool:
    """Whether an exchange on this wire is refused for this reason by now."""
    return (await outcome(exchange(wire.channel, request()))).reason == reason.name


async def test_f2_an_svid_that_ends_during_its_connection(own_house: House) -> None:
    house = own_house
    async with served_until_the_end(house, all_served) as opened:
        await eventually(lambda: refusing(opened[SUPPORT], Reason.SVID_EXPIRED))
        await all_refused(house, opened, Reason.SVID_EXPIRED)
    async with wires(house) as renewed:
        await all_served(renewed)


async def resume(wire: Wire) -> None:
    """Have the next connection offer the session of the last one."""
    assert wire.tls is not None
    wire.context.session = wire.tls.session
    await wire.drop()

    async def noticed() -> bool:
        return wire.channel.get_state() is not grpc.ChannelConnectivity.READY

    await eventually(noticed)  # a call before that would be lost with the connection


async def test_m2_an_svid_that_ended_before_its_session_is_resumed(own_house: House) -> None:
    house = own_house

    async def served(opened: dict[str, Wire]) -> None:
        await all_served(opened)
        for wire in opened.values():
            await resume(wire)
        await all_served(opened)  # the control: a session is resumed, and good for as long as its SVID is
        assert all(wire.tls is not None and wire.tls.session_reused for wire in opened.values())

    async with served_until_the_end(house, served) as opened:
        await eventually(lambda: refusing(opened[SUPPORT], Reason.SVID_EXPIRED))
        for wire in opened.values():
            await resume(wire)
        await all_refused(house, opened, Reason.SVID_EXPIRED)
        assert all(wire.tls is not None and wire.tls.session_reused for wire in opened.values())


async def test_f2_an_authority_that_is_removed_during_a_connection(own_house: House) -> None:
    house = own_house
    async with wires(house) as opened:
        await all_served(opened)
        house.home.add_authority()
        house.home.remove_authority()
        house.broker = house.svid(house.broker.id, dns=("broker.example.org",))
        house.trust(house.partner)
        await eventually(lambda: refusing(opened[SUPPORT], Reason.SVID_CHAIN_INVALID))
        await all_refused(house, opened, Reason.SVID_CHAIN_INVALID)
    async with wires(house) as renewed:
        await all_served(renewed)


AT_PARTNERS = (
    Entrance(name="Exchange", who=COURIER, ask=lambda to: exchange(to, request(purpose="delivery"))),
    Entrance(name="SubscribeRevocations", who=COURIER, ask=BY_NAME["SubscribeRevocations"].ask),
    Entrance(name="Health.Check", who=COURIER, ask=BY_NAME["Health.Check"].ask),
    Entrance(name="Health.Watch", who=COURIER, ask=BY_NAME["Health.Watch"].ask),
    Entrance(name="GetKeySet", who=COURIER, ask=BY_NAME["GetKeySet"].ask),
    Entrance(name="SubscribeAudit", who=PARTNER_AUDITOR, ask=BY_NAME["SubscribeAudit"].ask),
    Entrance(name="GetCheckpoint", who=PARTNER_AUDITOR, ask=BY_NAME["GetCheckpoint"].ask),
    Entrance(name="Revoke", who=PARTNER_AUDITOR, ask=BY_NAME["Revoke"].ask, control="CREDENTIAL_UNKNOWN"),
    Entrance(
        name="LiftRevocation",
        who=PARTNER_AUDITOR,
        ask=BY_NAME["LiftRevocation"].ask,
        control="REVOCATION_UNKNOWN",
    ),
)


@pytest.mark.parametrize("how", ["on-the-old-connection", "on-a-resumed-session"])
async def test_d4_a_federation_that_ends_during_a_connection(own_house: House, how: str) -> None:
    house = own_house
    async with (
        house.wire(house.svid(COURIER)) as courier,
        house.wire(house.svid(PARTNER_AUDITOR)) as auditor,
    ):
        opened = {COURIER: courier, PARTNER_AUDITOR: auditor}
        for entrance in AT_PARTNERS:
            told = await entrance(opened[entrance.who].channel)
            assert told.reason == entrance.control, (entrance.name, told)
        house.trust()
        await eventually(lambda: refusing(courier, Reason.SVID_TRUST_DOMAIN_UNKNOWN))
        if how == "on-a-resumed-session":
            for wire in opened.values():
                await resume(wire)
            # The roots have changed, and with them what sessions are bound to: TLS lets none of them in.
            before = (await house.status()).connections_with_a_call
            for entrance in AT_PARTNERS:
                assert (await entrance(opened[entrance.who].channel)).code.name == "UNAVAILABLE"
            assert (await house.status()).connections_with_a_call == before
        else:
            for entrance in AT_PARTNERS:
                told = await entrance(opened[entrance.who].channel)
                await refused_once(house, told, Reason.SVID_TRUST_DOMAIN_UNKNOWN)
        assert not (await outcome(exchange(house.good(SUPPORT), request()))).reason
        house.trust(house.partner)

        async def back() -> bool:
            return not (await outcome(exchange(courier.channel, request(purpose="delivery")))).reason

        await eventually(back)


async def test_i6_a_broker_whose_identity_is_taken_back_lets_nobody_in(own_house: House) -> None:
    """The Workload API denies: what was trusted is trusted no longer, and is again when it answers."""
    house = own_house
    async with wires(house) as opened:
        await all_served(opened)
        house.workload.refuse()
        await eventually(lambda: refusing(opened[SUPPORT], Reason.TRUST_UNAVAILABLE))
        for entrance in ENTRANCES:
            told = await entrance(opened[entrance.who].channel)
            assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "TRUST_UNAVAILABLE"), entrance.name
        house.trust(house.partner)

        async def back() -> bool:
            return not (await outcome(exchange(opened[SUPPORT].channel, request()))).reason

        await eventually(back)
        await all_served(opened)
