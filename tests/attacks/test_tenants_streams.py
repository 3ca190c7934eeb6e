"""Streams of two tenants: what the one does shows in no stream of the other, neither that it happens nor how often.

What shows, and is no secret, is the pace of the whole log: positions count every event of every tenant.
"""

import json
from asyncio import ensure_future, gather, get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from pyroaring import BitMap

from broker.v1 import audit_pb2, exchange_pb2_grpc
from tests.attacks.entrances import (
    PATIENCE,
    audit,
    begin_task,
    end_task,
    exchange,
    first,
    items,
    lift,
    outcome,
    request,
    revocations,
    revoke,
)
from tests.attacks.house import HEARTBEAT, House
from tests.attacks.tenancy import (
    MOMENT,
    RETAIL,
    SIDES,
    Side,
    Tenancy,
    blind,
    nobodys,
    open_tenancy,
    refusal_in_view,
    status_index_of,
)
from tests.operations.world import ORDERS

both_ways = pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES.keys())
BEAT = float(HEARTBEAT.removeprefix("PT").removesuffix("S"))
BEATS = 7
MANY = 10 * BEATS
RANGE_ONLY = {"from_position", "to_position", "cursor", "heartbeat"}


@pytest.fixture(scope="module")
async def tenancy() -> AsyncIterator[Tenancy]:
    async with open_tenancy() as opened:
        yield opened


@asynccontextmanager
async def following(*calls: Any) -> AsyncIterator[list[Any]]:
    """Follow streams whose first message has been read."""
    async with AsyncExitStack() as stack:
        for call in calls:
            stack.callback(call.cancel)
            await call.read()
        yield list(calls)


async def told_until(call: Any, position: int) -> list[Any]:
    """Read on until everything below a position has been covered, without a gap."""
    messages: list[Any] = []
    while not messages or messages[-1].to_position < position:
        messages.append(await call.read())
        assert all(one.to_position == other.from_position for one, other in pairwise(messages[-2:]))
    return messages


def show_nothing(messages: list[Any], since: float) -> None:
    """Every message is a heartbeat with its range; since then there were no more of them than heartbeats were due."""
    for message in messages:
        assert {field.name for field, _ in message.ListFields()} <= RANGE_ONLY, message
    beats = (get_running_loop().time() - since) / BEAT
    assert len(messages) <= beats + 1, "something made it speak at once"


async def size_of(house: House) -> int:
    return (await house.issuer.state()).size


async def given(house: House, side: Side, audience: str, **changes: Any) -> Any:
    return (await exchange(house.good(side.agent), request(audience=audience, **changes))).credential


async def end_all_ways(house: House, side: Side) -> list[int]:
    """End credentials of a tenant in every way there is; return where in the log."""
    agent, desk, security = (house.good(side.who(role)) for role in ("agent", "desk", "security"))
    positions = []
    for audience in (side.service, ORDERS):
        one = await given(house, side, audience)
        positions.append((await revoke(desk, credential_id=one.credential_id)).position)
        for by_desk in (True, False):
            task = (await begin_task(agent)).task.task_id
            await given(house, side, audience, task_id=task)
            positions.append((await (revoke(desk, task_id=task) if by_desk else end_task(agent, task))).position)
        for rule in ({"agent": side.agent}, {"tenant": side.tenant}):
            await given(house, side, audience)
            made = await revoke(desk, **rule)
            assert made.revoked_credentials >= 1
            positions.append(made.position)
            await lift(security, made.revocation_id)
    return positions


async def snapshot(house: House, who: str) -> bytes:
    message = await first(revocations(house.good(who)))
    return bytes(message.snapshot.SerializeToString())


@both_ways
async def test_what_ends_for_them_is_not_heard(tenancy: Tenancy, sides: tuple[Side, Side]) -> None:
    house, (ours, theirs) = tenancy.house, sides
    await given(house, ours, ours.service)
    readers = [ours.agent, ours.service, theirs.agent, theirs.service, ORDERS]
    before = {who: await snapshot(house, who) for who in readers}
    since = get_running_loop().time()
    async with following(*(revocations(house.good(who)) for who in readers)) as calls:
        positions = await end_all_ways(house, theirs)
        size = await size_of(house)
        # The revoked agent's stream ends with its rule; it reads on once the rule is lifted.
        followed = dict(zip(readers, calls, strict=True))
        told = {who: await told_until(call, size) for who, call in followed.items() if who != theirs.agent}
        for who in (ours.agent, ours.service):
            show_nothing(told[who], since)
            assert await snapshot(house, who) == before[who]
        # The control: whom it concerns has heard of every one.
        heard = {who: {each.position for message in told[who] for each in message.revoked} for who in told}
        assert heard[theirs.service] | heard[ORDERS] == set(positions)
        assert set(positions[:5]) <= heard[theirs.service]
        assert await snapshot(house, theirs.agent) != before[theirs.agent]
        # And of ours, they hear nothing.
        own = await given(house, ours, ours.service)
        ended = await revoke(house.good(ours.desk), credential_id=own.credential_id)
        messages = await told_until(followed[ours.service], ended.position + 1)
        assert [each.position for message in messages for each in message.revoked] == [ended.position]
        show_nothing(await told_until(followed[theirs.service], ended.position + 1), since)


async def meanwhile(call: Any, act: Callable[[], Awaitable[Any]]) -> None:
    """Act while a stream has the time of some heartbeats, and more often than it speaks: it shows nothing of that."""
    messages: list[Any] = []
    since = get_running_loop().time()

    async def acting() -> int:
        times = 0
        while len(messages) < BEATS or times <= len(messages) + 1 < MANY:
            await act()
            times += 1
        return times

    acts = ensure_future(acting())
    while not acts.done():
        messages.append(await call.read())
    show_nothing(messages, since)
    assert await acts > len(messages), "the control: there was far more to hear of"


@both_ways
async def test_how_often_they_revoke_shows_in_no_timing(tenancy: Tenancy, sides: tuple[Side, Side]) -> None:
    house, (ours, theirs) = tenancy.house, sides
    desk = house.good(theirs.desk)

    async def end_one() -> None:
        made = await revoke(desk, tenant=theirs.tenant)
        await lift(desk, made.revocation_id)

    for who in (ours.agent, ours.service):
        async with following(revocations(house.good(who))) as (call,):
            await meanwhile(call, end_one)


@both_ways
async def test_ranges_grow_by_events_whatever_they_end(tenancy: Tenancy, sides: tuple[Side, Side]) -> None:
    """One position an event: many ended credentials are one, and a revocation counts as a task begun does."""
    house, (ours, theirs) = tenancy.house, sides
    agent = house.good(theirs.agent)
    tasks = [(await begin_task(agent)).task.task_id for _ in range(2)]
    for task, credentials in zip(tasks, (1, 5), strict=True):
        for _ in range(credentials):
            await given(house, theirs, ORDERS, task_id=task)
    grown, since = [], get_running_loop().time()
    async with following(revocations(house.good(ours.service))) as (call,):
        for task in (*tasks, ""):
            start = await size_of(house)
            await (revoke(house.good(theirs.desk), task_id=task) if task else begin_task(agent))
            messages = await told_until(call, start + 1)
            show_nothing(messages, since)
            grown.append(messages[-1].to_position - start)
    assert grown == [1, 1, 1]


async def test_the_status_list_of_a_service_counts_its_own_credentials_only(tenancy: Tenancy) -> None:
    house = tenancy.house
    start = {side.tenant: status_index_of((await given(house, side, side.service)).token) for side, _ in SIDES.values()}
    for step in range(1, 4):
        for side, _ in SIDES.values():
            for audience in (side.service, ORDERS):  # the shared one is counted in a list of its own
                token = (await given(house, side, audience)).token
                if audience == side.service:
                    assert status_index_of(token) == start[side.tenant] + step
    revoked = await given(house, RETAIL, ORDERS)
    await revoke(house.good(RETAIL.desk), credential_id=revoked.credential_id)
    for who in (ORDERS, RETAIL.service):
        held = (await first(revocations(house.good(who)))).snapshot
        assert (status_index_of(revoked.token) in BitMap.deserialize(held.status_indexes)) is (who == ORDERS)


# --- the log ----------------------------------------------------------------------------------------------------------


async def shown(house: House, who: str, **wanted: str) -> list[tuple[int, int, list[bytes]]]:
    """Return all that a reader is shown: ranges and events, with openings."""
    asked = audit_pb2.AuditFilter(**wanted)
    return [
        (message.from_position, message.to_position, [event.SerializeToString() for event in message.events])
        async for message in audit(house.good(who), filter=asked, personal=True)
    ]


@both_ways
async def test_their_names_find_nothing_in_our_view(tenancy: Tenancy, sides: tuple[Side, Side]) -> None:
    house, (ours, theirs) = tenancy.house, sides
    held, own = await tenancy.at_work(theirs), await tenancy.at_work(ours)
    for field, names in {"agent": "agent", "task_id": "task", "credential_id": "credential"}.items():
        views = [
            await shown(house, ours.desk, tenant=ours.tenant, **{field: name})
            for name in (held[names], nobodys(house, names), own[names])
        ]
        # A read is an event too: the next one covers it, unless a page ends there. What is shown is the same.
        found = [[event for *_, events in view for event in events] for view in views]
        assert found[0] == found[1] == []
        assert found[2]
        assert views[0][0][0] == views[1][0][0] == 0
        assert [stop for _, stop, _ in views[1]][-1] - [stop for _, stop, _ in views[0]][-1] in (0, 1)


@both_ways
async def test_a_cursor_is_its_readers_own(tenancy: Tenancy, sides: tuple[Side, Side]) -> None:
    house, (ours, theirs) = tenancy.house, sides
    house.time.ahead += MOMENT
    held, own = await tenancy.at_work(theirs), await tenancy.at_work(ours)
    wanted = {side: audit_pb2.AuditFilter(tenant=side.tenant) for side in sides}
    desk = house.good(ours.desk)
    told = [
        await outcome(first(audit(desk, cursor, filter=wanted[ours])))
        for cursor in (held["desks-cursor"], nobodys(house, "desks-cursor"), own["agents-cursor"])
    ]
    assert {each.reason for each in told} == {"CURSOR_FOREIGN"}
    assert len({blind(each, held["desks-cursor"]) for each in told}) == 1
    assert {await refusal_in_view(house, each.request) for each in told} == {ours.tenant}
    assert (await outcome(first(audit(desk, held["desks-cursor"], filter=wanted[theirs])))).reason == "TENANT_REFUSED"
    for side, names in ((ours, own), (theirs, held)):
        assert await first(audit(house.good(side.desk), names["desks-cursor"], filter=wanted[side]))


@both_ways
async def test_their_work_shows_in_no_timing_of_our_view(tenancy: Tenancy, sides: tuple[Side, Side]) -> None:
    house, (ours, theirs) = tenancy.house, sides
    wanted = audit_pb2.AuditFilter(tenant=ours.tenant)
    call = audit(house.good(ours.desk), filter=wanted, follow=True, start=audit_pb2.AUDIT_START_END, timeout=None)
    async with following(call):
        await meanwhile(call, lambda: given(house, theirs, ORDERS))
        task = (await begin_task(house.good(ours.agent))).task.task_id
        events = [event for message in await told_until(call, await size_of(house)) for event in message.events]
        assert [json.loads(event.event)["task"] for event in events] == [task], "the control: ours is shown"


# --- conversations ----------------------------------------------------------------------------------------------------


async def test_conversations_at_the_same_time_are_answered_each_in_its_own(tenancy: Tenancy) -> None:
    """The same numbers, the same request ids, the same intents: what comes is the asking tenant's."""
    house = tenancy.house
    asked = items(*(request(request_id=f"talk-{number}") for number in range(20)))

    async def talk(side: Side) -> dict[int, Any]:
        call: Any = exchange_pb2_grpc.ExchangeServiceStub(house.good(side.agent)).ExchangeStream(timeout=PATIENCE)
        await call.write(asked)
        answers: dict[int, Any] = {}
        while len(answers) < len(asked.items):
            answers |= {item.correlation: item.credential for item in (await call.read()).items}
        call.cancel()
        assert {credential.tenant for credential in answers.values()} == {side.tenant}
        return answers

    ours, theirs, again = *await gather(*(talk(side) for side, _ in SIDES.values())), await talk(RETAIL)
    ids = [{number: one.credential_id for number, one in each.items()} for each in (ours, theirs, again)]
    assert ids[0] == ids[2]
    assert not set(ids[0].values()) & set(ids[1].values())
