"""Revocation: from its commit no new grant, what lives is dead, and those who must know hear of it without a gap."""

import asyncio
import json

import pytest
from pyroaring import BitMap

from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.operations.calls import RevocationPage
from tests.operations.world import ORDERS, RETAIL_DESK, SECURITY, SHARED, SUPPORT, WHOLESALE, World


async def refused(awaitable: object) -> Reason:
    with pytest.raises(Refusal) as refusal:
        await awaitable  # type: ignore[misc]
    return refusal.value.reason


def held(page: RevocationPage) -> set[int]:
    assert page.snapshot is not None
    return set(BitMap.deserialize(page.snapshot.status_indexes))


NOT_ALLOWED = {Reason.POLICY_NOT_PERMITTED, Reason.TENANT_REFUSED}

RULES = [
    pytest.param("agent", SUPPORT, Reason.AGENT_REVOKED, id="agent"),
    pytest.param("tenant", "retail", Reason.TENANT_REVOKED, id="tenant"),
    pytest.param("policy", "order-readers-may-look-up-orders", Reason.POLICY_REVOKED, id="policy"),
]


@pytest.mark.parametrize(("kind", "name", "reason"), RULES)
async def test_a_rule_ends_what_lives_and_blocks_what_would_be(
    world: World, kind: str, name: str, reason: Reason
) -> None:
    credential = await world.granted()
    revoked = await world.revoke(kind, name)
    assert revoked.revoked == 1
    assert held(await world.revocations()) == {credential.grant.status_index}
    assert (await world.refused()).reason is reason
    if kind != "policy":
        await world.granted(WHOLESALE)
    await world.lift(revoked.revocation)
    again = await world.granted()
    assert held(await world.revocations()) == {credential.grant.status_index}
    assert again.grant.status_index != credential.grant.status_index


async def test_one_credential_is_revoked_alone(world: World) -> None:
    one, other = await world.granted(), await world.granted()
    await world.revoke("credential", one.grant.credential_id)
    assert held(await world.revocations()) == {one.grant.status_index}
    assert other.grant.status_index not in held(await world.revocations())


async def test_a_revoked_task_gives_nothing_more(world: World) -> None:
    task = await world.begin()
    await world.granted(action="order.cancel", task=task.id)
    await world.revoke("task", task.id)
    assert (await world.refused(action="order.cancel", task=task.id)).reason is Reason.TASK_REVOKED


UNKNOWN = [
    ("credential", "cred_0190a0a0-0000-7000-8000-000000000000", Reason.CREDENTIAL_UNKNOWN),
    ("task", "task_0190a0a0-0000-7000-8000-000000000000", Reason.TASK_UNKNOWN),
    ("agent", "spiffe://example.org/agent/suport-assistant", Reason.REVOCATION_TARGET_UNKNOWN),
    ("tenant", "retial", Reason.REVOCATION_TARGET_UNKNOWN),
    ("policy", "no-such-policy", Reason.REVOCATION_TARGET_UNKNOWN),
]


@pytest.mark.parametrize(("kind", "name", "reason"), UNKNOWN, ids=[row[0] for row in UNKNOWN])
async def test_a_misspelt_name_is_not_pretended_to_be_revoked(
    world: World, kind: str, name: str, reason: Reason
) -> None:
    assert await refused(world.revoke(kind, name)) is reason


@pytest.mark.parametrize("who", [SUPPORT, ORDERS, WHOLESALE])
async def test_who_may_revoke_is_policy(world: World, who: str) -> None:
    credential = await world.granted()
    assert await refused(world.revoke("credential", credential.grant.credential_id, who)) in NOT_ALLOWED
    assert held(await world.revocations()) == set()
    await world.revoke("credential", credential.grant.credential_id)


async def test_an_operator_stays_within_its_tenant(world: World) -> None:
    own, foreign = await world.granted(), await world.granted(WHOLESALE)
    assert (await world.revoke("credential", own.grant.credential_id, RETAIL_DESK)).revoked == 1
    for kind, name in [
        ("credential", foreign.grant.credential_id),
        ("credential", "cred_0190a0a0-0000-7000-8000-000000000000"),
        ("agent", WHOLESALE),
        ("agent", SHARED),
        ("tenant", "wholesale"),
        ("policy", "order-readers-may-look-up-orders"),
    ]:
        assert await refused(world.revoke(kind, name, RETAIL_DESK)) is Reason.TENANT_REFUSED, (kind, name)
    assert held(await world.revocations()) == {own.grant.status_index}


async def test_lifting_is_its_own_action_and_happens_once(world: World) -> None:
    made = await world.revoke("tenant", "retail")
    assert await refused(world.lift(made.revocation, RETAIL_DESK)) is Reason.POLICY_NOT_PERMITTED
    assert (await world.refused()).reason is Reason.TENANT_REVOKED
    await world.lift(made.revocation)
    assert await refused(world.lift(made.revocation)) is Reason.REVOCATION_UNKNOWN


async def test_a_revoked_reader_reads_no_more(world: World) -> None:
    page = await world.revocations(SUPPORT)
    await world.revocations(SUPPORT, page.page.cursor)
    revoked = await world.revoke("agent", SUPPORT)
    assert await refused(world.revocations(SUPPORT)) is Reason.AGENT_REVOKED
    await world.lift(revoked.revocation)
    await world.revocations(SUPPORT)


async def test_a_service_follows_without_a_gap(world: World) -> None:
    first = await world.revocations()
    credentials = [await world.granted() for _ in range(3)]
    for credential in credentials:
        await world.revoke("credential", credential.grant.credential_id)
    page = await world.revocations(cursor=first.page.cursor)
    assert page.page.start == first.page.stop
    assert page.snapshot is None
    heard = [index for each in page.revoked for index in each.status_indexes]
    assert heard == [credential.grant.status_index for credential in credentials]
    assert [each.position for each in page.revoked] == sorted(each.position for each in page.revoked)
    later = await world.revocations(cursor=page.page.cursor)
    assert (later.page.start, later.revoked) == (page.page.stop, ())


async def test_an_agent_follows_its_own_credentials_only(world: World) -> None:
    mine, foreign = await world.granted(), await world.granted(WHOLESALE)
    start = await world.revocations(SUPPORT)
    for credential in (mine, foreign):
        await world.revoke("credential", credential.grant.credential_id)
    page = await world.revocations(SUPPORT, start.page.cursor)
    assert [each.credential_ids for each in page.revoked] == [(mine.grant.credential_id,)]
    assert all(not each.status_indexes for each in page.revoked)
    assert page.key_set is None


async def test_who_may_follow_is_policy(world: World) -> None:
    assert await refused(world.revocations(SECURITY)) is Reason.POLICY_NOT_PERMITTED


@pytest.mark.parametrize("who", [SUPPORT, WHOLESALE])
async def test_a_cursor_is_its_readers_own(world: World, who: str) -> None:
    page = await world.revocations()
    assert await refused(world.revocations(who, page.page.cursor)) is Reason.CURSOR_FOREIGN
    await world.revocations(cursor=page.page.cursor)


async def test_who_may_read_the_log_is_policy_and_by_tenant(world: World) -> None:
    await world.granted()
    await world.granted(WHOLESALE)
    assert await refused(world.events(SUPPORT)) in NOT_ALLOWED
    assert await refused(world.events(RETAIL_DESK)) is Reason.TENANT_REFUSED
    assert await refused(world.events(RETAIL_DESK, tenant="wholesale")) is Reason.TENANT_REFUSED
    assert await refused(world.events(RETAIL_DESK, tenant="retail", personal=True)) in NOT_ALLOWED
    own = await world.events(RETAIL_DESK, tenant="retail")
    assert {json.loads(event.content)["tenant"] for event in own} == {"retail"}
    everything = await world.events()
    assert [event.position for event in everything] == list(range(len(everything)))


async def test_a_revocation_crossing_grants_leaves_none_alive(world: World) -> None:
    for _ in range(20):
        revoking = asyncio.create_task(world.revoke("agent", SUPPORT))
        answers = await asyncio.gather(*(world.exchange() for _ in range(5)))
        revoked = await revoking
        given = {answer.grant.status_index for answer in answers if isinstance(answer, Credential)}
        assert given <= held(await world.revocations())
        await world.lift(revoked.revocation)


async def test_the_feed_tells_endings_from_all_the_rest(world: World) -> None:
    """What wakes the readers of revocations: nothing is missed, and a grant is none of it."""
    changes = world.issuer.changes()

    async def reached() -> int:
        size = (await world.issuer.state()).size
        async with asyncio.timeout(60):
            while (change := await anext(changes)).size < size:
                pass
        return change.endings

    credential = await world.granted()
    before = await reached()
    await world.granted()
    assert await reached() == before
    task = await world.begin()
    assert await reached() == before
    endings = [before]
    await world.end(task.id)
    endings.append(await reached())
    await world.revoke("credential", credential.grant.credential_id)
    endings.append(await reached())
    made = await world.revoke("agent", WHOLESALE)  # which holds nothing
    endings.append(await reached())
    await world.lift(made.revocation)
    endings.append(await reached())
    assert endings == sorted(set(endings))
