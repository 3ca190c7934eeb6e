"""How a session lives: generations of the SVID, streams that go on, the Workload API, the end."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

import broker.client
from broker.client import BrokerError, Unauthenticated
from broker.client.session import Session
from broker.errors import Reason, Refusal
from tests.fakes.issuer import FakeIssuer
from tests.fakes.workload_api import WorkloadApi
from tests.server.supply import INTENT, Supply, session_with
from tests.server.world import BROKER, ORDERS, World, open_world, until

# --- generations ---------------------------------------------------------------------------------------------------


async def test_a_new_svid_begins_a_generation_and_the_old_one_keeps_its_leaf(
    world: World, session: Session, supply: Supply
) -> None:
    old = await session.exchange(**INTENT)
    supply.svid = world.domain.svid("/agent")
    new = await session.exchange(**INTENT)
    first, second = (call.context.evidence.leaf for call in world.issuer.calls)  # type: ignore[attr-defined]
    assert (first, second) == (world.agent.leaf_pem, supply.svid.leaf_pem)
    assert old.thumbprint != new.thumbprint
    address = f"127.0.0.1:{world.door.port}"
    lines = ((address, old, first), (address, new, second), (f"localhost:{world.door.port}", old, first))
    for where, credential, leaf in lines:  # the last one is opened only now, and still with the old leaf
        channel = session.channel(str(BROKER), where, credential=credential)
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/broker.v1.KeyService/GetKeySet")
        await call(b"", timeout=60)
        assert world.issuer.calls[-1].context.evidence.leaf == leaf  # type: ignore[attr-defined]


async def test_an_svid_that_is_over_takes_its_generation_with_it(
    world: World, session: Session, supply: Supply
) -> None:
    old = await session.exchange(**INTENT)
    world.ahead[0] = timedelta(minutes=59, seconds=50)
    supply.svid = world.domain.svid("/agent", ttl=timedelta(hours=3))
    session.channel(ORDERS, "localhost:1", credential=old)  # still good
    world.ahead[0] = timedelta(hours=2)
    await session.exchange(**INTENT)
    with pytest.raises(BrokerError, match="exchange again"):
        session.channel(ORDERS, "localhost:1", credential=old)


# --- streams -------------------------------------------------------------------------------------------------------


async def test_a_stream_goes_on_where_it_was_when_the_issuer_was_away(world: World, session: Session) -> None:
    await world.issuer.append(3)
    positions: list[int] = []
    opened = 0
    async for message in session.subscribe_audit():
        positions += [event.position for event in message.events]
        if len(positions) == 3 and not opened:
            opened += 1
            await world.issuer.leave()  # the heartbeat's page is refused, and the stream ends
            await until(lambda: world.counters.calls.get("/broker.v1.AuditService/SubscribeAudit UNAVAILABLE"))
            world.issuer.away = False
            await world.issuer.append(2)
        if len(positions) == 5:
            break
    assert positions == [0, 1, 2, 3, 4]


async def test_a_stream_that_is_refused_for_good_ends(world: World, session: Session) -> None:
    world.issuer.refusal = Refusal(Reason.CURSOR_TAMPERED)
    with pytest.raises(broker.client.OutOfRange):
        async for _ in session.subscribe_revocations(cursor="x"):
            pass


async def test_a_stream_goes_on_with_a_new_svid() -> None:
    async with open_world(heartbeat=0.1) as world:
        supply = Supply(world.domain, world.agent)
        session = session_with(world, supply)
        await world.issuer.append(1)
        positions: list[int] = []
        async for message in session.subscribe_audit():
            positions += [event.position for event in message.events]
            if len(positions) == 1 and supply.svid is world.agent:
                supply.svid = world.domain.svid("/agent", ttl=timedelta(hours=3))
                world.ahead[0] = timedelta(hours=2)  # by now the first one is over
                await until(lambda: world.counters.calls.get("/broker.v1.AuditService/SubscribeAudit UNAUTHENTICATED"))
                await world.issuer.append(1)
            if len(positions) == 2:
                break
        assert positions == [0, 1]
        await session.close()


async def test_a_gap_is_an_error(world: World, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.issuer.append(20)
    real = FakeIssuer._page

    def skipping(issuer: FakeIssuer, start: int, stop: int, caller: Any) -> Any:
        page = real(issuer, start, stop, caller)
        return replace(page, cursor=str(int(page.cursor) + 1)) if start == 0 else page

    monkeypatch.setattr(FakeIssuer, "_page", skipping)
    with pytest.raises(BrokerError, match="goes on at 5 instead of 4"):
        async for _ in session.subscribe_audit():
            pass


# --- connect -------------------------------------------------------------------------------------------------------


async def test_connect_takes_the_svid_from_the_workload_api(world: World, tmp_path: Path) -> None:
    api = WorkloadApi(tmp_path / "agent.sock").start()
    api.give_svid(world.agent, world.domain)
    try:
        address = f"127.0.0.1:{world.door.port}"
        async with broker.client.connect(address, broker_id=str(BROKER), socket=api.socket) as session:
            first = await session.exchange(**INTENT)
            api.give_svid(world.domain.svid("/agent"), world.domain)
            async with asyncio.timeout(60):
                while (await session.exchange(**INTENT)).thumbprint == first.thumbprint:
                    pass
        ids = [call.request_id for call in world.issuer.calls]  # type: ignore[attr-defined]
        assert len(set(ids)) == len(ids)
        assert all(len(one) == len("req_") + 36 and one[18] == "7" for one in ids)
    finally:
        await asyncio.to_thread(api.stop)


async def test_connect_refuses_what_is_no_broker() -> None:
    with pytest.raises(Unauthenticated):
        async with broker.client.connect("h:1", broker_id="broker"):
            pass
    with pytest.raises(ValueError, match="host:port"):
        async with broker.client.connect("h", broker_id=str(BROKER)):
            pass


async def test_a_closed_session_leaves_nothing(world: World, supply: Supply) -> None:
    session = session_with(world, supply)
    await session.exchange(**INTENT)
    assert any(thread.name == "spiffe-tunnels" for thread in threading.enumerate())
    await session.close()
    await until(lambda: not any(thread.name == "spiffe-tunnels" for thread in threading.enumerate()))
