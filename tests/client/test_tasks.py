"""A task as a block: it ends with the block, however that ends, and a failure to end it is not kept quiet."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from broker.client import Denied, Session, Unavailable
from broker.errors import Reason, Refusal
from broker.intent import Resource
from broker.issuer.port import BeginTaskCall, EndTaskCall, HeartbeatCall, NarrowTaskCall
from tests.fakes.issuer import FakeIssuer
from tests.server.world import World, until


class Problem(Exception):
    """The block's own."""


def ends(world: World) -> int:
    return sum(isinstance(call, EndTaskCall) for call in world.issuer.calls)


def refuse_ends(monkeypatch: pytest.MonkeyPatch, *refusals: Refusal) -> None:
    """Refuse the ends of tasks, one after another; then let them pass."""
    left, real = list(refusals), FakeIssuer.end_task

    async def refusing(issuer: FakeIssuer, call: EndTaskCall) -> Any:
        done = await real(issuer, call)
        if left:
            raise left.pop(0)
        return done

    monkeypatch.setattr(FakeIssuer, "end_task", refusing)


async def test_the_end_of_the_block_ends_it(world: World, session: Session) -> None:
    async with session.task(purpose="support", tenant="acme") as task:
        assert (task.purpose, task.tenant) == ("support", "acme")
        assert ends(world) == 0
    assert ends(world) == 1


async def test_an_exception_ends_it_and_goes_on(world: World, session: Session) -> None:
    with pytest.raises(Problem):
        async with session.task(purpose="support"):
            raise Problem
    assert ends(world) == 1


async def test_a_cancellation_ends_it_and_goes_on(world: World, session: Session) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with session.task(purpose="support"):
            inside.set()
            await asyncio.Event().wait()

    working = asyncio.ensure_future(work())
    await inside.wait()
    world.issuer.hold = asyncio.Event()
    working.cancel()
    await until(lambda: ends(world))
    working.cancel()  # once more, while it is being ended
    assert not working.done()
    world.issuer.hold.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ends(world) == 1


async def test_a_cancellation_while_it_begins_ends_it(world: World, session: Session) -> None:
    world.issuer.hold = asyncio.Event()

    async def work() -> None:
        async with session.task(purpose="support"):
            raise AssertionError

    working = asyncio.ensure_future(work())
    await until(lambda: any(isinstance(call, BeginTaskCall) for call in world.issuer.calls))
    working.cancel()
    world.issuer.hold.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ends(world) == 1


async def test_a_refused_end_is_raised(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_ends(monkeypatch, Refusal(Reason.TASK_UNKNOWN))
    with pytest.raises(Exception, match="TASK_UNKNOWN"):
        async with session.task(purpose="support"):
            pass


async def test_a_refused_end_after_an_exception_is_noted(
    session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_ends(monkeypatch, Refusal(Reason.POLICY_FORBIDDEN))
    with pytest.raises(Problem) as caught, caplog.at_level(logging.WARNING):
        async with session.task(purpose="support"):
            raise Problem
    assert "POLICY_FORBIDDEN" in caught.value.__notes__[0]
    assert "POLICY_FORBIDDEN" in caplog.text


async def test_a_lost_end_is_asked_again(world: World, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_ends(monkeypatch, Refusal(Reason.AUDIT_UNAVAILABLE), Refusal(Reason.TASK_ENDED))
    async with session.task(purpose="support"):
        pass
    assert ends(world) == 2


async def test_an_end_that_stays_away_is_raised(
    world: World, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_ends(monkeypatch, *[Refusal(Reason.AUDIT_UNAVAILABLE)] * 9)
    with pytest.raises(Unavailable):
        async with session.task(purpose="support"):
            pass
    assert ends(world) == 3


async def test_what_is_not_begun_is_not_ended(world: World, session: Session) -> None:
    world.issuer.refusal = Refusal(Reason.POLICY_FORBIDDEN)
    with pytest.raises(Denied):
        async with session.task(purpose="support"):
            raise AssertionError
    assert ends(world) == 0


def beats(world: World) -> int:
    return sum(isinstance(call, HeartbeatCall) for call in world.issuer.calls)


async def test_a_block_is_heard_of_by_itself(world: World, session: Session) -> None:
    async with session.task(purpose="support", heartbeat=timedelta(seconds=1)) as task:
        assert task.heartbeat == timedelta(seconds=1)
        await until(lambda: beats(world) >= 2)
    heard = beats(world)
    assert ends(world) == 1
    await session.begin_task(purpose="support")
    assert beats(world) == heard


async def test_a_heartbeat_that_fails_is_tried_again(
    world: World, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, failed = FakeIssuer.heartbeat_task, [Refusal(Reason.AUDIT_UNAVAILABLE)]

    async def failing(issuer: FakeIssuer, call: HeartbeatCall) -> Any:
        done = await real(issuer, call)
        if failed:
            raise failed.pop()
        return done

    monkeypatch.setattr(FakeIssuer, "heartbeat_task", failing)
    with caplog.at_level(logging.WARNING):
        async with session.task(purpose="support", heartbeat=timedelta(seconds=1)):
            await until(lambda: beats(world) >= 2)
    assert "AUDIT_UNAVAILABLE" in caplog.text


async def test_a_task_that_is_over_is_not_heard_of_any_more(
    world: World, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def over(issuer: FakeIssuer, call: HeartbeatCall) -> Any:
        issuer.calls.append(call)
        raise Refusal(Reason.TASK_HEARTBEAT_MISSED)

    monkeypatch.setattr(FakeIssuer, "heartbeat_task", over)
    refuse_ends(monkeypatch, Refusal(Reason.TASK_HEARTBEAT_MISSED))
    with caplog.at_level(logging.WARNING):
        async with session.task(purpose="support", heartbeat=timedelta(seconds=1)):
            await until(lambda: "TASK_HEARTBEAT_MISSED" in caplog.text)
    assert beats(world) == 1


async def test_a_task_says_what_it_is_narrowed_to(world: World, session: Session) -> None:
    limits = {"order.refund": {"amount": {"max": 4200}}}
    async with session.task(
        purpose="support",
        type="customer-case",
        actions=["order.refund", "order.read"],
        resources=["customer", ("order", "1234"), Resource(type="order", set="open-orders")],
        services=["spiffe://example.org/orders"],
        limits=limits,
    ) as task:
        going = await session.narrow_task(task, actions=["order.read"], reason="another subject")
    begun, narrowed, *_ = (call for call in world.issuer.calls if isinstance(call, BeginTaskCall | NarrowTaskCall))
    assert isinstance(begun, BeginTaskCall)
    assert (begun.type, begun.boundary) == ("customer-case", task.boundary)
    assert begun.boundary.to_json() == {
        "actions": ["order.read", "order.refund"],
        "resources": [
            {"type": "customer"},
            {"type": "order", "set": "open-orders"},
            {"type": "order", "id": "1234"},
        ],
        "services": ["spiffe://example.org/orders"],
        "limits": limits,
    }
    assert isinstance(narrowed, NarrowTaskCall)
    assert (narrowed.text, narrowed.boundary.actions) == ("another subject", frozenset({"order.read"}))
    assert (going.revoked, going.task.id) == (2, task.id)


async def test_a_boundary_of_nothing_is_not_sent(world: World, session: Session) -> None:
    with pytest.raises(ValueError, match="end the task"):
        await session.begin_task(purpose="support", actions=[])
    assert world.issuer.calls == []
