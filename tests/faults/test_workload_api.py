"""What gives the broker its identity dies, hangs, refuses, talks garbage, or forgets an authority: a broker's own view.

tests/spire does the like with a real SPIRE; tests/link looks at the source alone.
"""

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from tests.faults.client import Client, supply_of
from tests.faults.ledger import Held, differences
from tests.faults.spawned import Spawned, spawn
from tests.operations.world import SUPPORT
from tests.polling import eventually

LIVES = timedelta(seconds=8)


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Spawned]:
    async with spawn(tmp_path_factory.mktemp("b")) as spawned:
        yield spawned


async def asked_anew(broker: Spawned) -> Held | str:
    """Ask over a connection of its own, as somebody does who comes now."""
    client = Client.open(supply_of(broker.domain.svid(SUPPORT), broker.domain), broker.port, broker.ledger)
    try:
        return await client.exchange(broker.name("anew"))
    finally:
        await client.close()


async def until(broker: Spawned, *, served: bool) -> float:
    """Wait until whoever comes now is served, or is not; return how long that took, in seconds."""
    begun = time.monotonic()

    async def so() -> bool:
        return isinstance(await asked_anew(broker), Held) is served

    await eventually(so, within=60)
    return time.monotonic() - begun


def well(broker: Spawned) -> None:
    broker.api.give_svid(broker.domain.svid("/broker"), broker.domain)


async def check(broker: Spawned, what: str) -> None:
    print(f"{what}: served again after {await until(broker, served=True):.1f} s")  # noqa: T201 -- a figure
    assert await broker.security.keep_checkpoint()
    assert differences(broker.ledger, broker.facts()) == []


BRIEF: dict[str, Callable[[Spawned], object]] = {
    "garbage": lambda broker: broker.api.give_garbage(),
    "empty": lambda broker: broker.api.give(),  # no answer that the Workload API knows: as garbage
    "gone": lambda broker: broker.api.stop(),
    "unavailable": lambda broker: broker.api.refuse(grpc.StatusCode.UNAVAILABLE),
}


@pytest.mark.parametrize("trouble", BRIEF.values(), ids=BRIEF)
async def test_the_broker_goes_on_with_what_it_has(broker: Spawned, trouble: Callable[[Spawned], object]) -> None:
    await until(broker, served=True)
    trouble(broker)
    for _ in range(5):
        assert isinstance(await broker.agent.exchange(broker.name("meanwhile")), Held)
        assert isinstance(await asked_anew(broker), Held)
    broker.api.stop()
    broker.api.start()
    well(broker)
    await check(broker, "trouble")


async def test_an_identity_that_is_taken_away_is_used_no_more(broker: Spawned) -> None:
    await until(broker, served=True)
    broker.api.refuse()
    await until(broker, served=False)
    well(broker)
    await check(broker, "taken away")


async def test_an_svid_that_nobody_renews_is_not_used_beyond_its_end(broker: Spawned) -> None:
    await until(broker, served=True)
    broker.domain.now = datetime.now(UTC).replace(microsecond=0)
    ends = broker.domain.now + LIVES
    broker.api.give_svid(broker.domain.svid("/broker", ttl=LIVES), broker.domain)
    await until(broker, served=False)
    assert datetime.now(UTC) >= ends - timedelta(seconds=1), "it stopped serving though its SVID was good"
    well(broker)
    await check(broker, "expired")


async def test_callers_of_an_authority_that_is_gone_are_refused_until_it_is_back(broker: Spawned) -> None:
    await until(broker, served=True)
    domain, leaf = broker.domain, broker.domain.svid(SUPPORT)
    domain.add_authority()
    old = Client.open(supply_of(leaf, domain), broker.port, broker.ledger)
    try:
        well(broker)
        await eventually(lambda: _given(old, broker))
        gone = domain.remove_authority()
        well(broker)

        async def refused() -> bool:
            return not await _given(old, broker)

        await eventually(refused)
        given = len(broker.ledger.held)
        assert not any([await _given(old, broker) for _ in range(5)])
        assert len(broker.ledger.held) == given
        domain.authorities[:] = [gone]
        well(broker)
        await eventually(lambda: _given(old, broker))
    finally:
        await old.close()
    await check(broker, "forgotten authority")


async def _given(client: Client, broker: Spawned) -> bool:
    return isinstance(await client.exchange(broker.name("by-an-authority")), Held)
