"""Exchange, through the composed issuer: what is given, what is refused, and what stands in the log of it."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.intent import Level, Resource
from broker.operations.calls import AuditEvent
from broker.policy.decide import decide
from broker.store.interface import ActivePolicy, AddGrant, Answer, Item, NotRevoked, RequestUnused, TaskAlive
from tests.operations.world import COURIER, ORDERS, SHARED, SUPPORT, WHOLESALE, World
from tests.polling import eventually


def shown(event: AuditEvent) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(event.content)
    return members


def claims_of(credential: Credential) -> dict[str, Any]:
    payload = credential.token.reveal().split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return claims


async def test_a_permitted_intent_gets_a_credential_for_just_that(world: World) -> None:
    credential = await world.granted()
    claims = claims_of(credential)
    principal = world.evidence(SUPPORT)
    assert claims["sub"] == claims["client_id"] == SUPPORT
    assert claims["aud"] == ORDERS
    assert claims["tenant"] == "retail"
    assert claims["authorization_details"][0]["identifier"] == "1234"
    assert claims["cnf"]["x5t#S256"] == credential.grant.thumbprint
    assert claims["jti"] == credential.grant.credential_id
    assert principal.leaf not in credential.token.reveal().encode()


async def test_the_grant_is_in_the_log_before_the_token_is_out(world: World) -> None:
    credential = await world.granted(parameters={})
    granted = [shown(event) for event in await world.events(kinds=("credential.granted",))]
    assert [event["credential"] for event in granted] == [credential.grant.credential_id]
    (event,) = granted
    assert event["token_digest"] == credential.token.digest()
    assert event["spiffe_id"] == SUPPORT
    assert event["decision"]["policies"] == ["order-readers-may-look-up-orders"]
    assert event["decision"]["bundle"].startswith("sha-256:")
    assert set(event["commitments"]) >= {"intent_digest", "source"}
    assert credential.token.reveal() not in json.dumps(event)


async def test_personal_values_are_opened_only_when_asked_for(world: World) -> None:
    task = await world.begin()
    await world.granted(
        action="order.refund",
        task=task.id,
        parameters={"amount": 700, "currency": "EUR"},
        on_behalf_of="customer 7",
    )
    (closed,) = await world.events(kinds=("credential.granted",))
    (opened,) = await world.events(kinds=("credential.granted",), personal=True)
    assert closed.openings == ()
    values = {opening.field: json.loads(opening.value) for opening in opened.openings}
    assert values["parameters"] == {"amount": 700, "currency": "EUR"}
    assert values["on_behalf_of"] == "customer 7"
    assert b"customer 7" not in opened.content
    assert {opening.field: opening.commitment() for opening in opened.openings} == shown(opened)["commitments"]


REFUSED: list[Any] = [
    pytest.param(SUPPORT, {"action": "order.fly"}, Reason.ACTION_UNKNOWN, id="unknown-action"),
    pytest.param(SUPPORT, {"action": "broker.revoke"}, Reason.ACTION_UNKNOWN, id="manage-action"),
    pytest.param(SUPPORT, {"purpose": "curiosity"}, Reason.PURPOSE_REFUSED, id="purpose"),
    pytest.param(SUPPORT, {"audience": ORDERS + "2"}, Reason.AUDIENCE_UNKNOWN, id="audience"),
    pytest.param(SUPPORT, {"resource": "invoice/1"}, Reason.RESOURCE_TYPE_UNKNOWN, id="resource-type"),
    pytest.param(SUPPORT, {"parameters": {"x": 1}}, Reason.PARAMETERS_REFUSED, id="parameters"),
    pytest.param(SUPPORT, {"action": "order.cancel"}, Reason.TASK_REQUIRED, id="write-without-task"),
    pytest.param(
        SUPPORT, {"task": "task_0190a0a0-0000-7000-8000-000000000000"}, Reason.TASK_UNKNOWN, id="A8-unknown-task"
    ),
    pytest.param(SHARED, {}, Reason.TENANT_REQUIRED, id="two-tenants-no-task"),
    pytest.param(COURIER, {}, Reason.PURPOSE_REFUSED, id="federated-agent-other-purpose"),
    pytest.param("spiffe://example.org/agent/nobody", {}, Reason.PRINCIPAL_UNKNOWN, id="unknown-agent"),
    pytest.param("spiffe://example.org/broker", {}, Reason.SVID_IS_BROKER, id="D5-own-id"),
    pytest.param("spiffe://example.org/spire/agent/x", {}, Reason.SVID_PATH_RESERVED, id="D5-spire"),
    pytest.param(SUPPORT, {"resource": Resource(type="order", set="all")}, Reason.RESOURCE_SET_UNKNOWN, id="set"),
    pytest.param(SUPPORT, {"sensitivity": Level.HIGH}, Reason.POLICY_NOT_PERMITTED, id="role-and-high-sensitivity"),
]


@pytest.mark.parametrize(("who", "changes", "reason"), REFUSED)
async def test_a_refused_intent_has_its_reason_and_its_event(
    world: World, who: str, changes: dict[str, Any], reason: Reason
) -> None:
    refusal = await world.refused(who, **changes)
    assert refusal.reason is reason
    events = [shown(event) for event in await world.events(kinds=("exchange.refused",))]
    assert [event["reason"] for event in events] == [reason.name]
    await world.granted()  # the positive control: the broker goes on serving


async def test_a_forbid_names_itself_and_gives_its_sentence(world: World) -> None:
    task = await world.begin()
    refund = {"action": "order.refund", "task": task.id}
    await world.granted(**refund, parameters={"amount": 5000, "currency": "EUR"})
    refusal = await world.refused(**refund, parameters={"amount": 5001, "currency": "EUR"})
    assert refusal.reason is Reason.POLICY_FORBIDDEN
    assert refusal.policy_ids == ("no-refund-beyond-limit",)
    assert "50 euros" in refusal.sentence
    assert refusal.decision_id.startswith("dec_")


async def test_high_impact_is_held(world: World) -> None:
    task = await world.begin()
    refusal = await world.refused(
        action="customer.payout_change",
        resource="customer/7",
        task=task.id,
        parameters={"account": "DE00"},
    )
    assert refusal.reason is Reason.STEP_UP_REQUIRED


async def test_a_malformed_intent_is_refused_in_its_callers_name(world: World) -> None:
    call = replace(world.call(), intent=Refusal(Reason.INTENT_PARAMETERS_NUMBER))
    (answer,) = await world.issuer.exchange([call])
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.INTENT_PARAMETERS_NUMBER
    (event,) = await world.events(kinds=("exchange.refused",))
    assert shown(event)["spiffe_id"] == SUPPORT


async def test_who_cannot_be_authenticated_is_not_named(world: World) -> None:
    foreign = world.domains["partner.example"].svid(SUPPORT).evidence()
    call = world.call()
    call = replace(call, context=replace(call.context, evidence=foreign))
    (answer,) = await world.issuer.exchange([call])
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.SVID_CHAIN_INVALID
    (event,) = await world.events(kinds=("exchange.refused",))
    assert "spiffe_id" not in shown(event)


async def test_one_refusal_harms_no_neighbour(world: World) -> None:
    calls = [world.call(), world.call(purpose="curiosity"), world.call(), world.call(WHOLESALE)]
    answers = await world.issuer.exchange(calls)
    assert [type(answer) for answer in answers] == [Credential, Refusal, Credential, Credential]


@pytest.mark.parametrize(
    ("requested", "longest"),
    [(None, 300), (timedelta(seconds=30), 30), (timedelta(hours=5), 300)],
    ids=["as-policy-allows", "shorter", "never-longer"],
)
async def test_a_lifetime_is_the_least_of_its_bounds(world: World, requested: timedelta | None, longest: int) -> None:
    credential = await world.granted(lifetime=requested)
    lived = credential.grant.expires_at - credential.grant.issued_at
    assert timedelta(seconds=longest - 1) <= lived <= timedelta(seconds=longest)


async def test_a_credential_does_not_outlive_its_task(world: World) -> None:
    task = await world.begin(lifetime=timedelta(seconds=20))
    credential = await world.granted(task=task.id)
    assert credential.grant.expires_at <= task.deadline


async def test_a_credential_does_not_outlive_the_svid(world: World) -> None:
    svid = world.domains["example.org"].svid("/agent/support-assistant", ttl=timedelta(seconds=40))
    call = world.call()
    call = replace(call, context=replace(call.context, evidence=svid.evidence()))
    (credential,) = await world.issuer.exchange([call])
    assert isinstance(credential, Credential)
    assert credential.grant.expires_at <= svid.leaf.not_valid_after_utc


async def test_a_lost_reply_asked_again_gives_the_same_credential(world: World) -> None:
    first = await world.granted(request_id="r1")
    again = await world.granted(request_id="r1")
    assert again.grant.credential_id == first.grant.credential_id
    assert again.grant.transaction_id == first.grant.transaction_id
    assert claims_of(again) == claims_of(first)
    kinds = Counter(shown(event)["type"] for event in await world.events())
    assert (kinds["credential.granted"], kinds["credential.reissued"]) == (1, 1)


async def test_a_request_id_is_good_for_one_intent_and_one_leaf(world: World) -> None:
    await world.granted(request_id="r1")
    assert (await world.refused(request_id="r1", resource="order/9")).reason is Reason.REQUEST_ID_REUSED
    assert isinstance(await world.exchange(WHOLESALE, request_id="r1"), Credential)  # another caller's own
    world.renew(SUPPORT)
    assert (await world.refused(request_id="r1")).reason is Reason.REQUEST_ID_REUSED


async def test_a_request_id_twice_in_one_group_is_one_grant(world: World) -> None:
    answers = await world.issuer.exchange([world.call(request_id="r1") for _ in range(5)])
    assert [type(answer) for answer in answers] == [Credential] * 5
    ids = {answer.grant.credential_id for answer in answers if isinstance(answer, Credential)}
    assert len(ids) == 1
    assert len(await world.events(kinds=("credential.granted",))) == 1


async def test_what_was_read_before_the_transaction_is_guarded_inside_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one writer nothing can come in between; with several replicas it can, and the guards have to stand."""
    committed: list[Item] = []
    genuine = world.issuer.verbs.attempt.recorder.store.commit

    def watched(items: Sequence[Item]) -> Sequence[Answer]:
        committed.extend(items)
        return genuine(items)

    task = await world.begin()
    monkeypatch.setattr(world.issuer.verbs.attempt.recorder.store, "commit", watched)
    granted = await world.granted(action="order.cancel", task=task.id, request_id="r1")
    (item,) = [item for item in committed if any(isinstance(write, AddGrant) for write in item.writes)]
    grant = granted.grant
    bundle = world.issuer.verbs.attempt.policy().digest
    assert (
        NotRevoked(
            agent=SUPPORT,
            tenant="retail",
            task=task.id,
            policy_ids=grant.policy_ids,
            credential_id=grant.credential_id,
            action="order.cancel",
            action_class="write",
        )
        in item.guards
    )
    assert ActivePolicy(digest=bundle) in item.guards
    assert RequestUnused(agent=SUPPORT, request_id="r1") in item.guards
    assert [guard.task for guard in item.guards if isinstance(guard, TaskAlive)] == [task.id]


async def test_a_revoked_credential_is_not_reissued(world: World) -> None:
    first = await world.granted(request_id="r1")
    await world.revoke("credential", first.grant.credential_id)
    assert (await world.refused(request_id="r1")).reason is Reason.CREDENTIAL_REVOKED


async def test_status_indexes_are_dense_and_never_twice(world: World) -> None:
    answers = await world.issuer.exchange([world.call() for _ in range(300)])
    indexes = [answer.grant.status_index for answer in answers if isinstance(answer, Credential)]
    assert sorted(indexes) == list(range(300))


async def test_many_at_once_are_all_answered(world: World) -> None:
    answers = await asyncio.gather(*(world.exchange() for _ in range(200)))
    ids = {answer.grant.credential_id for answer in answers if isinstance(answer, Credential)}
    assert len(ids) == 200


async def test_an_expired_svid_gets_nothing_on_an_old_connection(world: World) -> None:
    await world.granted()
    world.time.ahead = timedelta(hours=2)
    assert (await world.refused()).reason is Reason.SVID_EXPIRED


async def test_refusals_over_the_rate_are_counted(world: World) -> None:
    calls = [world.call(purpose="curiosity") for _ in range(40)]
    await world.issuer.exchange(calls)
    assert len(await world.events(kinds=("exchange.refused",))) == 10
    world.time.ahead = timedelta(seconds=2)
    suppressed = await eventually(lambda: world.events(kinds=("refusals.suppressed",)))
    assert [shown(event)["count"] for event in suppressed] == [30]


async def test_a_defect_met_by_one_intent_is_not_its_neighbours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(policy: Any, question: Any) -> Any:
        if question.intent.resource.id == "666":
            raise ZeroDivisionError
        return decide(policy, question)

    monkeypatch.setattr("broker.operations.exchange.decide", defective)
    answers = await world.issuer.exchange([world.call(), world.call(resource="order/666"), world.call()])
    assert [type(answer) for answer in answers] == [Credential, Refusal, Credential]
    assert isinstance(answers[1], Refusal)
    assert answers[1].reason is Reason.INTERNAL
    (event,) = await world.events(kinds=("exchange.refused",))
    assert shown(event)["reason"] == "INTERNAL"
