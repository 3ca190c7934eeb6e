"""Tasks: whose, which tenant, until when; their end ends their credentials and nothing else (threat A8)."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from tests.operations.world import SHARED, SUPPORT, WHOLESALE, World
from tests.polling import eventually

CANCEL = {"action": "order.cancel"}


async def refused(awaitable: object) -> Reason:
    with pytest.raises(Refusal) as refusal:
        await awaitable  # type: ignore[misc]
    return refusal.value.reason


async def test_a_task_makes_writes_possible(world: World) -> None:
    task = await world.begin()
    assert (task.agent, task.tenant) == (SUPPORT, "retail")
    credential = await world.granted(**CANCEL, task=task.id)
    assert credential.grant.task == task.id


async def test_an_agent_of_two_tenants_is_pinned_by_its_task(world: World) -> None:
    assert await refused(world.begin(SHARED)) is Reason.TENANT_REQUIRED
    assert await refused(world.begin(SHARED, tenant="other")) is Reason.TENANT_REFUSED
    retail, wholesale = await world.begin(SHARED, tenant="retail"), await world.begin(SHARED, tenant="wholesale")
    customer = {"action": "customer.read", "resource": "customer/7"}
    assert (await world.granted(SHARED, **customer, task=retail.id)).grant.tenant == "retail"
    assert (await world.refused(SHARED, **customer, task=wholesale.id)).reason is Reason.POLICY_NOT_PERMITTED
    assert (await world.granted(SHARED, task=wholesale.id)).grant.tenant == "wholesale"


async def test_ending_a_task_ends_its_credentials_and_nothing_else(world: World) -> None:
    one, other = await world.begin(), await world.begin()
    of_one = await world.granted(**CANCEL, task=one.id)
    of_other = await world.granted(**CANCEL, task=other.id)
    of_none = await world.granted()
    ended = await world.end(one.id)
    assert ended.revoked == 1
    page = await world.revocations(SUPPORT)
    assert page.snapshot is not None
    assert page.snapshot.credential_ids == (of_one.grant.credential_id,)
    assert {of_other.grant.credential_id, of_none.grant.credential_id}.isdisjoint(page.snapshot.credential_ids)
    await world.granted(**CANCEL, task=other.id)


async def test_an_ended_task_gives_nothing_and_cannot_end_twice(world: World) -> None:
    task = await world.begin()
    await world.granted(**CANCEL, task=task.id)
    await world.end(task.id)
    assert (await world.refused(**CANCEL, task=task.id)).reason is Reason.TASK_ENDED
    assert await refused(world.end(task.id)) is Reason.TASK_ENDED


async def test_a_task_is_its_agents_own(world: World) -> None:
    task = await world.begin()
    assert (await world.refused(WHOLESALE, **CANCEL, task=task.id)).reason is Reason.TASK_UNKNOWN
    assert await refused(world.end(task.id, WHOLESALE)) is Reason.TASK_UNKNOWN
    await world.granted(**CANCEL, task=task.id)


async def test_an_intent_keeps_to_the_purpose_of_its_task(world: World) -> None:
    task = await world.begin(WHOLESALE, purpose="stock-planning")
    assert (await world.refused(WHOLESALE, **CANCEL, task=task.id)).reason is Reason.PURPOSE_REFUSED


async def test_a_passed_deadline_ends_the_task(world: World) -> None:
    task = await world.begin(lifetime=timedelta(seconds=60))
    credential = await world.granted(**CANCEL, task=task.id)
    assert credential.grant.expires_at <= task.deadline
    world.time.ahead = timedelta(seconds=61)
    # It may have been ended, and even forgotten, before it is asked for.
    over = {Reason.TASK_DEADLINE_PASSED, Reason.TASK_ENDED, Reason.TASK_UNKNOWN}
    assert (await world.refused(**CANCEL, task=task.id)).reason in over
    (event,) = await eventually(lambda: world.events(kinds=("task.ended",)))
    members = json.loads(event.content)
    assert (members["task"], members["cause"]) == (task.id, "deadline")
    assert members["revoked"] == 0  # its credentials could not outlive the deadline, and did not


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"purpose": "curiosity"}, Reason.PURPOSE_REFUSED),
        ({"lifetime": timedelta(days=8)}, Reason.TASK_DEADLINE_REFUSED),
        ({"tenant": "wholesale"}, Reason.TENANT_REFUSED),
    ],
    ids=["purpose", "too-long", "another-tenant"],
)
async def test_a_task_that_may_not_begin(world: World, changes: dict[str, Any], reason: Reason) -> None:
    assert await refused(world.begin(**changes)) is reason
    (event,) = await world.events(kinds=("request.refused",))
    assert json.loads(event.content)["reason"] == reason.name
    await world.begin()


async def test_ending_while_exchanging_leaves_no_live_credential(world: World) -> None:
    for _ in range(20):
        task = await world.begin()
        *answers, _ = await asyncio.gather(
            *(world.exchange(**CANCEL, task=task.id) for _ in range(5)), world.end(task.id)
        )
        given = {answer.grant.credential_id for answer in answers if isinstance(answer, Credential)}
        page = await world.revocations(SUPPORT)
        assert page.snapshot is not None
        assert given <= set(page.snapshot.credential_ids)
