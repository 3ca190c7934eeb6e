"""Tenants: whoever belongs to one sees, ends and reads nothing of another, and cannot tell it from nothing (H2, A8)."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from broker.v1 import audit_pb2, exchange_pb2_grpc, types_pb2
from tests.attacks.entrances import (
    NOBODYS_CREDENTIAL,
    NOBODYS_TASK,
    Outcome,
    audit,
    begin_task,
    end_task,
    exchange,
    first,
    lift,
    outcome,
    request,
    revocations,
    revoke,
)
from tests.attacks.house import House, open_house
from tests.operations.world import ORDERS, RETAIL_DESK, SECURITY, SHARED, SUPPORT, WHOLESALE


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """What the other tenant has."""

    task: str
    credential: str
    revocation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A house with two tenants at work in it."""

    house: House
    wholesale: Theirs
    retail: Theirs


async def at_work(house: House, who: str) -> Theirs:
    channel = house.good(who)
    task = (await begin_task(channel)).task.task_id
    given = (await exchange(channel, request(task_id=task, request_id="r1"))).credential
    other = (await exchange(channel, request())).credential
    revoked = await revoke(house.good(SECURITY), credential_id=other.credential_id)
    return Theirs(task=task, credential=given.credential_id, revocation=revoked.revocation_id)


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    async with open_house() as house:
        yield Scene(
            house=house,
            wholesale=await at_work(house, WHOLESALE),
            retail=await at_work(house, SUPPORT),
        )


def same(one: Outcome, other: Outcome) -> bool:
    """Whether a caller can tell two refusals apart."""
    hidden = {"request", "decision_id"}
    shown = [
        (told.code, told.reason, told.sentence, {k: v for k, v in told.metadata.items() if k not in hidden})
        for told in (one, other)
    ]
    return shown[0] == shown[1]


Ask = Callable[[House, str], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One reach across: with what is theirs, with what is nobody's, and with what is one's own."""

    ask: Callable[[Any, str], Awaitable[Any]]
    who: str
    theirs: str
    nobodys: str
    reason: str
    own: bool = True


ROWS: dict[str, Row] = {
    "agent-exchanges-in-their-task": Row(
        ask=lambda to, name: exchange(to, request(task_id=name)),
        who=SUPPORT, theirs="task", nobodys=NOBODYS_TASK, reason="TASK_UNKNOWN",
    ),
    "agent-ends-their-task": Row(
        ask=end_task, who=SUPPORT, theirs="task", nobodys=NOBODYS_TASK, reason="TASK_UNKNOWN", own=False
    ),
    "agent-revokes-their-credential": Row(
        ask=lambda to, name: revoke(to, credential_id=name),
        who=SUPPORT, theirs="credential", nobodys=NOBODYS_CREDENTIAL, reason="TENANT_REFUSED", own=False,
    ),
    "desk-revokes-their-credential": Row(
        ask=lambda to, name: revoke(to, credential_id=name),
        who=RETAIL_DESK, theirs="credential", nobodys=NOBODYS_CREDENTIAL, reason="TENANT_REFUSED",
    ),
    "desk-revokes-their-task": Row(
        ask=lambda to, name: revoke(to, task_id=name),
        who=RETAIL_DESK, theirs="task", nobodys=NOBODYS_TASK, reason="TENANT_REFUSED",
    ),
    "desk-lifts-their-revocation": Row(
        ask=lift, who=RETAIL_DESK, theirs="revocation", nobodys="rev_none", reason="TENANT_REFUSED", own=False
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=name) for name, row in ROWS.items()],
)
async def test_what_is_theirs_is_as_good_as_nothing(scene: Scene, row: Row) -> None:
    channel = scene.house.good(row.who)
    theirs = await outcome(row.ask(channel, getattr(scene.wholesale, row.theirs)))
    nobodys = await outcome(row.ask(channel, row.nobodys))
    assert theirs.reason == row.reason, theirs
    assert same(theirs, nobodys), (theirs, nobodys)
    if row.own:
        assert (await outcome(row.ask(channel, getattr(scene.retail, row.theirs)))).reason in ("", "TASK_REVOKED")
    # Theirs is what it was.
    kept = await exchange(scene.house.good(WHOLESALE), request(task_id=scene.wholesale.task, request_id="r1"))
    assert kept.credential.credential_id == scene.wholesale.credential


BEYOND: dict[str, Ask] = {
    "their-agent": lambda house, who: revoke(house.good(who), agent=WHOLESALE),
    "an-agent-of-both": lambda house, who: revoke(house.good(who), agent=SHARED),
    "their-tenant": lambda house, who: revoke(house.good(who), tenant="wholesale"),
    "no-tenant": lambda house, who: revoke(house.good(who), tenant="*"),
    "tenant-in-another-case": lambda house, who: revoke(house.good(who), tenant="RETAIL"),
    "a-policy": lambda house, who: revoke(house.good(who), policy_id="order-readers-may-look-up-orders"),
    "whole-log": lambda house, who: first(audit(house.good(who))),
    "their-log": lambda house, who: first(audit(house.good(who), filter=audit_pb2.AuditFilter(tenant="wholesale"))),
    "their-agents-log": lambda house, who: first(audit(house.good(who), filter=audit_pb2.AuditFilter(agent=WHOLESALE))),
    "both-logs": lambda house, who: first(
        audit(house.good(who), filter=audit_pb2.AuditFilter(tenant="retail,wholesale"))
    ),
    "every-log": lambda house, who: first(audit(house.good(who), filter=audit_pb2.AuditFilter(tenant="*"))),
    "own-log-in-another-case": lambda house, who: first(
        audit(house.good(who), filter=audit_pb2.AuditFilter(tenant="Retail"))
    ),
}


@pytest.mark.parametrize("ask", BEYOND.values(), ids=BEYOND.keys())
async def test_a_desk_reaches_its_own_tenant_only(scene: Scene, ask: Ask) -> None:
    told = await outcome(ask(scene.house, RETAIL_DESK))
    assert told.reason == "TENANT_REFUSED", told
    own = audit_pb2.AuditFilter(tenant="retail")
    assert await first(audit(scene.house.good(RETAIL_DESK), filter=own))


async def test_a_desk_reads_events_of_its_tenant_and_no_personal_values(scene: Scene) -> None:
    own = audit_pb2.AuditFilter(tenant="retail")
    desk = scene.house.good(RETAIL_DESK)
    events = []
    async for message in audit(desk, filter=own):
        events += message.events
    seen = [json.loads(event.event) for event in events]
    assert {event["tenant"] for event in seen} == {"retail"}
    assert {event["type"] for event in seen} >= {"task.begun", "credential.granted", "revocation.made"}
    assert not any(event.openings for event in events)
    assert WHOLESALE.encode() not in b"".join(event.event for event in events)
    assert scene.wholesale.credential.encode() not in b"".join(event.event for event in events)
    for narrowed in (
        {"agent": WHOLESALE},
        {"task_id": scene.wholesale.task},
        {"credential_id": scene.wholesale.credential},
    ):
        wanted = audit_pb2.AuditFilter(tenant="retail", **narrowed)
        async for message in audit(desk, filter=wanted):
            assert not message.events
    assert (await outcome(first(audit(desk, filter=own, personal=True)))).reason == "POLICY_NOT_PERMITTED"
    cursor = (await first(audit(desk, filter=own))).cursor
    theirs = audit_pb2.AuditFilter(tenant="wholesale")
    assert (await outcome(first(audit(desk, cursor, filter=theirs)))).reason == "TENANT_REFUSED"


async def test_agents_and_services_read_no_log_and_revoke_nobody(scene: Scene) -> None:
    for who in (SUPPORT, SHARED, ORDERS):
        channel = scene.house.good(who)
        for call in (
            first(audit(channel)),
            first(audit(channel, filter=audit_pb2.AuditFilter(tenant="retail"))),
            revoke(channel, agent=SUPPORT),
            revoke(channel, tenant="retail"),
            lift(channel, scene.retail.revocation),
        ):
            told = await outcome(call)
            assert told.reason in ("POLICY_NOT_PERMITTED", "TENANT_REFUSED"), (who, told)
    assert await first(revocations(scene.house.good(SHARED)))


async def test_one_svid_in_two_tenants_is_kept_apart(scene: Scene) -> None:
    channel = scene.house.good(SHARED)
    tasks = {name: (await begin_task(channel, tenant=name)).task.task_id for name in ("retail", "wholesale")}
    customer = types_pb2.Resource(type="customer", id="c-1")
    reads = {
        name: await outcome(exchange(channel, request(action="customer.read", resource=customer, task_id=task)))
        for name, task in tasks.items()
    }
    assert (reads["retail"].reason, reads["wholesale"].reason) == ("", "POLICY_NOT_PERMITTED")
    cancels = {
        name: await outcome(exchange(channel, request(action="order.cancel", task_id=task)))
        for name, task in tasks.items()
    }
    assert (cancels["retail"].reason, cancels["wholesale"].reason) == ("POLICY_NOT_PERMITTED", "")
    assert reads["retail"].answer.credential.tenant == "retail"
    assert cancels["wholesale"].answer.credential.tenant == "wholesale"
    assert (await outcome(exchange(channel, request()))).reason == "TENANT_REQUIRED"
    assert (await outcome(begin_task(channel))).reason == "TENANT_REQUIRED"
    for tenant in ("other", "retail ", "RETAIL", "*"):
        assert (await outcome(begin_task(channel, tenant=tenant))).reason == "TENANT_REFUSED"
    # Ending the one task leaves the other's credentials alive.
    ended = await end_task(channel, tasks["retail"])
    assert ended.revoked_credentials == 1
    assert not (await outcome(exchange(channel, request(action="order.cancel", task_id=tasks["wholesale"])))).reason
    # What is named in metadata counts for nothing.
    stub = exchange_pb2_grpc.ExchangeServiceStub(channel)
    told = await outcome(stub.Exchange(request(), metadata=(("tenant", "retail"), ("x-tenant", "retail")), timeout=10))
    assert told.reason == "TENANT_REQUIRED"


async def test_request_ids_are_each_callers_own(scene: Scene) -> None:
    """Both agents used r1 above: each has its own credential under it."""
    assert scene.retail.credential != scene.wholesale.credential
    again = await exchange(scene.house.good(WHOLESALE), request(task_id=scene.wholesale.task, request_id="r1"))
    assert again.credential.credential_id == scene.wholesale.credential
    assert again.credential.tenant == "wholesale"
