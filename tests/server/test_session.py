"""The agent SDK against a door: by SPIFFE ID, through the tunnel."""

import asyncio
import socket
from datetime import timedelta
from typing import Any

import pytest

import broker.client
from broker.client import BrokerError, Denied, InvalidRequest, Unauthenticated, Unreachable
from broker.client.channel import Endpoint
from broker.client.session import Session
from broker.credential.revocation import RuleKind
from broker.errors import Reason, Refusal
from broker.intent import Intent
from broker.link.identity import IdentityUnavailable
from tests.fakes.issuer import FakeIssuer
from tests.server.supply import INTENT, Supply, session_with
from tests.server.world import BROKER, ORDERS, World, until


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


async def test_a_credential_for_another_intent_is_not_taken(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
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
    await asked
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
    with pytest.raises(Unreachable, match=r"spiffe://example\.org/broker, not spiffe://example\.org/other"):
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
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel connects, and nobody says anything
        session = session_with(world, supply, port=silent.getsockname()[1], deadline=0.3)
        with pytest.raises(Unreachable, match="did not answer"):
            await asyncio.wait_for(session.exchange(**INTENT), 60)
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
