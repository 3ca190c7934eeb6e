"""Redemption: what is good once is spent once, by the service that it is for, unless people have stopped it."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.boundary import Boundary
from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.intent import Resource, call_digest
from broker.operations.redeem_calls import RedeemAnswer, Redeemed
from broker.operations.task_calls import NarrowTaskCall
from broker.store.interface import ActivatePolicy, Item, StoreUnavailable
from tests.operations.test_exchange import claims_of, shown
from tests.operations.test_revocation import refused
from tests.operations.test_task_boundary import beat, changed, dead
from tests.operations.world import COURIER, ORDERS, RETAIL_DESK, SECURITY, SUPPORT, WHOLESALE, World, open_world
from tests.operations.world import REFUND as REFUNDING

CHAT = "spiffe://example.org/service/chat"
SPENT = Reason.CREDENTIAL_SPENT
REFUND: dict[str, Any] = {"amount": 4200, "currency": "EUR"}
DIGEST = call_digest(
    action="order.refund", resource=Resource(type="order", id="1234"), tenant="retail", parameters=REFUND
)
ANOTHER = call_digest(
    action="order.refund",
    resource=Resource(type="order", id="1234"),
    tenant="retail",
    parameters=REFUND | {"amount": 1},
)


async def once(world: World) -> Credential:
    return await world.once((await world.begin()).id)


async def redeemed(world: World) -> list[dict[str, Any]]:
    return [shown(event) for event in await world.events(kinds=("credential.redeemed",))]


async def together(world: World, *calls: Any) -> list[RedeemAnswer]:
    """Let these wait together, so that they are one group."""
    entered, held = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        held.wait(10)

    blocking = asyncio.create_task(world.issuer.worker.run(block))
    await asyncio.to_thread(entered.wait, 10)
    waiting = [asyncio.create_task(world.issuer.redeem(call)) for call in calls]
    await asyncio.sleep(0)
    held.set()
    await blocking
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, Redeemed | Refusal) for answer in answers), answers
    return answers  # type: ignore[return-value]  # as just asserted


# --- what is good once ---------------------------------------------------------------------------------------------


async def test_a_policy_says_what_is_good_once(world: World) -> None:
    task = await world.begin()
    marked = await world.once(task.id)
    plain = await world.granted(action="order.cancel", task=task.id)
    assert (marked.grant.use, claims_of(marked)["use"]) == ("once", "once")
    assert (plain.grant.use, claims_of(plain)["use"]) == ("many", "many")


async def test_it_is_spent_on_its_one_call_and_recorded_for_its_agent(world: World) -> None:
    credential = await once(world)
    assert credential.grant.scope.only_call("retail") == DIGEST
    done = await world.redeem(credential)
    (event,) = await world.events(kinds=("credential.redeemed",), personal=True)
    members = shown(event)
    assert event.position == done.position
    assert members["at"] == done.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert members["spiffe_id"] == ORDERS
    assert members["decision"]["policies"] == ["services-redeem-what-is-for-them"]
    grant = credential.grant
    named = {name: members[name] for name in ("credential", "agent", "tenant", "task", "transaction")}
    assert named == {
        "credential": grant.credential_id,
        "agent": SUPPORT,
        "tenant": "retail",
        "task": grant.task,
        "transaction": grant.transaction_id,
    }
    assert DIGEST not in event.content.decode()  # only a commitment to it
    assert [json.loads(each.value) for each in event.openings if each.field == "call_digest"] == [DIGEST]


async def test_what_policy_would_now_give_only_once_ends_at_the_next_heartbeat(world: World) -> None:
    task = await world.begin()
    plain, marked = await world.granted(action="order.cancel", task=task.id), await world.once(task.id)
    assert (await beat(world, task.id)).revoked == 0
    await changed(
        world,
        "writes.cedar",
        lambda text: text.replace('@id("support-may-cancel-an-order")', '@id("support-may-cancel-an-order")\n@once'),
    )
    assert (await beat(world, task.id)).revoked == 1
    assert await refused(world.redeem(plain)) is Reason.REDEMPTION_NOT_NEEDED
    assert await dead(world) == {plain.grant.credential_id}
    await world.redeem(marked)


# --- once and no more ----------------------------------------------------------------------------------------------


async def test_a_second_use_is_refused_and_recorded_under_the_credential(world: World) -> None:
    credential = await once(world)
    await world.redeem(credential)
    assert await refused(world.redeem(credential, key="another-key-of-an-attempt")) is SPENT
    (event,) = [shown(event) for event in await world.events(kinds=("request.refused",))]
    assert (event["operation"], event["reason"], event["spiffe_id"]) == ("redeem", "CREDENTIAL_SPENT", ORDERS)
    assert event["credential"] == credential.grant.credential_id
    assert (event["agent"], event["tenant"], event["task"]) == (SUPPORT, "retail", credential.grant.task)


async def test_the_same_key_with_another_digest_is_a_second_use(world: World) -> None:
    credential = await once(world)
    await world.redeem(credential)
    assert await refused(world.redeem(credential, call_digest=ANOTHER)) is SPENT


async def test_a_retry_is_told_what_was_told_first(world: World) -> None:
    credential = await once(world)
    first = await world.redeem(credential)
    world.time.ahead += timedelta(seconds=3)
    assert await world.redeem(credential) == first
    assert len(await redeemed(world)) == 1


async def test_a_retry_is_told_the_same_by_a_broker_that_was_restarted(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        credential = await once(world)
        first = await world.redeem(credential)
        evidence, domains, trusted = world.evidence(ORDERS), world.domains, world.trusted
    async with open_world(tmp_path) as world:
        world.domains, world.trusted, world._evidence[ORDERS] = domains, trusted, evidence
        assert await world.redeem(credential) == first
        assert await refused(world.redeem(credential, key="another-key-of-an-attempt")) is SPENT


async def test_of_a_hundred_attempts_at_once_one_is_accepted(world: World) -> None:
    credential = await once(world)
    calls = [world.spending(credential, key=f"attempt-number-{number:04}") for number in range(100)]
    answers = Counter(
        "accepted" if isinstance(answer, Redeemed) else answer.reason for answer in await together(world, *calls)
    )
    assert answers == {"accepted": 1, SPENT: 99}
    assert len(await redeemed(world)) == 1


async def test_one_attempt_that_is_asked_a_hundred_times_at_once_is_accepted_each_time(world: World) -> None:
    credential = await once(world)
    answers = await together(world, *(world.spending(credential) for _ in range(100)))
    accepted = [answer for answer in answers if isinstance(answer, Redeemed)]
    assert len(accepted) == 100
    (answer,) = set(accepted)
    (event,) = await redeemed(world)
    assert event["credential"] == credential.grant.credential_id
    assert answer == await world.redeem(credential)


async def test_what_waits_together_shares_a_commit_and_each_has_its_own_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await world.begin()
    credentials = [await world.once(task.id, resource=f"order/{number}") for number in range(10)]
    store, commits = world.issuer.verbs.attempt.recorder.store, list[int]()
    commit = store.commit

    def counted(items: Any) -> Any:
        commits.append(len(items))
        return commit(items)

    monkeypatch.setattr(store, "commit", counted)
    calls = [world.spending(each) for each in credentials]
    unknown = replace(calls[0], credential="cred_unknown")
    answers = await together(world, *calls, unknown)
    assert max(commits) == len(calls) + 1
    positions = [answer.position for answer in answers if isinstance(answer, Redeemed)]
    assert positions == list(range(positions[0], positions[0] + 10))
    assert isinstance(answers[-1], Refusal)
    assert answers[-1].reason is Reason.CREDENTIAL_UNKNOWN


async def test_what_was_spent_is_not_signed_again(world: World) -> None:
    task = await world.begin()
    credential = await world.once(task.id, request_id="r1")
    again = await world.once(task.id, request_id="r1")
    assert again.grant.credential_id == credential.grant.credential_id  # the control: a lost reply
    await world.redeem(credential)
    assert (await world.refused(**REFUNDING, task=task.id, request_id="r1")).reason is SPENT


# --- by whom, on what ----------------------------------------------------------------------------------------------


async def test_another_service_learns_nothing(world: World) -> None:
    credential, other = await once(world), await once(world)
    assert await refused(world.redeem(credential, CHAT)) is Reason.CREDENTIAL_UNKNOWN
    assert await refused(world.redeem(credential, CHAT, name="cred_of-nobody")) is Reason.CREDENTIAL_UNKNOWN
    await world.redeem(other)
    assert await refused(world.redeem(other, CHAT)) is Reason.CREDENTIAL_UNKNOWN  # spent or not
    for event in [shown(event) for event in await world.events(kinds=("request.refused",))]:
        assert "credential" not in event
    await world.redeem(credential)  # and nothing was spent by asking


@pytest.mark.parametrize("who", [SUPPORT, WHOLESALE, COURIER, SECURITY, RETAIL_DESK])
async def test_who_is_no_service_redeems_nothing(world: World, who: str) -> None:
    credential = await once(world)
    assert await refused(world.redeem(credential, who)) in {Reason.POLICY_NOT_PERMITTED, Reason.TENANT_REFUSED}
    unknown = world.redeem(credential, who, name="cred_of-nobody")
    assert await refused(unknown) in {Reason.POLICY_NOT_PERMITTED, Reason.TENANT_REFUSED}
    await world.redeem(credential)


async def test_a_service_that_the_bundle_does_not_let_redeem_is_refused(world: World) -> None:
    credential = await once(world)
    file = world.folder / "policy" / "broker.cedar"
    allowed = file.read_text()
    golden = world.folder / "policy" / "golden.toml"
    golden.write_text(golden.read_text().split('[[case]]\nname = "a service redeems')[0])
    file.write_text(
        allowed.replace(
            "resource is Service\n)\nwhen { resource == principal };", "resource is Service\n)\nwhen { false };"
        )
    )
    await world.issuer.worker.run(world.issuer.verbs.attempt.policy.refresh)  # type: ignore[attr-defined]  # it is an ActiveBundle
    assert await refused(world.redeem(credential)) is Reason.POLICY_NOT_PERMITTED
    file.write_text(allowed)
    await world.issuer.worker.run(world.issuer.verbs.attempt.policy.refresh)  # type: ignore[attr-defined]  # as above
    await world.redeem(credential)


async def test_it_is_spent_on_its_own_call_alone(world: World) -> None:
    credential = await once(world)
    assert await refused(world.redeem(credential, call_digest=ANOTHER)) is Reason.TOKEN_SCOPE_EXCEEDED
    await world.redeem(credential)


async def test_what_may_be_used_many_times_is_not_redeemed(world: World) -> None:
    task = await world.begin()
    credential = await world.granted(action="order.cancel", task=task.id)
    assert await refused(world.redeem(credential)) is Reason.REDEMPTION_NOT_NEEDED


# --- between issue and redemption ----------------------------------------------------------------------------------

Change = Callable[[World, Credential], Awaitable[object]]


async def narrowed(world: World, credential: Credential) -> None:
    """Narrow the task to something else."""
    call = NarrowTaskCall(
        context=world.context(SUPPORT),
        task=credential.grant.task,
        boundary=Boundary(actions=frozenset({"order.cancel"})),
        text="a test",
    )
    await world.issuer.narrow_task(call)


async def later(world: World, seconds: float) -> None:
    world.time.ahead += timedelta(seconds=seconds)


CHANGES: dict[str, tuple[Change, Reason]] = {
    "credential revoked": (
        lambda world, held: world.revoke("credential", held.grant.credential_id),
        Reason.CREDENTIAL_REVOKED,
    ),
    "agent revoked": (lambda world, _: world.revoke("agent", SUPPORT), Reason.AGENT_REVOKED),
    "tenant revoked": (lambda world, _: world.revoke("tenant", "retail"), Reason.TENANT_REVOKED),
    "task revoked": (lambda world, held: world.revoke("task", held.grant.task), Reason.TASK_REVOKED),
    "policy revoked": (lambda world, _: world.revoke("policy", "support-may-refund"), Reason.POLICY_REVOKED),
    "task ended": (lambda world, held: world.end(held.grant.task), Reason.CREDENTIAL_REVOKED),
    "task narrowed": (narrowed, Reason.CREDENTIAL_REVOKED),
    "agent stopped": (lambda world, _: world.stop("agent", SUPPORT), Reason.OVERRIDE_IN_FORCE),
    "tenant stopped": (lambda world, _: world.stop("tenant", "retail"), Reason.OVERRIDE_IN_FORCE),
    "class stopped": (lambda world, _: world.stop("class", "write"), Reason.OVERRIDE_IN_FORCE),
    "action stopped": (lambda world, _: world.stop("action", "order.refund"), Reason.OVERRIDE_IN_FORCE),
    "everything stopped": (lambda world, _: world.stop("everything"), Reason.OVERRIDE_IN_FORCE),
    "expired": (lambda world, _: later(world, 121), Reason.TOKEN_EXPIRED),
}
OF_OTHERS: dict[str, Change] = {
    "another credential revoked": lambda world, _: _revoke_another(world),
    "another agent revoked": lambda world, _: world.revoke("agent", WHOLESALE),
    "another tenant revoked": lambda world, _: world.revoke("tenant", "wholesale"),
    "another task ended": lambda world, _: _end_another(world),
    "another policy revoked": lambda world, _: world.revoke("policy", "support-may-cancel-an-order"),
    "another class stopped": lambda world, _: world.stop("class", "read"),
    "another action stopped": lambda world, _: world.stop("action", "order.cancel"),
    "another tenant stopped": lambda world, _: world.stop("tenant", "wholesale"),
    "not quite expired": lambda world, _: later(world, 115),
}


async def _revoke_another(world: World) -> None:
    await world.revoke("credential", (await once(world)).grant.credential_id)


async def _end_another(world: World) -> None:
    await world.end((await world.begin()).id)


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
async def test_what_happened_since_it_was_given_counts_at_once(world: World, change: Change, reason: Reason) -> None:
    credential = await once(world)
    await world.without_chores()  # or what is over may be forgotten before it is asked for
    await change(world, credential)
    assert await refused(world.redeem(credential)) is reason
    assert await redeemed(world) == []


@pytest.mark.parametrize("change", OF_OTHERS.values(), ids=OF_OTHERS)
async def test_what_happened_to_others_does_not(world: World, change: Change) -> None:
    credential = await once(world)
    await change(world, credential)
    await world.redeem(credential)


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
async def test_a_retry_is_not_told_yes_once_that_is_no_longer_so(world: World, change: Change, reason: Reason) -> None:
    credential = await once(world)
    first = await world.redeem(credential)
    assert await world.redeem(credential) == first  # the control
    await world.without_chores()  # or what is over may be forgotten before it is asked for
    await change(world, credential)
    assert await refused(world.redeem(credential)) is reason


async def test_a_task_that_is_over_by_itself_counts_before_anybody_has_ended_it(world: World) -> None:
    task = await world.begin(lifetime=timedelta(seconds=60))
    credential = await world.once(task.id)
    assert credential.grant.expires_at <= task.deadline
    await world.without_chores()  # neither that which ends tasks, nor that which forgets
    await later(world, 61)
    assert await refused(world.redeem(credential)) is Reason.TASK_DEADLINE_PASSED


async def test_a_lifted_override_lets_go_on_what_was_given_since(world: World) -> None:
    stopped = await world.stop("action", "order.refund")
    await world.let_go_on(stopped.override)
    await world.redeem(await once(world))


async def test_what_is_over_is_forgotten_with_its_redemption_and_nothing_comes_back(world: World) -> None:
    credential = await once(world)
    await world.redeem(credential)
    await later(world, 121)
    await world.stored(lambda store: store.forget_expired(world.time()))
    assert await world.stored(lambda store: store.redemption(credential.grant.credential_id)) is None
    world.time.ahead -= timedelta(seconds=121)  # a clock that is set back
    assert await refused(world.redeem(credential)) is Reason.CREDENTIAL_UNKNOWN


async def test_the_bundle_that_lets_services_redeem_is_still_the_active_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another replica of the broker in between; with one, nothing comes between decision and commit."""
    credential = await once(world)
    store = world.issuer.verbs.attempt.recorder.store
    commit, active = store.commit, await world.stored(lambda store: store.active_policy())

    def after_another(items: Any) -> Any:
        commit([Item(writes=(ActivatePolicy(digest="sha-256:another"),))])
        return commit(items)

    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", after_another)
        assert await refused(world.redeem(credential)) is Reason.POLICY_UNAVAILABLE
    await world.issuer.worker.run(lambda: commit([Item(writes=(ActivatePolicy(digest=active),))]))
    await world.redeem(credential)


async def test_what_cannot_be_recorded_is_not_spent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    credential = await once(world)
    store = world.issuer.verbs.attempt.recorder.store

    def full(_: object) -> Any:
        raise StoreUnavailable("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", full)
        assert await refused(world.redeem(credential)) is Reason.AUDIT_UNAVAILABLE
    await world.redeem(credential)


async def test_one_that_is_refused_harms_no_neighbour(world: World) -> None:
    good, revoked = await once(world), await once(world)
    await world.revoke("credential", revoked.grant.credential_id)
    answers = await together(
        world, world.spending(revoked), world.spending(good), world.spending(good, SUPPORT), world.spending(good, CHAT)
    )
    reasons = [answer.reason if isinstance(answer, Refusal) else None for answer in answers]
    assert reasons == [
        Reason.CREDENTIAL_REVOKED,
        None,
        Reason.POLICY_NOT_PERMITTED,
        Reason.CREDENTIAL_UNKNOWN,
    ]
