"""Overrides: what is stopped is stopped at once and whole, and only somebody else lets it go on."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.issuer.batch import MAX_WAITING
from broker.store.interface import ActivatePolicy, Item
from tests.operations.test_revocation import held, refused
from tests.operations.world import (
    BUNDLE,
    DUTY,
    ORDERS,
    RETAIL_DESK,
    SECURITY,
    SHARED,
    SUPPORT,
    WHOLESALE,
    World,
    open_world,
)

STOPPED = Reason.OVERRIDE_IN_FORCE

STOPS = [
    pytest.param("agent", SUPPORT, "", id="agent"),
    pytest.param("tenant", "retail", "", id="tenant"),
    pytest.param("class", "read", "", id="class"),
    pytest.param("class", "read", "retail", id="class-within-a-tenant"),
    pytest.param("action", "order.read", "", id="action"),
    pytest.param("action", "order.read", "retail", id="action-within-a-tenant"),
    pytest.param("everything", "", "", id="everything"),
]
REACHING_WHOLESALE = {("class", ""), ("action", ""), ("everything", "")}


@pytest.mark.parametrize(("kind", "name", "tenant"), STOPS)
async def test_a_stop_ends_what_lives_and_blocks_what_would_be(world: World, kind: str, name: str, tenant: str) -> None:
    mine, neighbours = await world.granted(), await world.granted(WHOLESALE)
    done = await world.stop(kind, name, tenant=tenant)
    reaches_all = (kind, tenant) in REACHING_WHOLESALE
    dead = {mine.grant.status_index} | ({neighbours.grant.status_index} if reaches_all else set())
    assert (done.revoked, held(await world.revocations())) == (len(dead), dead)
    assert (await world.refused()).reason is STOPPED
    answer = await world.exchange(WHOLESALE)
    assert isinstance(answer, Refusal) is reaches_all
    await world.let_go_on(done.override)
    await world.granted()
    assert mine.grant.status_index in held(await world.revocations())  # what was ended stays ended


@pytest.mark.parametrize(
    ("kind", "name", "tenant"),
    [
        ("agent", WHOLESALE, ""),
        ("tenant", "wholesale", ""),
        ("class", "write", ""),
        ("class", "high-impact", ""),
        ("class", "read", "wholesale"),
        ("action", "order.cancel", ""),
        ("action", "order.read", "wholesale"),
    ],
)
async def test_a_stop_of_something_else_ends_nothing(world: World, kind: str, name: str, tenant: str) -> None:
    credential = await world.granted()
    await world.stop(kind, name, tenant=tenant)
    await world.granted()
    assert credential.grant.status_index not in held(await world.revocations())


async def test_a_class_is_stopped_and_the_others_go_on(world: World) -> None:
    task = await world.begin()
    cancelling = await world.granted(action="order.cancel", task=task.id)
    reading = await world.granted()
    await world.stop("class", "write")
    assert held(await world.revocations()) == {cancelling.grant.status_index}
    assert (await world.refused(action="order.cancel", task=task.id)).reason is STOPPED
    await world.granted()
    assert reading.grant.status_index not in held(await world.revocations())


async def test_a_lost_reply_is_not_given_again_under_a_stop(world: World) -> None:
    await world.granted(request_id="r1")
    done = await world.stop("class", "read")
    assert (await world.refused(request_id="r1")).reason is STOPPED
    await world.let_go_on(done.override)
    assert (await world.refused(request_id="r1")).reason is Reason.CREDENTIAL_REVOKED


async def test_a_stopped_agent_begins_no_task_and_follows_no_stream(world: World) -> None:
    task = await world.begin()
    cursor = (await world.revocations(SUPPORT)).page.cursor
    done = await world.stop("tenant", "retail")
    assert await refused(world.begin()) is STOPPED
    assert await refused(world.end(task.id)) is STOPPED
    assert await refused(world.revocations(SUPPORT, cursor)) is STOPPED
    await world.let_go_on(done.override)
    await world.revocations(SUPPORT, cursor)
    await world.granted(action="order.cancel", task=task.id)  # a task outlives a stop, unless its deadline passes


async def test_an_agent_of_two_tenants_is_stopped_in_the_one(world: World) -> None:
    retail, wholesale = [await world.begin(SHARED, tenant=tenant) for tenant in ("retail", "wholesale")]
    over = await world.begin(SHARED, tenant="retail")
    await world.end(over.id, SHARED)
    await world.stop("tenant", "retail")
    assert await refused(world.begin(SHARED, tenant="retail")) is STOPPED
    assert (await world.refused(SHARED, task=retail.id)).reason is STOPPED
    assert isinstance(await world.exchange(SHARED, task=wholesale.id), Credential)
    assert (await world.refused(SHARED, task=over.id)).reason is STOPPED  # before it says that the task has ended
    await world.stop("tenant", "wholesale")
    assert await refused(world.begin(SHARED, tenant="wholesale")) is STOPPED
    assert await refused(world.revocations(SHARED)) is STOPPED


async def test_everything_stops_agents_and_nobody_who_looks_after_them(world: World) -> None:
    """Services go on hearing what was revoked, operators see and stop more; a stranger is stopped like an agent."""
    await world.stop("everything")
    await world.revocations(ORDERS)
    await world.events()
    await world.stop("agent", SUPPORT)
    await world.revoke("agent", SUPPORT)
    assert await refused(world.begin("spiffe://example.org/agent/stranger")) is STOPPED


async def test_a_stop_comes_before_everything_else_that_would_refuse(world: World) -> None:
    await world.revoke("agent", SUPPORT)
    await world.stop("agent", SUPPORT)
    assert (await world.refused()).reason is STOPPED
    await world.stop("class", "high-impact")
    held_back = await world.refused(WHOLESALE, action="customer.payout_change")
    assert held_back.reason is STOPPED
    assert held_back.sentence.startswith("The people responsible for me")


# --- who ------------------------------------------------------------------------------------------------------------


async def test_who_stopped_does_not_let_go_on(world: World) -> None:
    one, other = await world.stop("everything"), await world.stop("tenant", "retail", who=DUTY)
    assert await refused(world.let_go_on(one.override, SECURITY)) is Reason.SECOND_PERSON_REQUIRED
    assert await refused(world.let_go_on(other.override, DUTY)) is Reason.SECOND_PERSON_REQUIRED
    assert (await world.refused()).reason is STOPPED
    await world.let_go_on(one.override, DUTY)
    await world.let_go_on(other.override, SECURITY)
    await world.granted()
    assert await refused(world.let_go_on(one.override)) is Reason.OVERRIDE_UNKNOWN


async def test_a_new_certificate_is_no_second_person(world: World) -> None:
    done = await world.stop("everything")
    world.renew(SECURITY)
    assert await refused(world.let_go_on(done.override, SECURITY)) is Reason.SECOND_PERSON_REQUIRED


async def test_an_operator_stops_what_its_tenants_own_and_nothing_else(world: World) -> None:
    await world.stop("agent", SUPPORT, who=RETAIL_DESK)
    await world.stop("class", "write", tenant="retail", who=RETAIL_DESK)
    for kind, name, tenant in (
        ("agent", WHOLESALE, ""),
        ("agent", SHARED, ""),
        ("agent", "spiffe://example.org/agent/nobody", ""),
        ("tenant", "wholesale", ""),
        ("tenant", "nobodys", ""),
        ("class", "write", ""),
        ("class", "write", "wholesale"),
        ("action", "order.read", ""),
        ("everything", "", ""),
    ):
        assert await refused(world.stop(kind, name, tenant=tenant, who=RETAIL_DESK)) is Reason.TENANT_REFUSED
    await world.granted(WHOLESALE)


@pytest.mark.parametrize("who", [SUPPORT, ORDERS])
async def test_agents_and_services_stop_nobody_and_let_nobody_go_on(world: World, who: str) -> None:
    done = await world.stop("tenant", "wholesale")
    not_theirs = {Reason.POLICY_NOT_PERMITTED, Reason.TENANT_REFUSED}
    assert await refused(world.stop("agent", who, who=who)) in not_theirs
    assert await refused(world.stop("everything", who=who)) in not_theirs
    assert await refused(world.let_go_on(done.override, who)) in not_theirs
    assert await refused(world.let_go_on("ovr_none", who)) in not_theirs
    assert await refused(world.stopped(who)) in not_theirs


async def test_each_sees_what_concerns_its_tenants(world: World) -> None:
    stops = [("agent", SHARED), ("agent", WHOLESALE), ("tenant", "retail"), ("tenant", "wholesale"), ("everything", "")]
    for kind, name in stops:
        await world.stop(kind, name)
    assert [(each.stop.kind.value, each.stop.name) for each in await world.stopped(DUTY)] == stops
    seen = {(each.stop.kind.value, each.stop.name) for each in await world.stopped(RETAIL_DESK)}
    assert seen == {("agent", SHARED), ("tenant", "retail"), ("everything", "")}
    (first, *_) = await world.stopped()
    assert (first.by, first.text) == (SECURITY, "a test")


@pytest.mark.parametrize(
    ("kind", "name", "tenant"),
    [
        ("agent", "spiffe://example.org/agent/suport-assistant", ""),
        ("agent", ORDERS, ""),
        ("tenant", "retial", ""),
        ("action", "order.raed", ""),
        ("action", "broker.revoke", ""),
        ("class", "read", "retial"),
    ],
)
async def test_a_misspelt_name_is_not_pretended_to_be_stopped(world: World, kind: str, name: str, tenant: str) -> None:
    reason = await refused(world.stop(kind, name, tenant=tenant))
    assert reason in {Reason.REVOCATION_TARGET_UNKNOWN, Reason.TENANT_REFUSED}
    assert await world.stopped() == ()


# --- what stays -----------------------------------------------------------------------------------------------------


async def test_a_stop_is_recorded_with_whom_and_what_it_ended(world: World) -> None:
    credential = await world.granted()
    done = await world.stop("agent", SUPPORT)
    lifted = await world.let_go_on(done.override)
    events = {event.position: json.loads(event.content) for event in await world.events()}
    imposed, over = events[done.position], events[lifted.position]
    assert (imposed["type"], imposed["spiffe_id"], imposed["rule"], imposed["name"], imposed["tenant"]) == (
        ("override.imposed", SECURITY, "agent", SUPPORT, "retail")
    )
    index = credential.grant.status_index
    assert (imposed["revoked"], imposed["status_indexes"]) == (1, {ORDERS: [[index, index]]})
    assert "text" in imposed["commitments"]
    assert (over["type"], over["spiffe_id"], over["imposed_by"]) == ("override.lifted", DUTY, SECURITY)
    assert over["override"] == imposed["override"] == done.override


async def test_services_hear_of_it_by_the_stream_they_follow(world: World) -> None:
    credential = await world.granted()
    cursor = (await world.revocations()).page.cursor
    done = await world.stop("everything")
    (news,) = (await world.revocations(cursor=cursor)).revoked
    assert (news.position, news.rule) == (done.position, "override")
    assert news.status_indexes == (credential.grant.status_index,)


async def test_a_stop_holds_across_a_restart_and_so_does_who_imposed_it(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.granted()
        done = await world.stop("tenant", "retail")
    async with open_world(tmp_path) as world:
        assert (await world.refused()).reason is STOPPED
        await world.granted(WHOLESALE)
        assert await refused(world.let_go_on(done.override, SECURITY)) is Reason.SECOND_PERSON_REQUIRED
        await world.let_go_on(done.override)
        await world.granted()
    async with open_world(tmp_path) as world:
        await world.granted()


async def test_stops_crossing_two_hundred_exchanges_leave_none_alive(world: World) -> None:
    task = await world.begin()
    for kind, name in (("everything", ""), ("class", "write"), ("agent", SUPPORT)):
        asking = [world.exchange(action="order.cancel", task=task.id, resource=f"order/{n}") for n in range(200)]
        before, after = asking[:100], asking[100:]
        waiting = [asyncio.ensure_future(each) for each in before]
        stopping = asyncio.ensure_future(world.stop(kind, name))
        answers = await asyncio.gather(*waiting, *after)
        done = await stopping
        given = {answer.grant.status_index for answer in answers if isinstance(answer, Credential)}
        assert given <= held(await world.revocations())
        assert (await world.refused(action="order.cancel", task=task.id)).reason is STOPPED
        await world.let_go_on(done.override)


async def test_a_stop_is_in_force_before_a_full_queue_is_served(world: World) -> None:
    """Whatever waited when it was imposed is refused, all of it: it did not wait behind them."""
    entered, go = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        go.wait(30)

    await world.granted()
    blocking = asyncio.create_task(world.issuer.worker.run(block))
    await asyncio.to_thread(entered.wait, 30)
    call = world.call()
    waiting = [asyncio.create_task(world.issuer.exchange([call])) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    assert (await world.refused()).reason is Reason.LIMIT_BUSY
    stopping = asyncio.create_task(world.stop("everything"))
    await asyncio.sleep(0)
    go.set()
    assert (await stopping).revoked == 1
    answers = [answer for (answer,) in await asyncio.gather(*waiting)]
    assert {answer.reason for answer in answers if isinstance(answer, Refusal)} == {STOPPED}
    assert all(isinstance(answer, Refusal) for answer in answers)
    await blocking


# --- without a bundle -----------------------------------------------------------------------------------------------


def break_policy(folder: Path) -> None:
    (folder / "policy" / "broken.cedar").write_text("permit (\n")


def mend_policy(folder: Path) -> None:
    (folder / "policy" / "broken.cedar").unlink()


async def test_a_bundle_that_does_not_load_keeps_nobody_from_stopping(tmp_path: Path) -> None:
    """The broker was started again with it, so that none is active: whom the last good one let stop, still may."""
    async with open_world(tmp_path) as world:
        live = await world.granted()
    break_policy(tmp_path)
    async with open_world(tmp_path) as world:
        assert (await world.refused()).reason is Reason.POLICY_UNAVAILABLE
        assert await refused(world.stop("everything", who=SUPPORT)) is Reason.POLICY_UNAVAILABLE
        assert await refused(world.stop("everything", who=RETAIL_DESK)) is Reason.POLICY_UNAVAILABLE
        assert await refused(world.stop("tenant", "wholesale", who=RETAIL_DESK)) is Reason.POLICY_UNAVAILABLE
        one = await world.stop("tenant", "retail", who=RETAIL_DESK)
        assert one.revoked == 1
        other = await world.stop("everything")
        assert (await world.refused(WHOLESALE)).reason is STOPPED
        assert len(await world.stopped()) == 2
        assert await refused(world.let_go_on(one.override)) is Reason.POLICY_UNAVAILABLE
    mend_policy(tmp_path)
    async with open_world(tmp_path) as world:
        assert (await world.refused()).reason is STOPPED
        assert held(await world.revocations()) == {live.grant.status_index}
        await world.let_go_on(other.override)
        await world.let_go_on(one.override)
        await world.granted()


async def test_a_class_is_stopped_whole_when_nobody_knows_the_classes(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.granted()
    break_policy(tmp_path)
    async with open_world(tmp_path) as world:
        assert (await world.stop("class", "write")).revoked == 1


async def test_whom_a_new_bundle_lets_stop_takes_the_place_of_whom_the_last_did(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        before = await world.stored(lambda store: store.stoppers())
        assert {(each.spiffe_id, each.tenant) for each in before} == {
            (SECURITY, ""),
            (DUTY, ""),
            (RETAIL_DESK, "retail"),
        }
        another = Item(writes=(ActivatePolicy(digest="sha-256:another"),))
        await world.stored(lambda store: store.commit([another]))
        assert await world.stored(lambda store: store.stoppers()) == []


# --- one person, two identities -------------------------------------------------------------------------------------

BOTH = f"""
[[person]]
name = "ana"
all_tenants = true
groups = ["security", "duty"]
spiffe_ids = ["{SECURITY}", "{DUTY}"]
"""


async def claim(world: World, persons: str) -> None:
    """Let the active bundle say who is whom."""
    entities = world.folder / "policy" / "entities.toml"
    entities.write_text((BUNDLE / "entities.toml").read_text() + persons)
    assert await world.issuer.worker.run(world.issuer.verbs.attempt.policy.refresh)  # type: ignore[attr-defined]  # the active bundle is callable


async def test_one_person_with_two_identities_lifts_nothing_that_it_has_stopped(world: World) -> None:
    """What counts is who they are when it is lifted: the bundle of now, not that of when it was imposed."""
    one, other = await world.stop("everything"), await world.stop("tenant", "retail", who=DUTY)
    await claim(world, BOTH)
    assert await refused(world.let_go_on(one.override, DUTY)) is Reason.SECOND_PERSON_REQUIRED
    assert await refused(world.let_go_on(other.override, SECURITY)) is Reason.SECOND_PERSON_REQUIRED
    assert (await world.refused()).reason is STOPPED
    await claim(world, BOTH.replace(f', "{DUTY}"', "") + BOTH.replace(f'"{SECURITY}", ', "").replace("ana", "ben"))
    await world.let_go_on(one.override, DUTY)
    await world.let_go_on(other.override, SECURITY)
    await world.granted()
