"""Tenants, the table: every name in every request, named across the wall between two tenants (H2, A8).

A row is one name: what is the other tenant's is refused like what is nobody's, nothing of it changes, the refusal
stands in the view of whoever tried and in no other, and whoever may is served with the very same call.
"""

from asyncio import gather
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from broker.v1 import audit_pb2, keys_pb2, outcome_pb2, override_pb2, types_pb2
from tests.attacks.entrances import (
    approval,
    approvals,
    approve,
    audit,
    begin_task,
    cancel_task,
    conversation,
    deny,
    end_task,
    exchange,
    first,
    heartbeat_task,
    impose,
    lift,
    lift_override,
    list_keys,
    narrow_task,
    outcome,
    redeem,
    report,
    request,
    resume_task,
    revocations,
    revoke,
    rotate_keys,
    watch_approvals,
    withdraw,
)
from tests.attacks.inventory import requests
from tests.attacks.refunds import hold, refund
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
    standing,
)
from tests.operations.world import DUTY, SECURITY


@pytest.fixture(scope="module")
async def tenancy() -> AsyncIterator[Tenancy]:
    async with open_tenancy() as opened:
        yield opened


Ask = Callable[[Any, str], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One name in the requests of some RPCs.

    Attributes:
        field: its path in the request.
        names: what is named, as `Tenancy.at_work` calls it; empty: all that is every tenant's.
        by: who names it: an agent, a service or a desk.
        reason: why it is refused.
        ask: the call, by RPC.
        owner: who is served on the other side with the same call; security for what is every tenant's.
        control: what the owner is told.

    """

    field: str
    names: str
    by: str
    reason: str
    ask: Mapping[str, Ask]
    owner: str
    control: str = ""


def of_exchange(change: Callable[[str], dict[str, Any]]) -> Mapping[str, Ask]:
    """An exchange with a change, at both of its entrances."""
    return {
        "Exchange": lambda to, name: exchange(to, request(**change(name))),
        "ExchangeStream": lambda to, name: conversation(to, request(**change(name))),
    }


def listing(name: str) -> dict[str, Any]:
    """What lists a set."""
    of = types_pb2.Resource(type="order", set=name)
    return {"action": "order.list", "resource": of, "parameters": '{"limit": 5}'}


def log_of(**wanted: Any) -> audit_pb2.AuditFilter:
    return audit_pb2.AuditFilter(**wanted)


def rows_of_agents() -> Iterator[Row]:
    agents = partial(Row, by="agent", owner="agent")
    ask = of_exchange(lambda name: {"task_id": name})
    yield agents(field="intent.task_id", names="task", reason="TASK_UNKNOWN", ask=ask)
    ask = of_exchange(lambda name: {"audience": name})
    yield agents(field="intent.audience", names="service", reason="AUDIENCE_UNKNOWN", ask=ask)
    ask = of_exchange(listing)
    yield agents(field="intent.resource.set", names="set", reason="RESOURCE_SET_UNKNOWN", ask=ask)
    ask = of_exchange(lambda name: listing(name) | {"action": "order.read", "parameters": ""})
    control = "RESOURCE_SET_REFUSED"  # a set that is not declared for this action
    yield agents(field="intent.resource.set", names="set", reason="RESOURCE_SET_UNKNOWN", ask=ask, control=control)
    ask = of_exchange(lambda name: {"purpose": name})
    yield agents(field="intent.purpose", names="purpose", reason="PURPOSE_REFUSED", ask=ask)
    ask = {"BeginTask": lambda to, name: begin_task(to, tenant=name)}
    yield agents(field="tenant", names="tenant", reason="TENANT_REFUSED", ask=ask)
    ask = {"BeginTask": lambda to, name: begin_task(to, purpose=name)}
    yield agents(field="purpose", names="purpose", reason="PURPOSE_REFUSED", ask=ask)
    ask = {"BeginTask": lambda to, name: begin_task(to, agent=name)}
    yield agents(field="agent", names="agent", reason="TASK_TYPE_REFUSED", ask=ask)
    ask = {"EndTask": end_task, "CancelTask": cancel_task, "HeartbeatTask": heartbeat_task,
           "NarrowTask": lambda to, name: narrow_task(to, name, "order.read")}  # fmt: skip
    yield agents(field="task_id", names="task", reason="TASK_UNKNOWN", ask=ask)
    for other in ("agents-cursor", "services-cursor"):
        by = other.partition("s-")[0]
        yield Row(field="cursor", names=other, by=by, owner=by, reason="CURSOR_FOREIGN",
                  ask={"SubscribeRevocations": lambda to, name: first(revocations(to, name))})  # fmt: skip


def rows_of_reports() -> Iterator[Row]:
    """A service reports on what is for it: another's credential is none."""
    yield Row(field="reports.credential_id", names="own-credential", by="service", owner="service",
              reason="CREDENTIAL_UNKNOWN", ask={"Report": report})  # fmt: skip


RULES = {"credential_id": "credential", "task_id": "task", "agent": "agent", "tenant": "tenant", "policy_id": "policy"}


def revoking(rule: str) -> Ask:
    return lambda to, name: revoke(to, **{rule: name})


def rows_of_revocation(by: str) -> Iterator[Row]:
    """Whoever it is: agents and services may do as little across the wall as a desk."""
    for rule, names in RULES.items():
        owner = "security" if names == "policy" else "desk"
        yield Row(field=f"rule.{rule}", names=names, by=by, owner=owner, reason="TENANT_REFUSED",
                  ask={"Revoke": revoking(rule)})  # fmt: skip
    yield Row(field="task_id", names="task", by=by, owner="desk", reason="TENANT_REFUSED",
              ask={"ResumeTask": resume_task}, control="TASK_NOT_SUSPENDED")  # fmt: skip
    yield Row(field="revocation_id", names="revocation", by=by, owner="desk", reason="TENANT_REFUSED",
              ask={"LiftRevocation": lift})  # fmt: skip


def reading(member: str, *, personal: bool) -> Ask:
    return lambda to, name: first(audit(to, filter=log_of(**{member: name}), personal=personal))


def rows_of_the_log(by: str) -> Iterator[Row]:
    for member in ("tenant", "agent", "task_id", "credential_id"):
        names = member.removesuffix("_id")
        owner = "desk" if names == "tenant" else "security"  # without a tenant it is the whole log
        for personal in (False, True):
            yield Row(field=f"filter.{member}", names=names, by=by, owner=owner, reason="TENANT_REFUSED",
                      ask={"SubscribeAudit": reading(member, personal=personal)})  # fmt: skip
    yield Row(field="filter", names="", by=by, owner="security", reason="TENANT_REFUSED",
              ask={"SubscribeAudit": lambda to, _: first(audit(to))})  # fmt: skip


def rows_of_keys(by: str) -> Iterator[Row]:
    every = partial(Row, names="", by=by, owner="security", reason="TENANT_REFUSED")
    yield every(field="", ask={"ListKeys": lambda to, _: list_keys(to)})
    yield every(field="use", control="KEY_NOT_READY",
                ask={"RotateKeys": lambda to, _: rotate_keys(to, use=keys_pb2.KEY_USE_TOKENS)})  # fmt: skip
    yield every(field="emergency_kid", control="KEY_UNKNOWN",
                ask={"RotateKeys": lambda to, _: rotate_keys(to, emergency_kid="none", reason="a test")})  # fmt: skip


def imposing(**target: Any) -> Mapping[str, Ask]:
    return {"ImposeOverride": lambda to, name: impose(to, **{member: at or name for member, at in target.items()})}


def rows_of_overrides(by: str) -> Iterator[Row]:
    theirs = partial(Row, by=by, owner="desk", reason="TENANT_REFUSED")
    yield theirs(field="target.agent", names="agent", ask=imposing(agent=""))
    yield theirs(field="target.tenant", names="tenant", ask=imposing(tenant=""))
    within = imposing(action="order.read", within_tenant="")
    yield theirs(field="target.within_tenant", names="tenant", ask=within)
    every = partial(Row, names="", by=by, owner="security", reason="TENANT_REFUSED")
    yield every(field="target.action", ask=imposing(action="order.read"))
    yield every(field="target.action_class", ask=imposing(action_class=override_pb2.ACTION_CLASS_READ))


def rows_of_redemptions(by: str) -> Iterator[Row]:
    """The owner has come past the wall: it is told that the digest is of another call."""
    reason = "TENANT_REFUSED" if by == "desk" else "CREDENTIAL_UNKNOWN"
    for names, control in (("once", "TOKEN_SCOPE_EXCEEDED"), ("own-credential", "REDEMPTION_NOT_NEEDED")):
        yield Row(field="credential_id", names=names, by=by, owner="service", reason=reason, control=control,
                  ask={"Redeem": redeem})  # fmt: skip


def approving(name: str) -> Ask:
    """Return the exchange on an approval, in a task of the caller's own, at one of its entrances."""
    ask = exchange if name == "Exchange" else conversation

    async def asked(to: Any, approval: str) -> Any:
        return await ask(to, refund((await begin_task(to)).task.task_id, approval))

    return asked


def rows_of_approvals() -> Iterator[Row]:
    """An approval is its agent's and its approvers'. What each of these may do with it, nobody else may."""
    theirs = partial(Row, names="approval", reason="APPROVAL_UNKNOWN")
    asks: dict[str, Ask] = {"GetApproval": approval, "Deny": deny}
    for by in ("agent", "service", "desk"):
        yield theirs(field="approval_id", by=by, owner="desk", ask=asks)
        yield theirs(field="approval_id", by=by, owner="desk", ask={"Approve": approve}, control="APPROVAL_MISMATCH")
        yield theirs(field="approval_id", by=by, owner="agent", ask={"WithdrawApproval": withdraw})
        yield Row(field="cursor", names="approvers-cursor", by=by, owner="desk", reason="CURSOR_FOREIGN",
                  ask={"WatchApprovals": lambda to, name: first(watch_approvals(to, name))})  # fmt: skip
        yield Row(field="page_token", names="page-cursor", by=by, owner="desk", reason="CURSOR_FOREIGN",
                  ask={"ListApprovals": lambda to, name: approvals(to, page_token=name)})  # fmt: skip
    asks = {name: approving(name) for name in ("Exchange", "ExchangeStream")}
    yield theirs(field="approval_id", by="agent", owner="agent", ask=asks, control="APPROVAL_MISMATCH")


def rows() -> Iterator[Row]:
    for by in ("agent", "service", "desk"):
        yield from rows_of_keys(by)  # first: time passes with every row, and keys become ready
    yield from rows_of_agents()
    yield from rows_of_reports()
    yield from rows_of_approvals()
    for by in ("agent", "service", "desk"):
        yield from rows_of_revocation(by)
        yield from rows_of_the_log(by)
        yield from rows_of_overrides(by)
        yield from rows_of_redemptions(by)


ROWS = tuple(rows())
CELLS = {f"{row.by}-{rpc}-{row.field}-{number}": (row, rpc) for number, row in enumerate(ROWS) for rpc in row.ask}


@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES.keys())
@pytest.mark.parametrize(("row", "rpc"), CELLS.values(), ids=CELLS.keys())
async def test_what_is_theirs_is_as_good_as_nothing(
    tenancy: Tenancy, row: Row, rpc: str, sides: tuple[Side, Side]
) -> None:
    house, (ours, theirs), ask = tenancy.house, sides, row.ask[rpc]
    house.time.ahead += MOMENT
    held = await tenancy.at_work(theirs)
    if row.names == "approval":
        held["approval"] = await hold(house.good(theirs.agent))
    before, named, none = standing(house, held), held.get(row.names, ""), nobodys(house, row.names)
    of_them = [event for event in await house.log() if event.get("tenant") == theirs.tenant]

    channel = house.good(ours.who(row.by))
    told = await outcome(ask(channel, named))
    assert told.reason == row.reason, told
    assert blind(told, named) == blind(await outcome(ask(channel, none)), none), "it tells theirs from nobody's"
    assert standing(house, held) == before, "something of theirs has changed"
    assert await refusal_in_view(house, told.request) == ours.tenant
    assert [event for event in await house.log() if event.get("tenant") == theirs.tenant] == of_them

    control = await outcome(ask(house.good(theirs.who(row.owner)), named))
    assert control.reason == row.control, control
    if rpc == "Revoke":
        await lift(house.good(SECURITY), control.answer.revocation_id)
    if rpc == "ImposeOverride":
        await lift_override(house.good(DUTY), control.answer.override_id)
    if row.names == "approval" and rpc not in ("Deny", "WithdrawApproval"):  # how many may wait is limited
        await withdraw(house.good(theirs.agent), named)


# Why there is no row: `Exchange` stands for the items of `ExchangeStream` as well.
_EVERYBODYS = "the same for every tenant, and public to everybody whom the bundle knows"
_OWN_WORDS = "words of the caller's own, which name nothing"
_BOUND = "bounds what is asked, and names nothing"
_OVERRIDES = (
    "tests/operations/test_override.py: test_an_operator_stops_what_its_tenants_own, test_each_sees_what_concerns"
)
_DRIFTED = "tests/operations/test_drifted.py: test_who_sees_it, test_a_page_is_nobody_elses"
_TYPES = "narrows the caller's own task: tests/operations/test_task_boundary.py"
WITHOUT: dict[str, str] = {
    "Exchange.intent.action": "the schema's, which is every tenant's",
    "Exchange.intent.resource.type": "the named service's, and that is refused first",
    "Exchange.intent.resource.id": "the broker knows no resource; the service does: test_tenants_services.py",
    "Exchange.intent.parameters": _OWN_WORDS,
    "Exchange.intent.on_behalf_of": _OWN_WORDS,
    "Exchange.intent.sensitivity": _BOUND,
    "Exchange.intent.risk": _BOUND,
    "Exchange.lifetime": _BOUND,
    "Exchange.request_id": "is served, each its own: test_request_ids_are_each_callers_own",
    "Exchange.items.correlation": "is served, each its own: test_tenants_streams.py",
    "BeginTask.lifetime": _BOUND,
    "BeginTask.conversation": _OWN_WORDS,
    "BeginTask.type": _TYPES,
    "BeginTask.boundary.actions": _TYPES,
    "BeginTask.boundary.limits": _TYPES,
    "BeginTask.boundary.resources.id": _TYPES,
    "BeginTask.boundary.resources.set": _TYPES,
    "BeginTask.boundary.resources.type": _TYPES,
    "BeginTask.boundary.services": _TYPES,
    "BeginTask.heartbeat": _BOUND,
    "BeginTask.person": _OWN_WORDS,
    "BeginTask.asked_digest": _OWN_WORDS,
    "CancelTask.reason": _OWN_WORDS,
    "NarrowTask.boundary.actions": _TYPES,
    "NarrowTask.boundary.limits": _TYPES,
    "NarrowTask.boundary.resources.id": _TYPES,
    "NarrowTask.boundary.resources.set": _TYPES,
    "NarrowTask.boundary.resources.type": _TYPES,
    "NarrowTask.boundary.services": _TYPES,
    "NarrowTask.reason": _OWN_WORDS,
    "ImposeOverride.reason": _OWN_WORDS,
    "LiftOverride.override_id": _OVERRIDES,
    "LiftOverride.reason": _OWN_WORDS,
    "ListOverrides.": _OVERRIDES,
    "ListApprovals.states": _BOUND,
    "ListApprovals.page_size": _BOUND,
    "ListDriftedTasks.page_size": _BOUND,
    "ListDriftedTasks.page_token": _DRIFTED,
    "Approve.digest": "what is approved, which is refused first",
    "Approve.bypass": _BOUND,
    "Deny.reason": _OWN_WORDS,
    "WithdrawApproval.reason": _OWN_WORDS,
    "ResumeTask.reason": _OWN_WORDS,
    "Report.reports.report_id": "each service's own: test_a_report_is_its_services_own",
    "Report.reports.at": _BOUND,
    "Report.reports.call_digest": _OWN_WORDS,
    "Report.reports.outcome.use_id": "a report of the caller's own: test_a_report_is_its_services_own",
    "Report.reports.outcome.kind": _BOUND,
    "Report.reports.outcome.reference": _OWN_WORDS,
    "Report.reports.outcome.rolled_back_by": _OWN_WORDS,
    "Report.reports.refused.reason": _OWN_WORDS,
    "Report.reports.refused.presented_by": _OWN_WORDS,
    "Report.reports.dropped.count": _OWN_WORDS,
    "Exchange.trail.prompt_reference": _OWN_WORDS,
    "Exchange.trail.prompt_digest": _OWN_WORDS,
    "Exchange.trail.tool_call_reference": _OWN_WORDS,
    "Exchange.trail.tool_call_digest": _OWN_WORDS,
    "Redeem.call_digest": "compared with the credential's, once that is the caller's own to redeem",
    "Redeem.idempotency_key": "remembered with the credential, which is the caller's own to redeem",
    "Revoke.reason": _OWN_WORDS,
    "LiftRevocation.reason": _OWN_WORDS,
    "SubscribeAudit.cursor": "needs the reader's own filter beside it: test_tenants_streams.py",
    "SubscribeAudit.filter.kinds": _BOUND,
    "SubscribeAudit.start": _BOUND,
    "SubscribeAudit.follow": _BOUND,
    "SubscribeAudit.personal": "asked for in every row of the log",
    "RotateKeys.reason": _OWN_WORDS,
    "RotateKeys.request_id": "remembered by its caller, who is an operator of every tenant",
    "GetCheckpoint.": _EVERYBODYS,
    "GetKeySet.": _EVERYBODYS,
}


def test_every_field_of_every_request_has_its_row_or_its_reason() -> None:
    rows = {f"{rpc}.{row.field}" for row in ROWS for rpc in row.ask}
    there = set(requests())
    without = {field for field in there if field.replace("ExchangeStream", "Exchange") in WITHOUT}
    assert not there - rows - without, "name it in a row, or say in WITHOUT why there is nothing of a tenant in it"
    assert not rows & without, "has both"
    assert not {field for field in rows - there if not any(other.startswith(f"{field}.") for other in there)}
    assert WITHOUT.keys() == {field.replace("ExchangeStream", "Exchange") for field in without}


@pytest.mark.parametrize("name", ["*", "", "Retail", "RETAIL", "retail,wholesale", "retail ", "retail\0", "none-of-it"])
async def test_what_is_nearly_a_tenant_is_none(tenancy: Tenancy, name: str) -> None:
    """No pattern, no list, no other spelling: a tenant is named byte for byte."""
    desk = tenancy.house.good(RETAIL.desk)
    tries = [first(audit(desk, filter=log_of(tenant=name)))]
    tries += [revoke(desk, tenant=name)] if name else []
    reason = "REQUEST_INVALID" if "\0" in name else "TENANT_REFUSED"  # a control character is in no text at all
    for call in tries:
        assert (await outcome(call)).reason == reason
    assert await first(audit(desk, filter=log_of(tenant="retail")))


async def test_each_desk_sees_what_waits_for_itself(tenancy: Tenancy) -> None:
    """In lists, and as it comes."""
    house = tenancy.house
    for ours, theirs in SIDES.values():
        following = {side: watch_approvals(house.good(side.desk)) for side in (ours, theirs)}
        for call in following.values():
            await call.read()  # from here on
        name = await hold(house.good(theirs.agent))
        seen = {}
        for side, call in following.items():
            heard, beats = set[str](), 0
            while beats < 3:  # what there was to tell has been told
                message = await call.read()
                beats += not message.approvals
                heard |= {each.approval_id for each in message.approvals}
            call.cancel()
            listed = {each.approval_id for each in (await approvals(house.good(side.desk))).approvals}
            seen[side] = (name in heard, name in listed)
        assert seen == {theirs: (True, True), ours: (False, False)}
        await withdraw(house.good(theirs.agent), name)


async def test_a_report_is_its_services_own(tenancy: Tenancy) -> None:
    """The same report id at two services is two reports; a use of one's own is none of another's."""
    house, positions = tenancy.house, set[int]()
    report_id, held = f"{uuid4()}", {}
    for side, _ in SIDES.values():
        held[side.tenant] = (await tenancy.at_work(side))["own-credential"]
        for _ in range(2):  # the second time it is answered as it was
            told = await outcome(report(house.good(side.service), held[side.tenant], report_id))
            positions.add(told.answer.recorded.position)
    assert len(positions) == 2
    unused = (await tenancy.at_work(RETAIL))["own-credential"]
    done = outcome_pb2.Outcome(use_id=report_id, kind=outcome_pb2.OUTCOME_KIND_DONE)
    shop = house.good(RETAIL.service)
    assert (await outcome(report(shop, unused, f"{uuid4()}", outcome=done))).reason == "USE_UNKNOWN"
    assert (await outcome(report(shop, held[RETAIL.tenant], f"{uuid4()}", outcome=done))).reason == ""


async def test_request_ids_are_each_callers_own(tenancy: Tenancy) -> None:
    """The same id, the same intent, at the same moment and later: each has its own credential under it."""
    house = tenancy.house
    channels = [house.good(side.agent) for side, _ in SIDES.values()]
    for ask in (exchange, conversation):
        asked = request(request_id=f"the-same-{ask.__name__}")
        first_answers = await gather(*(ask(channel, asked) for channel in channels))
        later = [await ask(channel, asked) for channel in reversed(channels)]
        ours, theirs = (answer.credential for answer in first_answers)
        assert (ours.tenant, theirs.tenant) == ("retail", "wholesale")
        assert ours.credential_id != theirs.credential_id
        assert [answer.credential.credential_id for answer in later] == [theirs.credential_id, ours.credential_id]
