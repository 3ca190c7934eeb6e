"""The agent SDK against a door: by SPIFFE ID, through the tunnel."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

import broker.client
from broker.client import BrokerError, Denied, InvalidRequest, Unauthenticated, Unreachable
from broker.client.channel import Endpoint
from broker.client.session import Session
from broker.credential.revocation import RuleKind
from broker.errors import Reason, Refusal
from broker.intent import Intent
from broker.link.identity import IdentityUnavailable
from broker.svid.spiffe_id import SpiffeId
from tests.fakes.issuer import FakeIssuer, new_ids
from tests.fakes.workload_api import WorkloadApi
from tests.server.supply import Supply
from tests.server.world import BROKER, ORDERS, World, open_world, until

INTENT: dict[str, Any] = {
    "action": "order.read",
    "resource": ("order", "1234"),
    "purpose": "support",
    "audience": ORDERS,
}


def session_with(world: World, supply: Supply, *, port: int = 0, broker: str = str(BROKER)) -> Session:
    endpoint = Endpoint(address=f"127.0.0.1:{port or world.door.port}", spiffe_id=SpiffeId.parse(broker))
    return Session(supply=supply, broker=endpoint, clock=world.issuer.clock, new_id=new_ids(), deadline=5)


@pytest_asyncio.fixture
async def supply(world: World) -> Supply:
    return Supply(world.domain, world.agent)


@pytest_asyncio.fixture
async def session(world: World, supply: Supply) -> AsyncIterator[Session]:
    opened = session_with(world, supply)
    yield opened
    await opened.close()


async def test_an_exchange(world: World, session: Session, supply: Supply) -> None:
    credential = await session.exchange(
        **INTENT, parameters={"amount": 5, "note": "é"}, lifetime=timedelta(seconds=30), on_behalf_of="someone"
    )
    (call,) = world.issuer.calls
    assert credential.intent_digest == call.intent.digest()  # type: ignore[attr-defined]
    assert call.request_id.startswith("req_")  # type: ignore[attr-defined]
    assert credential.thumbprint == supply.identity().thumbprint
    assert credential.authorization_details[0]["parameters"] == {"amount": [5], "note": ["é"]}
    assert credential.metadata() == (("authorization", f"Bearer {credential.token.reveal()}"),)


async def test_a_credential_does_not_print_its_token(session: Session) -> None:
    credential = await session.exchange(**INTENT)
    secret = credential.token.reveal()
    assert secret
    assert all(secret not in shown for shown in (repr(credential), str(credential), f"{credential.token}"))


async def test_every_other_verb(world: World, session: Session) -> None:
    task = await session.begin_task(purpose="support", tenant="acme", lifetime=timedelta(minutes=1))
    assert (task.purpose, task.deadline - task.begun_at) == ("support", timedelta(minutes=1))
    await session.exchange(**INTENT, task=task)
    assert (await session.end_task(task)).revoked == 2
    for kind in RuleKind:
        made = await session.revoke(kind, "name", reason="why")
        assert made.revocation.startswith("rev_")
        call = world.issuer.calls[-1]
        assert (call.rule.kind, call.rule.name) == (kind, "name")  # type: ignore[attr-defined]
    assert (await session.lift(made.revocation)).position == 9
    assert (await session.key_set()).checkpoint_key == "ck"
    assert (await session.checkpoint()).note == "note"
    audited = session.subscribe_audit(forever=False)
    assert [message.to_position async for message in audited] == [0]
    async for message in session.subscribe_revocations():
        assert message.HasField("snapshot")
        break


REFUSED_HERE: dict[str, tuple[dict[str, Any], Reason]] = {
    "float": ({"parameters": {"a": 1.5}}, Reason.INTENT_PARAMETERS_NUMBER),
    "NaN": ({"parameters": {"a": float("nan")}}, Reason.INTENT_PARAMETERS_NUMBER),
    "null": ({"parameters": {"a": None}}, Reason.INTENT_PARAMETERS_NULL),
    "object": ({"parameters": {"a": object()}}, Reason.INTENT_PARAMETERS_SYNTAX),
    "surrogate": ({"parameters": {"a": "\ud800"}}, Reason.INTENT_PARAMETERS_TEXT),
    "action": ({"action": "Order Read"}, Reason.INTENT_NAME_INVALID),
    "resource": ({"resource": ("order", "")}, Reason.INTENT_RESOURCE_INVALID),
}


@pytest.mark.parametrize(("change", "reason"), REFUSED_HERE.values(), ids=REFUSED_HERE.keys())
async def test_what_has_no_single_meaning_is_refused_before_it_is_sent(
    world: World, session: Session, change: dict[str, Any], reason: Reason
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await session.exchange(**(INTENT | change))
    assert caught.value.reason is reason
    assert caught.value.sentence
    assert not world.issuer.calls


async def test_a_credential_for_another_intent_is_not_taken(
    world: World, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FakeIssuer._credential

    def swapped(issuer: FakeIssuer, intent: Intent, caller: Any) -> Any:
        other = Intent(
            action="order.delete", resource=intent.resource, purpose=intent.purpose, audience=intent.audience
        )
        return real(issuer, other, caller)

    monkeypatch.setattr(FakeIssuer, "_credential", swapped)
    with pytest.raises(BrokerError, match="another intent"):
        await session.exchange(**INTENT)


async def test_a_lost_reply_is_asked_again_under_the_same_id(world: World, session: Session) -> None:
    """UNAVAILABLE is asked again by the channel itself; the request id makes that safe."""
    world.issuer.refusal = Refusal(Reason.AUDIT_UNAVAILABLE)
    asked = asyncio.ensure_future(session.exchange(**INTENT))
    await until(lambda: world.issuer.calls)
    world.issuer.refusal = None
    assert await asked
    ids = [call.request_id for call in world.issuer.calls]  # type: ignore[attr-defined]
    assert len(ids) > 1
    assert len(set(ids)) == 1


async def test_a_task_is_not_begun_twice(world: World, session: Session) -> None:
    world.issuer.refusal = Refusal(Reason.AUDIT_UNAVAILABLE)
    with pytest.raises(broker.client.Unavailable):
        await session.begin_task(purpose="support")
    assert len(world.issuer.calls) == 1


async def test_a_denial_is_not_asked_again(world: World, session: Session) -> None:
    world.issuer.refusal = Refusal(Reason.POLICY_FORBIDDEN, policy_ids=("p",), sentence="No.")
    with pytest.raises(Denied) as caught:
        await session.exchange(**INTENT)
    assert (caught.value.policy_ids, caught.value.sentence) == (("p",), "No.")
    assert len(world.issuer.calls) == 1


async def test_another_server_is_not_spoken_to_and_said_by_name(world: World, supply: Supply) -> None:
    session = session_with(world, supply, broker="spiffe://example.org/other")
    with pytest.raises(Unreachable, match="spiffe://example.org/broker, not spiffe://example.org/other"):
        await session.exchange(**INTENT)
    assert not world.issuer.calls
    await session.close()


async def test_an_expired_svid_is_said_before_anything_is_sent(world: World, supply: Supply) -> None:
    supply.svid = world.domain.svid("/agent", ttl=timedelta(seconds=-1))
    session = session_with(world, supply)
    with pytest.raises(Unreachable, match="has expired"):
        await session.exchange(**INTENT)
    await session.close()


async def test_no_listener_is_unreachable(world: World, supply: Supply) -> None:
    session = session_with(world, supply, port=1)
    with pytest.raises(Unreachable, match=r"[Cc]onnect"):
        await session.exchange(**INTENT)
    await session.close()


async def test_a_broker_that_does_not_answer_is_unreachable_in_time(world: World, supply: Supply) -> None:
    endpoint = Endpoint(address=f"127.0.0.1:{world.door.port}", spiffe_id=BROKER)
    session = Session(supply=supply, broker=endpoint, clock=world.issuer.clock, new_id=new_ids(), deadline=0.0001)
    with pytest.raises(Unreachable):
        await session.exchange(**INTENT)
    await session.close()


async def test_without_an_svid_nothing_is_asked(session: Session, supply: Supply) -> None:
    await session.exchange(**INTENT)
    supply.svid = None
    with pytest.raises(IdentityUnavailable):
        await session.exchange(**INTENT)


ADDRESSES = ["", "host", ":1", "host:", "host:port", "host:1x"]


@pytest.mark.parametrize("address", ADDRESSES)
async def test_an_address_is_host_and_port(session: Session, address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        session.channel(ORDERS, address)


async def test_an_ipv6_address_is_one() -> None:
    assert Endpoint(address="[::1]:8443", spiffe_id=BROKER).host_and_port() == ("::1", 8443)


async def test_a_service_id_is_a_spiffe_id(session: Session) -> None:
    with pytest.raises(Unauthenticated) as caught:
        session.channel("https://example.org", "h:1")
    assert caught.value.reason is Reason.SVID_ID_INVALID


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
    for credential, leaf in ((old, first), (new, second)):
        channel = session.channel(str(BROKER), address, credential=credential)
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/broker.v1.KeyService/GetKeySet")
        await call(b"", timeout=10)
        assert world.issuer.calls[-1].context.evidence.leaf == leaf  # type: ignore[attr-defined]
    assert session.channel(str(BROKER), address) is session.channel(str(BROKER), address, credential=new)


async def test_an_svid_that_is_over_takes_its_generation_with_it(
    world: World, session: Session, supply: Supply
) -> None:
    old = await session.exchange(**INTENT)
    world.ahead[0] = timedelta(minutes=59, seconds=50)
    supply.svid = world.domain.svid("/agent", ttl=timedelta(hours=3))
    session.channel(ORDERS, "localhost:1", credential=old)  # still good
    world.ahead[0] = timedelta(hours=2)
    assert await session.exchange(**INTENT)
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
        supply = Supply(world.domain, world.domain.svid("/agent", ttl=timedelta(seconds=2)))
        session = session_with(world, supply)
        await world.issuer.append(1)
        positions: list[int] = []
        async for message in session.subscribe_audit():
            positions += [event.position for event in message.events]
            if len(positions) == 1 and supply.svid is not None and supply.svid.id == world.agent.id:
                supply.svid = world.agent
                if world.counters.calls.get("/broker.v1.AuditService/SubscribeAudit UNAUTHENTICATED"):
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
            thumbprints = {first.thumbprint}

            async def rotated() -> bool:
                thumbprints.add((await session.exchange(**INTENT)).thumbprint)
                return len(thumbprints) > 1

            async with asyncio.timeout(15):
                while not await rotated():
                    await asyncio.sleep(0.01)
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
