"""An agent that waits for people: over the stream, without a browser; and what it raises when nobody says yes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

import broker.client.sync
from broker.client import Approval, Denied, Session, StepUpRequired, Task, Unmet, waiting
from broker.errors import Reason
from broker.v1 import approval_pb2
from tests.attacks.entrances import approval, approve, deny
from tests.client.shop import PAYOUT
from tests.client.stage import Stage
from tests.operations.world import BROKER, LEAD
from tests.polling import eventually

LONG = timedelta(seconds=90)


async def pending(session: Session, task: Task | None = None) -> Approval:
    """The one request of a task that waits for people; the newest without a task."""

    async def one() -> Approval | None:
        found = [each for each in await session.approvals() if task is None or each.task == task.id]
        return found[-1] if found else None

    found = await eventually(one)
    assert found is not None
    return found


async def say_yes(stage: Stage, name: str) -> None:
    lead = stage.house.good(LEAD)
    shown = (await approval(lead, name)).approval
    await approve(lead, name, shown.details.digest)


async def test_without_waiting_it_says_where_to_wait(stage: Stage) -> None:
    task = await stage.session.begin_task(purpose="customer-support")
    with pytest.raises(StepUpRequired) as raised:
        await stage.session.exchange(**PAYOUT, task=task)
    held = raised.value
    assert isinstance(held, Unmet)
    assert (held.reason, held.waits_for) == (Reason.STEP_UP_REQUIRED, ("group:refund-approvers",))
    assert held.sentence == "A person has to approve this first."
    shown = await stage.session.approval(held.approval_id)
    assert (shown.state, shown.details) == ("pending", None)
    assert held.until is not None
    assert abs(held.until - shown.pending_until) < timedelta(seconds=1)


async def test_it_goes_on_when_a_person_has_said_yes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "POLL", 3600.0)  # only the stream can wake it
    task = await stage.session.begin_task(purpose="customer-support")
    asked = asyncio.ensure_future(stage.session.exchange(**PAYOUT, task=task, wait=LONG))
    await say_yes(stage, (await pending(stage.session, task)).id)
    credential = await asyncio.wait_for(asked, 60)
    assert credential.tenant == "retail"
    used = [each for each in await stage.session.approvals(states=["used"]) if each.task == task.id]
    assert [each.state for each in used] == ["used"]


async def test_a_no_is_told_as_one(stage: Stage) -> None:
    task = await stage.session.begin_task(purpose="customer-support")
    asked = asyncio.ensure_future(stage.session.exchange(**PAYOUT, task=task, wait=LONG))
    name = (await pending(stage.session, task)).id
    await deny(stage.house.good(LEAD), name)
    with pytest.raises(Denied) as raised:
        await asyncio.wait_for(asked, 60)
    assert raised.value.reason is Reason.APPROVAL_DENIED
    assert (await stage.session.approval(name)).reason == "a test"


async def test_when_the_time_is_up_it_still_waits_there(stage: Stage) -> None:
    task = await stage.session.begin_task(purpose="customer-support")
    with pytest.raises(StepUpRequired) as raised:
        await stage.session.exchange(**PAYOUT, task=task, wait=timedelta(seconds=0.3))
    name = raised.value.approval_id
    assert (await stage.session.approval(name)).state == "pending"
    await say_yes(stage, name)
    shown = await stage.session.decided(name, wait=LONG)
    assert shown.state == "approved"
    assert (await stage.session.exchange(**PAYOUT, task=task, wait=LONG)).tenant == "retail"


async def test_who_may_not_follow_asks_again_and_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(**_: Any) -> AsyncIterator[approval_pb2.WatchApprovalsResponse]:
        raise Denied(reason=Reason.STREAM_REFUSED, message="a test")
        yield approval_pb2.WatchApprovalsResponse()

    monkeypatch.setattr(stage.session, "_watch_approvals", refused)
    monkeypatch.setattr(waiting, "POLL", 0.05)
    task = await stage.session.begin_task(purpose="customer-support")
    asked = asyncio.ensure_future(stage.session.exchange(**PAYOUT, task=task, wait=LONG))
    await say_yes(stage, (await pending(stage.session, task)).id)
    assert (await asyncio.wait_for(asked, 60)).tenant == "retail"


async def test_what_is_withdrawn_is_over(stage: Stage) -> None:
    task = await stage.session.begin_task(purpose="customer-support")
    asked = asyncio.ensure_future(stage.session.exchange(**PAYOUT, task=task, wait=LONG))
    name = (await pending(stage.session, task)).id
    assert (await stage.session.withdraw_approval(name, reason="not needed")).state == "withdrawn"
    with pytest.raises(Unmet) as raised:
        await asyncio.wait_for(asked, 60)
    assert raised.value.reason is Reason.APPROVAL_WITHDRAWN


async def test_changes_are_followed_from_what_is_open_on(stage: Stage) -> None:
    task = await stage.session.begin_task(purpose="customer-support")
    with pytest.raises(StepUpRequired):
        await stage.session.exchange(**PAYOUT, task=task)
    heard: list[tuple[str, str]] = []

    async def follow() -> None:
        async for each in stage.session.follow_approvals():
            if each.task == task.id and isinstance(each, Approval):
                heard.append((each.id, each.state))  # noqa: PERF401 - looked at while it grows

    async def count(wanted: int) -> None:
        async def reached() -> bool:
            return len(heard) >= wanted

        await eventually(reached)

    following = asyncio.ensure_future(follow())
    first = await pending(stage.session, task)
    await count(1)
    await say_yes(stage, first.id)
    await count(2)
    await stage.session.end_task(task)
    await count(3)
    following.cancel()
    assert heard == [(first.id, "pending"), (first.id, "approved"), (first.id, "withdrawn")]


async def test_a_program_without_asyncio_waits_too(stage: Stage) -> None:
    begun: list[Task] = []

    def program() -> str:
        address = f"127.0.0.1:{stage.house.door.port}"
        with (
            broker.client.sync.connect(address, broker_id=BROKER, socket=stage.agent.socket, timeout=60) as session,
            session.task(purpose="customer-support") as task,
        ):
            begun.append(task)
            return session.exchange(**PAYOUT, task=task, wait=LONG).tenant

    async def has_begun() -> bool:
        return bool(begun)

    asked = asyncio.ensure_future(asyncio.to_thread(program))
    await eventually(has_begun)
    await say_yes(stage, (await pending(stage.session, begun[0])).id)
    assert await asyncio.wait_for(asked, 60) == "retail"
