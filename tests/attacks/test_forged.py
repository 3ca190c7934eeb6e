"""Events from somebody who is not the broker: neither the SDK nor a validator takes any (H6).

The forger is a whole broker of its own, with its own log and its own keys, on the broker's very port. All that it lacks
is the broker's SVID; it has another one that is good, as any workload has that was broken into.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from broker.app.door import open_door
from broker.app.identity import open_identity
from broker.app.issuer import open_issuer
from broker.client import CursorFile, Unreachable, follow_audit, follow_revocations
from broker.errors import Reason, Refusal
from broker.intent import Resource
from broker.server.door import Door
from broker.settings import Settings
from broker.svid.leaf import thumbprint_of
from broker.validator import Bounds, Call, NoFeed, connect
from tests.attacks.entrances import exchange, request, revoke
from tests.attacks.house import NAME, House, open_house
from tests.attacks.readers import session
from tests.fakes.trust_domain import pem
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import BROKER, ORDERS, SECURITY, SUPPORT
from tests.polling import eventually

ISSUER = "https://broker.example.org"
CALL = Call(action="order.read", resource=Resource(type="order", id="1234"), tenant="retail")
TRIES = 2
FORGERS = {
    "another-workload": "spiffe://example.org/service/orders",
    "a-longer-path": "spiffe://example.org/broker/2",
    "another-domain": "spiffe://partner.example/broker",
}
forged_by = pytest.mark.parametrize("who", FORGERS.values(), ids=FORGERS)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Forger:
    """Somebody who serves at the broker's port."""

    door: Door

    async def is_tried_in_vain(self) -> None:
        """See connections come, and none of them bring a call."""
        counters = self.door._counters
        before, called = counters.handshakes_begun, counters.connections_with_a_call

        async def tried() -> bool:
            return counters.handshakes_begun >= before + TRIES

        await eventually(tried)
        assert counters.connections_with_a_call == called


@asynccontextmanager
async def forged(house: House, who: str) -> AsyncIterator[Forger]:
    """Let a forger serve on the house's port, with a log that has grown further than the house's."""
    await house.stop()
    async with AsyncExitStack() as stack:
        settings = _settings_of(house, who, await _supplied(house, who, stack))
        identity = await stack.enter_async_context(open_identity(settings))
        issuer = await stack.enter_async_context(open_issuer(settings, identity.bundles, house.time))
        door = await stack.enter_async_context(open_door(settings, identity, issuer))
        agent, operator = careless(house, SUPPORT), careless(house, SECURITY)
        for _ in range(20):  # the control: who does not look whom it talks to is served
            given = (await exchange(agent, request())).credential
            await revoke(operator, credential_id=given.credential_id)
        await agent.close()
        await operator.close()
        yield Forger(door=door)


def careless(house: House, who: str) -> grpc.aio.Channel:
    """Connect as gRPC does by itself: to any workload of any domain that is trusted."""
    svid = house.svid(who)
    roots = pem([*house.home.bundle, *house.partner.bundle])
    credentials = grpc.ssl_channel_credentials(roots, svid.private_key, svid.certificate_chain)
    options = [("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(f"127.0.0.1:{house.door.port}", credentials, options=options)


async def _supplied(house: House, who: str, stack: AsyncExitStack) -> WorkloadApi:
    (house.folder / "forger").mkdir()
    api = WorkloadApi(house.folder / "forger" / "agent.sock")
    own, other = (house.home, house.partner) if house.domain_of(who) is house.home else (house.partner, house.home)
    api.give_svid(house.svid(who, dns=(NAME,), ttl=timedelta(hours=12)), own, other)
    stack.callback(api.start().stop)
    return api


def _settings_of(house: House, who: str, api: WorkloadApi) -> Settings:
    folder, settings = house.folder / "forger", house.settings
    changes: dict[str, dict[str, Any]] = {
        "broker": {"spiffe_id": who},
        "admin": {"socket": folder / "admin.sock"},
        "workload_api": {"socket": api.socket},
        "store": {"url": f"sqlite:///{folder}/broker.sqlite3"},
        "keys": {"dir": folder / "keys"},
    }
    return settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=change) for name, change in changes.items()}
    )


async def positions(subscriber: Any, count: int) -> list[int]:
    async with asyncio.timeout(60):
        return [(await anext(subscriber)).value.position for _ in range(count)]


@asynccontextmanager
async def reading(subscriber: Any) -> AsyncIterator[None]:
    """Have a subscriber wait for something, and see that nothing came and that it was still waiting."""
    waiting = asyncio.ensure_future(anext(subscriber))
    try:
        yield
        assert not waiting.done(), waiting.result()
    finally:
        waiting.cancel()
        await asyncio.wait({waiting})


@forged_by
async def test_h6_the_sdk_takes_no_event_of_another(house: House, who: str) -> None:
    """Neither over a new stream nor over one that is resumed; the broker's own come when it is back."""
    path = house.folder / "audit.cursor"
    with CursorFile(path) as cursors:
        async with session(house, SECURITY) as opened, follow_audit(opened, cursors) as subscriber:
            received = [await anext(subscriber) for _ in range(3)]
            await subscriber.ack(received[-1])
        before = path.read_bytes()
        async with forged(house, who) as forger, session(house, SECURITY) as opened:
            async with follow_audit(opened, cursors) as subscriber, reading(subscriber):
                await forger.is_tried_in_vain()
            async with follow_audit(opened) as subscriber, reading(subscriber):
                await forger.is_tried_in_vain()
            async with follow_revocations(opened) as feed, reading(feed):
                await forger.is_tried_in_vain()
            with pytest.raises(Unreachable, match=f"The server is {who}|CERTIFICATE_VERIFY_FAILED"):
                await opened.exchange(
                    action="order.read", resource=("order", "1"), purpose="customer-support", audience=ORDERS
                )
        assert path.read_bytes() == before
        await house.start()
        async with session(house, SECURITY) as opened, follow_audit(opened, cursors) as subscriber:
            assert await positions(subscriber, 2) == [3, 4]


@forged_by
async def test_h6_a_stream_goes_on_at_the_broker_and_nowhere_else(house: House, who: str) -> None:
    """The forger takes the broker's place underneath a stream, and gives it back."""
    async with session(house, SECURITY) as opened, follow_audit(opened) as subscriber:
        assert await positions(subscriber, 3) == [0, 1, 2]
        size = (await house.issuer.state()).size
        assert await positions(subscriber, size - 3) == list(range(3, size))
        waiting = asyncio.ensure_future(positions(subscriber, 1))
        async with forged(house, who) as forger:
            await forger.is_tried_in_vain()
            assert not waiting.done(), waiting.result()
        await house.start()
        assert await waiting == [size]


async def test_h6_who_asks_for_the_other_by_name_is_served(house: House) -> None:
    """The control: nothing is wrong with the forger but its name."""
    who = FORGERS["another-workload"]
    async with forged(house, who), session(house, SECURITY, broker=who) as opened, follow_audit(opened) as subscriber:
        assert await positions(subscriber, 30) == list(range(30))


@forged_by
async def test_h6_a_validator_takes_neither_revocations_nor_keys_of_another(house: House, who: str) -> None:
    api = WorkloadApi(house.folder / "orders.sock")
    api.give_svid(house.svid(ORDERS), house.home)
    svid = house.svid(SUPPORT)
    channel = house.channel(svid)
    token = (await exchange(channel, request())).credential.token
    await channel.close()
    api.start()
    address = f"127.0.0.1:{house.door.port}"
    bounds = Bounds.same(timedelta(minutes=5))
    async with connect(address, broker_id=BROKER, issuer=ISSUER, socket=api.socket, bounds=bounds) as service:
        view, own = service.validation.validator._view, thumbprint_of(svid.leaf)

        def judged() -> Reason | None:
            try:
                service.validation.validator.check(token, CALL, caller_thumbprint=own, now=datetime.now(UTC))
            except Refusal as refusal:
                return refusal.reason
            return None

        await service.ready()
        assert judged() is None
        before = (view.stop, view.count, view.keys, view.key_epoch)
        async with forged(house, who) as forger:  # there the index of this very credential is revoked
            await forger.is_tried_in_vain()
            assert (view.stop, view.count, view.keys, view.key_epoch) == before
            assert judged() is None
            assert str(service.tunnel.last_error).startswith(("The server is", "[SSL: CERTIFICATE_VERIFY_FAILED]"))
        await house.start()
        await comes_true(lambda: view.stop > before[0])
        assert (view.count, view.keys) == before[1:3]
    await asyncio.to_thread(api.stop)


async def comes_true(condition: Callable[[], bool]) -> None:
    async def probe() -> bool:
        return condition()

    await eventually(probe)


@forged_by
async def test_h6_a_validator_that_knows_only_another_judges_nothing(house: House, who: str) -> None:
    api = WorkloadApi(house.folder / "orders.sock")
    api.give_svid(house.svid(ORDERS), house.home)
    api.start()
    address = f"127.0.0.1:{house.door.port}"
    async with (
        forged(house, who) as forger,
        connect(address, broker_id=BROKER, issuer=ISSUER, socket=api.socket) as service,
    ):
        await forger.is_tried_in_vain()
        with pytest.raises(NoFeed, match=r"The server is|CERTIFICATE_VERIFY_FAILED"):
            await service.ready(within=0.1)
    await asyncio.to_thread(api.stop)
