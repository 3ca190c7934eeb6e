"""Credentials that are held: for the same intent only, until revoked, renewed, or nobody can say."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from broker.client import Credential, Denied, Session, Unreachable
from broker.errors import Reason, Refusal
from broker.v1 import task_pb2_grpc
from tests.attacks.entrances import revoke
from tests.client.stage import Stage, get, open_stage, reading
from tests.operations.world import ORDERS, SECURITY, SUPPORT
from tests.polling import eventually
from tests.server.supply import INTENT, Supply, session_with
from tests.server.world import World, until

READ: dict[str, Any] = {
    "action": "order.read",
    "resource": ("order", "1234"),
    "purpose": "customer-support",
    "audience": ORDERS,
}


async def look(session: Session, **changes: Any) -> Credential:
    return await session.exchange(**(READ | changes), cache=True)


async def held(session: Session, **changes: Any) -> Credential:
    """Ask until the answer is a held one: the stream of revocations has begun to speak."""
    found: list[Credential] = []

    async def again() -> bool:
        first, second = await look(session, **changes), await look(session, **changes)
        found[:] = [second]
        return first.id == second.id

    await eventually(again)
    return found[0]


@pytest.fixture
async def own_stage() -> AsyncIterator[Stage]:
    """A stage that a test may change."""
    async with open_stage() as opened:
        yield opened


async def test_only_the_same_intent_is_served(stage: Stage) -> None:
    session = stage.session
    credential = await held(session)
    assert (await look(session)).id == credential.id
    assert (await session.exchange(**READ)).id != credential.id, "nobody said that this is a read"
    assert (await look(session, resource=("order", "1235"))).id != credential.id
    assert (await look(session, on_behalf_of="ann")).id != credential.id
    async with session.task(purpose="customer-support") as task:
        assert (await look(session, task=task)).id != credential.id
    assert (await look(session)).id == credential.id


async def test_a_revoked_one_is_dropped(stage: Stage) -> None:
    credential = await held(stage.session)
    await revoke(stage.house.good(SECURITY), credential_id=credential.id)

    async def other() -> bool:
        return (await look(stage.session)).id != credential.id

    await eventually(other)


async def test_the_end_of_a_task_drops_its_own(stage: Stage) -> None:
    async with stage.session.task(purpose="customer-support") as task:
        await held(stage.session, task=task)
        assert any(entry.task == task.id for entry in stage.session._cache._entries.values())
    assert not any(entry.task == task.id for entry in stage.session._cache._entries.values())


async def test_a_new_svid_is_given_nothing_of_the_old_one(own_stage: Stage) -> None:
    stage, session = own_stage, own_stage.session
    credential = await held(session)
    stage.renew(stage.agent, SUPPORT)

    async def renewed() -> bool:
        return (await session.exchange(**READ)).thumbprint != credential.thumbprint

    await eventually(renewed)
    assert (await look(session)).thumbprint != credential.thumbprint


async def test_most_of_its_life_over_it_is_asked_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    credential = await held(stage.session)
    cache, real = stage.session._cache, stage.session._cache._clock
    half = (credential.expires_at - real()) * 0.5
    monkeypatch.setattr(cache, "_fresh", half * 2)  # the other bound, out of the way
    monkeypatch.setattr(cache, "_clock", lambda: real() + half)
    assert (await look(stage.session)).id == credential.id
    monkeypatch.setattr(cache, "_clock", lambda: real() + half * 1.6)
    assert (await look(stage.session)).id != credential.id


async def test_without_word_of_revocations_nothing_is_given(own_stage: Stage) -> None:
    session = own_stage.session
    credential = await held(session)
    assert (await look(session)).id == credential.id
    cache, real = session._cache, session._cache._clock
    cache._clock = lambda: real() + cache._fresh * 2
    assert (await look(session)).id != credential.id
    cache._clock = real
    assert cache._following is not None
    cache._following.cancel()
    await asyncio.wait([cache._following])
    assert not cache._entries


async def test_a_revocation_on_the_way_is_heard(stage: Stage) -> None:
    """The stream told of it before the answer to the exchange was here."""
    credential = await held(stage.session)
    await revoke(stage.house.good(SECURITY), credential_id=credential.id)
    cache = stage.session._cache

    async def heard() -> bool:
        return credential.id in cache._revoked

    await eventually(heard)
    intent = reading("1234").intent(ORDERS)
    cache.put(intent, None, credential)
    assert cache.get(intent, None, credential.thumbprint) is None


async def test_a_channel_may_hold_too(stage: Stage) -> None:
    await held(stage.session)
    intents = {"/broker.v1.TaskService/BeginTask": lambda request: reading(request.purpose, cache=True)}
    stub = task_pb2_grpc.TaskServiceStub(stage.session.channel(ORDERS, stage.address, intents=intents))
    for _ in range(3):
        await stub.BeginTask(get())
    assert len(set(stage.orders.handled[-3:])) == 1


# --- many at once ----------------------------------------------------------------------------------------------------


def asked(world: World) -> int:
    """How many exchanges have reached the issuer, answered or not."""
    return sum(world.issuer.groups)


async def all_at_once(world: World, session: Session, count: int = 20) -> list[asyncio.Task[Credential]]:
    """Let so many ask for the same while the issuer waits."""
    world.issuer.hold = asyncio.Event()
    asking = [asyncio.ensure_future(session.exchange(**INTENT, cache=True)) for _ in range(count)]
    await until(lambda: asked(world) > 0)
    return asking


def release(world: World) -> None:
    assert world.issuer.hold is not None
    world.issuer.hold.set()
    world.issuer.hold = None


async def test_many_at_once_share_one_exchange(world: World, session: Session) -> None:
    asking = await all_at_once(world, session)
    others = [asyncio.ensure_future(session.exchange(**INTENT)) for _ in range(2)]
    await asyncio.sleep(0)
    release(world)
    assert len({credential.id for credential in await asyncio.gather(*asking)}) == 1
    assert len({credential.id for credential in await asyncio.gather(*others)}) == 2, "those did not say that they read"
    assert asked(world) == 3
    assert not session._cache._flights


async def test_a_refusal_is_everybodys(world: World, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(world.issuer), "_decide", lambda *_: Refusal(Reason.POLICY_FORBIDDEN))
    asking = await all_at_once(world, session)
    release(world)
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(answer, Denied) for answer in answers)
    assert asked(world) == 1
    monkeypatch.undo()
    assert (await session.exchange(**INTENT, cache=True)).id, "it is not kept"


async def test_who_came_first_may_leave(world: World, session: Session) -> None:
    first, *others = await all_at_once(world, session)
    first.cancel()
    await asyncio.wait([first])
    release(world)
    assert len({credential.id for credential in await asyncio.gather(*others)}) == 1
    assert first.cancelled()
    assert asked(world) == 1


async def test_when_all_have_left_it_is_given_up(world: World, supply: Supply) -> None:
    session = session_with(world, supply, deadline=3600)
    asking = await all_at_once(world, session)
    (flight,) = session._cache._flights.values()
    for each in asking:
        each.cancel()
    await asyncio.wait([*asking, flight.asking], timeout=60)  # well before an exchange gives up by itself
    assert all(each.cancelled() for each in [*asking, flight.asking])
    release(world)
    await session.close()


async def test_who_comes_as_all_others_leave_is_not_cancelled_with_them(world: World, session: Session) -> None:
    asking = await all_at_once(world, session)
    for each in asking:
        each.cancel()
    late = asyncio.ensure_future(session.exchange(**INTENT, cache=True))
    await asyncio.wait(asking)
    release(world)
    assert (await late).id
    await until(lambda: not session._cache._flights)


async def test_that_nobody_answered_in_time_is_said_to_whose_time_it_was(session: Session) -> None:
    cache, intent = session._cache, reading("1234").intent(ORDERS)
    credential = await session.exchange(**INTENT)
    underway = asyncio.Event()
    times: list[int] = []

    async def ask() -> Credential:
        times.append(len(times))
        if len(times) == 1:
            await underway.wait()
            raise Unreachable("not in time")
        return credential

    asking = [asyncio.ensure_future(cache.obtain(intent, None, "x", ask)) for _ in range(5)]
    await asyncio.sleep(0)
    underway.set()
    first, *others = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(first, Unreachable)
    assert [getattr(other, "id", other) for other in others] == [credential.id] * 4
    assert len(times) == 2


async def test_a_renewed_svid_does_not_wait_for_the_old_ones_answer(
    world: World, session: Session, supply: Supply
) -> None:
    asking = await all_at_once(world, session, 2)
    supply.svid = world.domain.svid("/agent", ttl=timedelta(minutes=5))
    asking.append(asyncio.ensure_future(session.exchange(**INTENT, cache=True)))
    await until(lambda: asked(world) == 2)
    release(world)
    old, same, new = await asyncio.gather(*asking)
    assert old.thumbprint == same.thumbprint != new.thumbprint
