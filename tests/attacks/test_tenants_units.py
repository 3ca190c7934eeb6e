"""One SVID in two tenants: what it does for the one opens, ends, hides and shows nothing of the other."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from broker.v1 import audit_pb2, exchange_pb2_grpc, types_pb2
from tests.attacks.entrances import (
    PATIENCE,
    audit,
    begin_task,
    conversation,
    end_task,
    exchange,
    lift,
    outcome,
    request,
    revoke,
)
from tests.attacks.tenancy import (
    MOMENT,
    SIDES,
    THIRD,
    Side,
    Tenancy,
    blind,
    open_tenancy,
    refusal_in_view,
)
from tests.operations.world import SECURITY, SHARED
from tests.polling import eventually

both_ways = pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES.keys())
FLOOD = 30


@pytest.fixture(scope="module")
async def tenancy() -> AsyncIterator[Tenancy]:
    async with open_tenancy() as opened:
        yield opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A thing of the one unit, asked for in a task of the other.

    Attributes:
        change: to the intent, by the unit whose thing is asked for.
        reason: why it is refused.

    """

    change: Callable[[Side], dict[str, Any]]
    reason: str


def listing(side: Side) -> dict[str, Any]:
    of = types_pb2.Resource(type="order", set=side.set)
    return {"action": "order.list", "resource": of, "parameters": '{"limit": 5}'}


ROWS = {
    "service": Row(change=lambda side: {"audience": side.service}, reason="TENANT_REFUSED"),
    "set": Row(change=listing, reason="RESOURCE_SET_UNKNOWN"),
}


@both_ways
@pytest.mark.parametrize("ask", [exchange, conversation])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
async def test_a_task_of_one_unit_opens_nothing_of_the_other(
    tenancy: Tenancy, row: Row, ask: Callable[..., Awaitable[Any]], sides: tuple[Side, Side]
) -> None:
    house, (ours, theirs) = tenancy.house, sides
    house.time.ahead += MOMENT
    channel = house.good(SHARED)
    tasks = {side: (await begin_task(channel, tenant=side.tenant)).task.task_id for side in sides}
    told = await outcome(ask(channel, request(task_id=tasks[ours], **row.change(theirs))))
    assert told.reason == row.reason
    assert await refusal_in_view(house, told.request) == ours.tenant
    given = await ask(channel, request(task_id=tasks[theirs], **row.change(theirs)))
    assert given.credential.tenant == theirs.tenant
    given = await ask(channel, request(task_id=tasks[ours]))
    assert given.credential.tenant == ours.tenant


async def test_it_has_to_say_for_whom_and_can_say_only_its_own(tenancy: Tenancy) -> None:
    house = tenancy.house
    channel = house.good(SHARED)
    for call in (begin_task(channel), exchange(channel, request()), conversation(channel, request())):
        told = await outcome(call)
        assert told.reason == "TENANT_REQUIRED"
        assert await refusal_in_view(house, told.request) == "", "nobody knows in whose view it belongs"
    thirds = [
        await outcome(begin_task(channel, tenant=name)) for name in (THIRD, "none-of-it", "RETAIL", "retail ", "*")
    ]
    assert {told.reason for told in thirds} == {"TENANT_REFUSED"}
    assert len({blind(told, "") for told in thirds}) == 1, "a tenant that there is, and others that there are not"
    # What is named beside the request counts for nothing.
    stub = exchange_pb2_grpc.ExchangeServiceStub(channel)
    told = await outcome(
        stub.Exchange(request(), metadata=(("tenant", "retail"), ("x-tenant", "retail")), timeout=PATIENCE)
    )
    assert told.reason == "TENANT_REQUIRED"
    for tenant in ("retail", "wholesale"):
        assert (await begin_task(channel, tenant=tenant)).task.tenant == tenant


@both_ways
async def test_a_request_id_of_one_unit_is_not_answered_for_the_other(
    tenancy: Tenancy, sides: tuple[Side, Side]
) -> None:
    house, (ours, theirs) = tenancy.house, sides
    channel = house.good(SHARED)
    tasks = {side: (await begin_task(channel, tenant=side.tenant)).task.task_id for side in sides}
    own = request(task_id=tasks[ours], request_id=f"for-{ours.tenant}")
    given = (await exchange(channel, own)).credential
    told = await outcome(exchange(channel, request(task_id=tasks[theirs], request_id=f"for-{ours.tenant}")))
    assert told.reason == "REQUEST_ID_REUSED"
    assert await refusal_in_view(house, told.request) == theirs.tenant
    assert (await exchange(channel, own)).credential.credential_id == given.credential_id


@both_ways
async def test_what_ends_for_one_unit_goes_on_for_the_other(tenancy: Tenancy, sides: tuple[Side, Side]) -> None:
    house, (ours, theirs) = tenancy.house, sides
    house.time.ahead += MOMENT
    channel, desk, security = house.good(SHARED), house.good(ours.desk), house.good(SECURITY)
    tasks = {side: (await begin_task(channel, tenant=side.tenant)).task.task_id for side in sides}
    given = {side: (await exchange(channel, request(task_id=tasks[side]))).credential for side in sides}

    async def still(side: Side) -> str:
        return (await outcome(exchange(channel, request(task_id=tasks[side])))).reason

    # A desk of one unit reaches what the agent has of that unit, and neither the agent nor the rest.
    for rule in ({"agent": SHARED}, {"credential_id": given[theirs].credential_id}, {"task_id": tasks[theirs]}):
        assert (await outcome(revoke(desk, **rule))).reason == "TENANT_REFUSED"
    assert (await revoke(desk, credential_id=given[ours].credential_id)).revoked_credentials == 1
    await exchange(channel, request(task_id=tasks[ours]))
    everything = await revoke(desk, tenant=ours.tenant)
    assert everything.revoked_credentials >= 1
    assert (await still(ours), await still(theirs)) == ("TENANT_REVOKED", "")
    assert (await outcome(begin_task(channel, tenant=ours.tenant))).reason == "TENANT_REVOKED"
    await begin_task(channel, tenant=theirs.tenant)
    await lift(security, everything.revocation_id)
    ended = await end_task(channel, tasks[ours])
    assert ended.revoked_credentials == 0, "they had ended with their tenant"
    assert (await still(ours), await still(theirs)) == ("TASK_ENDED", "")
    assert (await end_task(channel, tasks[theirs])).revoked_credentials == 3


async def seen(tenancy: Tenancy, side: Side) -> bytes:
    """Return all that a desk is shown of the agent that both have."""
    wanted = audit_pb2.AuditFilter(tenant=side.tenant, agent=SHARED)
    shown = b""
    async for message in audit(tenancy.house.good(side.desk), filter=wanted, personal=True):
        shown += b"".join(event.SerializeToString() for event in message.events)
    return shown


@both_ways
async def test_each_desk_sees_its_half_of_what_it_did(tenancy: Tenancy, sides: tuple[Side, Side]) -> None:
    house, (ours, theirs) = tenancy.house, sides
    channel = house.good(SHARED)
    tasks = {side: (await begin_task(channel, tenant=side.tenant)).task.task_id for side in sides}
    for side in sides:
        await exchange(channel, request(task_id=tasks[side], on_behalf_of=f"somebody of {side.tenant}"))
    shown = await seen(tenancy, ours)
    for side in sides:
        for mark in (tasks[side], f"somebody of {side.tenant}", f'"tenant":"{side.tenant}"'):
            assert (mark.encode() in shown) is (side is ours), mark
    assert theirs.tenant.encode() not in shown


@both_ways
async def test_refusals_for_one_unit_hide_none_of_the_other(tenancy: Tenancy, sides: tuple[Side, Side]) -> None:
    """Refusals beyond a rate are counted and not written: each unit has its own rate and its own count."""
    house, (ours, theirs) = tenancy.house, sides
    house.time.ahead += MOMENT
    channel = house.good(SHARED)
    tasks = {side: (await begin_task(channel, tenant=side.tenant)).task.task_id for side in sides}
    before = (await house.log())[-1]["position"]
    for _ in range(FLOOD):
        await outcome(exchange(channel, request(task_id=tasks[ours], action="order.delete")))
    told = await outcome(exchange(channel, request(task_id=tasks[theirs], action="order.delete")))
    assert told.reason == "ACTION_UNKNOWN"
    assert await refusal_in_view(house, told.request) == theirs.tenant
    house.time.ahead += MOMENT

    async def counted() -> bool:
        """Whether what was not written stands in the view of the unit that it was for."""
        events = [event for event in await house.log() if event.get("reason") == "ACTION_UNKNOWN"]
        written = [event for event in events if event.get("task") == tasks[ours]]
        counts = [event for event in events if event["type"] == "refusals.suppressed" and event["position"] > before]
        assert {event["tenant"] for event in counts} <= {ours.tenant}
        return bool(len(written) + sum(event["count"] for event in counts) == FLOOD)

    await eventually(counted)
