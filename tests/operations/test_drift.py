"""A task that is refused again and again what lies outside it: counted whatever happens, reported once, suspended."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.approval import ApprovalState
from broker.boundary import Boundary
from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.operations.record import REFUSALS_A_SECOND
from broker.task import Task
from tests.operations.test_task_boundary import beat, cancel, changed, dead, events, narrow, refused
from tests.operations.world import DUTY, RETAIL_DESK, SECURITY, SUPPORT, WHOLESALE, World, open_world

REFUND: dict[str, Any] = {"action": "order.refund", "parameters": {"amount": 100, "currency": "EUR"}}
LARGE: dict[str, Any] = {"action": "order.refund_large", "parameters": {"amount": 6000, "currency": "EUR"}}
ONLY_REFUNDS = Boundary(actions=frozenset({"order.refund_large"}))
ONLY_READS = Boundary(actions=frozenset({"order.read"}))
# Of the example's customer-case.
REFUSALS = 5
WITHIN = timedelta(minutes=10)
REPORT_ONLY = 'then = "suspend"', 'then = "report"'


async def stray(world: World, task: Task, times: int = 1) -> list[Reason]:
    """Ask for something outside of a task."""
    return [(await world.refused(task=task.id, **REFUND)).reason for _ in range(times)]


async def begun(world: World) -> Task:
    return await world.begin(boundary=ONLY_READS)


async def test_at_the_last_refusal_it_is_suspended_and_what_lived_in_it_is_dead(world: World) -> None:
    task, other = await begun(world), await begun(world)
    live, elsewhere = await world.granted(task=task.id), await world.granted(task=other.id)
    assert set(await stray(world, task, REFUSALS - 1)) == {Reason.TASK_BOUNDARY_EXCEEDED}
    assert await dead(world) == set()
    await world.granted(task=task.id)
    assert await events(world, "task.drifted") == []
    assert await stray(world, task) == [Reason.TASK_BOUNDARY_EXCEEDED]
    (event,) = await events(world, "task.drifted")
    assert (event["task"], event["agent"], event["tenant"]) == (task.id, SUPPORT, "retail")
    assert (event["refusals"], event["within"], event["suspended"], event["revoked"]) == (REFUSALS, 600, True, 2)
    assert (event["reasons"], event["task_type"]) == (["TASK_BOUNDARY_EXCEEDED"], "customer-case")
    assert live.grant.credential_id in await dead(world)
    assert elsewhere.grant.credential_id not in await dead(world)
    refusal = await world.refused(task=task.id)
    assert (refusal.reason, bool(refusal.sentence)) == (Reason.TASK_SUSPENDED, True)
    assert await stray(world, task, 2) == [Reason.TASK_SUSPENDED] * 2, "and nothing more is counted"
    await world.granted(task=other.id)
    assert len(await events(world, "task.drifted")) == 1


async def test_what_people_were_asked_in_it_is_taken_back(world: World) -> None:
    """A conversation that strayed may have been talked into asking; a yes that comes later must give nothing."""
    task, other = await world.begin(boundary=ONLY_REFUNDS), await world.begin(boundary=ONLY_REFUNDS)
    waits, approved = (
        await world.held(task=task.id, **LARGE),
        await world.held(task=task.id, **LARGE | {"resource": "order/9"}),
    )
    await world.approve(approved)
    elsewhere = await world.held(task=other.id, **LARGE)
    for _ in range(REFUSALS):
        assert (await world.refused(task=task.id)).reason is Reason.TASK_BOUNDARY_EXCEEDED
    (event,) = await events(world, "task.drifted")
    assert set(event["approvals"]) == {waits, approved}
    for each in (waits, approved):
        assert (await world.approval(each)).state is ApprovalState.WITHDRAWN
    assert await refused(world.approve(waits)) is Reason.APPROVAL_WITHDRAWN
    await world.resume(task.id)
    changes = LARGE | {"resource": "order/9", "approval": approved}
    assert (await world.refused(task=task.id, **changes)).reason is Reason.APPROVAL_WITHDRAWN
    await world.approve(elsewhere)
    await world.granted(task=other.id, approval=elsewhere, **LARGE)  # the control


async def test_a_suspended_task_is_heard_of_narrowed_and_ended_all_the_same(world: World) -> None:
    task = await world.begin(boundary=ONLY_READS, heartbeat=timedelta(seconds=30))
    await stray(world, task, REFUSALS)
    world.time.ahead = timedelta(seconds=60)
    assert (await beat(world, task.id)).task.suspended_at is not None
    world.time.ahead = timedelta(seconds=120)
    await narrow(world, task.id, Boundary(actions=frozenset({"order.read"})))
    assert (await world.refused(task=task.id)).reason is Reason.TASK_SUSPENDED
    await cancel(world, task.id)
    assert (await world.refused(task=task.id)).reason is Reason.TASK_ENDED
    assert await refused(world.resume(task.id)) is Reason.TASK_ENDED


async def test_an_operator_lets_it_go_on_and_the_count_begins_anew(world: World) -> None:
    task = await begun(world)
    live = await world.granted(task=task.id)
    await stray(world, task, REFUSALS)
    await world.resume(task.id)
    assert live.grant.credential_id in await dead(world), "what ended stays ended"
    await world.granted(task=task.id)
    await stray(world, task, REFUSALS - 1)
    await world.granted(task=task.id)
    await stray(world, task)
    assert len(await events(world, "task.drifted")) == 2
    (event,) = await events(world, "task.resumed")
    assert (event["spiffe_id"], event["task"], event["tenant"]) == (SECURITY, task.id, "retail")
    assert event["decision"]["policies"] == ["security-resumes-tasks"]


async def test_who_may_resume(world: World) -> None:
    task, theirs = await begun(world), await world.begin(who=WHOLESALE)
    nobodys = "task_0190a0a0-0000-7000-8000-000000000000"
    await stray(world, task, REFUSALS)
    for who in (SUPPORT, WHOLESALE, "spiffe://example.org/service/chat", DUTY):
        assert await refused(world.resume(task.id, who)) in {Reason.POLICY_NOT_PERMITTED, Reason.TENANT_REFUSED}
    assert (await world.refused(task=task.id)).reason is Reason.TASK_SUSPENDED
    assert await refused(world.resume(theirs.id, RETAIL_DESK)) is Reason.TENANT_REFUSED
    assert await refused(world.resume(nobodys, RETAIL_DESK)) is Reason.TENANT_REFUSED
    assert await refused(world.resume(nobodys)) is Reason.TASK_UNKNOWN
    assert await refused(world.resume(theirs.id)) is Reason.TASK_NOT_SUSPENDED
    await world.resume(task.id, RETAIL_DESK)
    assert await refused(world.resume(task.id)) is Reason.TASK_NOT_SUSPENDED
    await world.granted(task=task.id)


async def test_what_is_far_apart_is_no_drift(world: World) -> None:
    task = await begun(world)
    await stray(world, task, REFUSALS - 1)
    world.time.ahead = WITHIN + timedelta(seconds=1)
    await stray(world, task, REFUSALS - 1)
    assert await events(world, "task.drifted") == []
    await stray(world, task)
    assert len(await events(world, "task.drifted")) == 1


async def test_where_the_type_only_reports_the_task_goes_on_and_each_crossing_is_told_once(world: World) -> None:
    await changed(world, "entities.toml", lambda text: text.replace(*REPORT_ONLY))
    task = await begun(world)
    live = await world.granted(task=task.id)
    await stray(world, task, 2 * REFUSALS + 1)
    found = await events(world, "task.drifted")
    assert [(event["suspended"], event["revoked"]) for event in found] == [(False, 0)] * 2
    await world.granted(task=task.id)
    assert live.grant.credential_id not in await dead(world)


async def test_other_refusals_and_other_tasks_count_for_nothing(world: World) -> None:
    task, other = await begun(world), await begun(world)
    for number in range(REFUSALS - 1):
        await stray(world, task)
        await world.refused(task=other.id, purpose="delivery")
        await world.refused(action="order.delete", task=f"task_{number:08d}-0000-7000-8000-000000000000")
    await stray(world, other, REFUSALS - 1)
    assert await events(world, "task.drifted") == []


# --- nothing hides one ----------------------------------------------------------------------------------------------


async def test_the_count_survives_a_restart(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        task = await begun(world)
        await stray(world, task, REFUSALS - 1)
    async with open_world(tmp_path) as world:
        assert await stray(world, task) == [Reason.TASK_BOUNDARY_EXCEEDED]
        assert len(await events(world, "task.drifted")) == 1
    async with open_world(tmp_path) as world:
        assert (await world.refused(task=task.id)).reason is Reason.TASK_SUSPENDED, "and so does the suspension"


async def test_refusals_that_are_not_written_are_counted(world: World) -> None:
    """More of them in a second than the log takes: the agent cannot hide in its own noise."""
    await changed(world, "entities.toml", lambda text: text.replace("refusals = 5", "refusals = 30"))
    task = await begun(world)
    calls = [world.call(task=task.id, **REFUND) for _ in range(30)]
    answers = [answer for call in calls for answer in await world.issuer.exchange([call])]
    assert all(isinstance(answer, Refusal) for answer in answers)
    assert len(await events(world, "exchange.refused")) < 30, f"at most {REFUSALS_A_SECOND} a second are written"
    assert len(await events(world, "task.drifted")) == 1


@pytest.mark.parametrize("streams", [1, 4, 40])
async def test_parallel_streams_hide_nothing(world: World, streams: int) -> None:
    """Forty at once, in groups of any size, with good intents among them: one crossing, and nothing of it lives."""
    task = await begun(world)
    calls = [world.call(task=task.id, **(REFUND if number % 5 else {})) for number in range(40)]
    groups = await asyncio.gather(*(world.issuer.exchange(calls[number::streams]) for number in range(streams)))
    answers = [answer for group in groups for answer in group]
    given = {answer.grant.credential_id for answer in answers if isinstance(answer, Credential)}
    strayed = sum(isinstance(answer, Refusal) and answer.reason is Reason.TASK_BOUNDARY_EXCEEDED for answer in answers)
    found = await events(world, "task.drifted")
    assert len(found) == strayed // REFUSALS >= 1, "each was counted, once"
    assert given <= await dead(world)
    assert (await world.refused(task=task.id)).reason is Reason.TASK_SUSPENDED


async def test_the_event_is_shown_to_who_may_see_the_tenant(world: World) -> None:
    task = await begun(world)
    await stray(world, task, REFUSALS)
    seen = await world.events(RETAIL_DESK, tenant="retail", kinds=("task.drifted",))
    assert [json.loads(event.content)["task"] for event in seen] == [task.id]
