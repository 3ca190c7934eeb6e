"""A service that `connect` has made: its SVID is renewed or taken back, the broker is somebody else or away."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from broker.validator import FeedSettings, GuardedService, NoFeed, connect
from tests.attacks.house import House, open_house
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import BROKER, ORDERS
from tests.polling import eventually

ISSUER = "https://broker.example.org"


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


@pytest.fixture
def workload(house: House) -> Iterator[WorkloadApi]:
    api = WorkloadApi(house.folder / "orders.sock")
    api.give_svid(house.svid(ORDERS), house.home)
    api.start()
    yield api
    api.stop()


def opened(
    house: House, workload: WorkloadApi, *, broker_id: str = BROKER
) -> AbstractAsyncContextManager[GuardedService]:
    address = f"127.0.0.1:{house.door.port}"
    return connect(address, broker_id=broker_id, issuer=ISSUER, socket=workload.socket)


def age(service: GuardedService) -> timedelta:
    """How old what the service knows is; a day when it knows nothing."""
    return service.validation.validator._view.staleness(datetime.now(UTC)) or timedelta(days=1)


async def no_feed_for(service: GuardedService, why: str) -> bool:
    """Whether what there is no feed for is known by now, and is this."""
    with pytest.raises(NoFeed) as none:
        await service.ready(within=0.5)
    return why in str(none.value)


async def test_a_renewed_svid_is_no_reason_to_wait(
    house: House, workload: WorkloadApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """High-impact calls may be judged on a view that has missed no heartbeat: there is no time for a pause in that."""
    hour = timedelta(hours=1)
    patient = partial(FeedSettings, first_pause=hour, longest_pause=hour)
    monkeypatch.setattr("broker.validator.validation.FeedSettings", patient)
    async with opened(house, workload) as service:
        await service.ready()
        for _ in range(5):
            before = service.source.identity().thumbprint
            workload.give_svid(house.svid(ORDERS), house.home)

            async def renewed(before: str = before) -> bool:
                return service.source.identity().thumbprint != before

            await eventually(renewed)
            since = datetime.now(UTC)

            async def heard(since: datetime = since) -> bool:
                return datetime.now(UTC) - age(service) > since

            await eventually(heard)


async def test_somebody_else_in_the_brokers_place_is_not_believed(house: House, workload: WorkloadApi) -> None:
    async with opened(house, workload, broker_id="spiffe://example.org/elsewhere") as service:
        assert await eventually(partial(no_feed_for, service, "elsewhere"))
        assert age(service) == timedelta(days=1)
    async with opened(house, workload) as service:
        await service.ready()


async def test_a_broker_by_its_address_of_ip_version_6(house: House, workload: WorkloadApi) -> None:
    """It is called, even where nobody listens there."""
    address = f"[::1]:{house.door.port}"
    async with connect(address, broker_id=BROKER, issuer=ISSUER, socket=workload.socket) as service:
        assert await eventually(partial(no_feed_for, service, "('::1', "))


async def test_a_broker_that_is_away_at_the_start_is_found_when_it_comes(house: House, workload: WorkloadApi) -> None:
    await house.stop()
    async with opened(house, workload) as service:
        with pytest.raises(NoFeed):
            await service.ready(within=0.5)
        await house.start()
        await service.ready()


async def test_without_its_svid_a_service_learns_nothing_more(house: House, workload: WorkloadApi) -> None:
    async with opened(house, workload) as service:
        await service.ready()
        workload.refuse()

        async def cut_off() -> bool:
            return service.tunnel.connections == 0 and age(service) > timedelta(seconds=1)

        await eventually(cut_off)
        workload.give_svid(house.svid(ORDERS), house.home)

        async def heard() -> bool:
            return age(service) < timedelta(seconds=0.5)

        await eventually(heard)
