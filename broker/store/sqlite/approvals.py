"""Approvals as SQLite rows: what was asked, what people said, and what ends with a task, a rule or a stop."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from broker.approval import Approval, ApprovalState, Yes, intent_from, why_unusable
from broker.credential.revocation import Rule, RuleKind
from broker.errors import Reason
from broker.intent import canonical_json
from broker.override import Stop, StopKind
from broker.policy.customers import CustomerSignIn
from broker.policy.step_up import step_up_from_json
from broker.store.approval_items import (
    ApprovalGuard,
    ApprovalOpen,
    ApprovalUsable,
    ApprovalWrite,
    BypassInForce,
    ChangeApproval,
    FewPending,
    OpenApproval,
)
from broker.store.sqlite.rows import (
    Row,
    from_scope,
    from_time,
    from_time_or_none,
    to_json,
    to_scope,
    to_time,
    to_time_or_none,
)

# What never changes of an approval, and what does.
_ASKED: Final = (
    "id, agent, tenant, task_type, action_class, intent, nonce, requirements, policies, scope, lifetime, requested_at,"
    " pending_until"
)
_ANSWERED: Final = "state, answers, decided_at, usable_until, escalated, escalate_at, bypass_until, text"
APPROVAL: Final = f"{_ASKED}, {_ANSWERED}, revision"
# What stands beside them to be looked for.
_FOUND_BY: Final = "task, action, resource_type, audience, intent_digest, changed, person"
_ADD: Final = f"INSERT INTO approval ({_ASKED}, {_ANSWERED}, revision, {_FOUND_BY}) VALUES ({', '.join('?' * 29)})"
_CHANGE: Final = (
    f"UPDATE approval SET ({_ANSWERED}) = ({', '.join('?' * 8)}), revision = revision + 1, changed = ? WHERE id = ?"
)
_WITHDRAW: Final = (
    "UPDATE approval SET bypass_until = NULL, revision = revision + 1, changed = ?, decided_at ="
    " CASE WHEN state IN ('pending', 'approved') THEN ? ELSE decided_at END, state ="
    " CASE WHEN state IN ('pending', 'approved') THEN 'withdrawn' ELSE state END WHERE id = ?"
)
_MICROSECOND: Final = timedelta(microseconds=1)
_UNDER_RULE: Final = {
    RuleKind.TASK: "task = :name AND task <> ''",
    RuleKind.AGENT: "agent = :name",
    RuleKind.TENANT: "tenant = :name",
    RuleKind.POLICY: ":name IN (SELECT value FROM json_each(policies))",
}
_UNDER_STOP: Final = {
    StopKind.AGENT: "agent = :name",
    StopKind.TENANT: "tenant = :name",
    StopKind.CLASS: "action_class = :name AND :tenant IN ('', tenant)",
    StopKind.ACTION: "action = :name AND :tenant IN ('', tenant)",
    StopKind.EVERYTHING: "true",
}


# --- rows ---------------------------------------------------------------------------------------------------------


def to_approval(row: Row) -> Approval:
    """Return the approval of a row with the columns `APPROVAL`."""
    identity, agent, tenant, task_type, action_class, intent, nonce, requirements, policies, scope, *more = row
    lifetime, requested_at, pending_until, state, answers, decided_at, usable_until, escalated, *rest = more
    escalate_at, bypass_until, text, revision = rest
    return Approval(
        id=identity,
        agent=agent,
        tenant=tenant,
        task_type=task_type,
        intent=intent_from(json.loads(intent)),
        action_class=action_class,
        nonce=nonce,
        requirements=tuple(map(step_up_from_json, json.loads(requirements))),
        policy_ids=tuple(json.loads(policies)),
        scope=to_scope(scope),
        lifetime=lifetime * _MICROSECOND,
        requested_at=to_time(requested_at),
        pending_until=to_time(pending_until),
        state=ApprovalState(state),
        answers=tuple(map(_to_yes, json.loads(answers))),
        decided_at=to_time_or_none(decided_at),
        usable_until=to_time_or_none(usable_until),
        escalated=tuple(json.loads(escalated)),
        escalate_at=to_time_or_none(escalate_at),
        bypass_until=to_time_or_none(bypass_until),
        text=text,
        revision=revision,
    )


def _answered(approval: Approval) -> Row:
    return (
        approval.state.value,
        to_json([_from_yes(each) for each in approval.answers]),
        from_time_or_none(approval.decided_at),
        from_time_or_none(approval.usable_until),
        to_json(approval.escalated),
        from_time_or_none(approval.escalate_at),
        from_time_or_none(approval.bypass_until),
        approval.text,
    )


def _from_yes(yes: Yes) -> dict[str, Any]:
    return {
        "person": yes.person,
        "at": from_time(yes.at),
        "by_token": yes.by_token,
        "authenticated_at": from_time_or_none(yes.authenticated_at),
        "bypass": None if yes.bypass is None else yes.bypass // _MICROSECOND,
        "over": yes.over,
        "sign_in": None if yes.sign_in is None else asdict(yes.sign_in),
    }


def _to_yes(members: dict[str, Any]) -> Yes:
    bypass, sign_in = members["bypass"], members.get("sign_in")
    return Yes(
        person=members["person"],
        at=to_time(members["at"]),
        by_token=members["by_token"],
        authenticated_at=to_time_or_none(members["authenticated_at"]),
        bypass=None if bypass is None else bypass * _MICROSECOND,
        over=members.get("over", ""),
        sign_in=CustomerSignIn(**sign_in) if sign_in else None,
    )


# --- writes -------------------------------------------------------------------------------------------------------


def write(connection: sqlite3.Connection, item: ApprovalWrite, position: int) -> None:
    """Write a held request, or where one stands now."""
    match item:
        case OpenApproval():
            _add(connection, item, position)
        case ChangeApproval(approval=approval):
            connection.execute(_CHANGE, (*_answered(approval), position, approval.id))


def _add(connection: sqlite3.Connection, item: OpenApproval, position: int) -> None:
    approval, intent = item.approval, item.approval.intent
    asked = (
        approval.id,
        approval.agent,
        approval.tenant,
        approval.task_type,
        approval.action_class,
        canonical_json(intent.canonical_object()).decode(),
        approval.nonce,
        to_json([each.to_json() for each in approval.requirements]),
        to_json(approval.policy_ids),
        from_scope(approval.scope),
        approval.lifetime // _MICROSECOND,
        from_time(approval.requested_at),
        from_time(approval.pending_until),
    )
    kind = (intent.task, intent.action, intent.resource.type, intent.audience, intent.digest())
    connection.execute(_ADD, (*asked, *_answered(approval), approval.revision, *kind, position, item.person))


def open_under(connection: sqlite3.Connection, under: Rule | Stop, now: datetime) -> Sequence[str]:
    """Return the ids of what is open under a rule or a stop: not decided, not used, or let pass by a bypass."""
    match under:
        case Rule(kind=RuleKind.CREDENTIAL):
            return []
        case Rule():
            where, bound = _UNDER_RULE[under.kind], {"name": under.name}
        case Stop():
            where, bound = _UNDER_STOP[under.kind], {"name": under.name, "tenant": under.tenant}
    open_now = "(state IN ('pending', 'approved') OR bypass_until > :now)"
    query = f"SELECT id FROM approval WHERE {where} AND {open_now} ORDER BY number"
    return [identity for (identity,) in connection.execute(query, {**bound, "now": from_time(now)})]


def withdraw(connection: sqlite3.Connection, under: Rule | Stop, at: datetime, position: int) -> None:
    """Take back what is open under a rule or a stop, and end its bypasses."""
    connection.executemany(_WITHDRAW, [(position, from_time(at), each) for each in open_under(connection, under, at)])


# --- guards -------------------------------------------------------------------------------------------------------


def refusal(connection: sqlite3.Connection, guard: ApprovalGuard) -> Reason | None:
    """Return why a guard does not hold; None when it does."""
    match guard:
        case ApprovalOpen():
            return _changed(connection, guard)
        case ApprovalUsable():
            return _unusable(connection, guard)
        case BypassInForce():
            return _bypass_over(connection, guard)
        case FewPending():
            return _too_many(connection, guard)


def _changed(connection: sqlite3.Connection, guard: ApprovalOpen) -> Reason | None:
    row = connection.execute("SELECT state, revision FROM approval WHERE id = ?", (guard.approval,)).fetchone()
    if row is None:
        return Reason.APPROVAL_UNKNOWN
    if row[1] == guard.revision:
        return None
    return why_unusable(ApprovalState(row[0])) or Reason.APPROVAL_PENDING


def _unusable(connection: sqlite3.Connection, guard: ApprovalUsable) -> Reason | None:
    query = "SELECT state, usable_until FROM approval WHERE id = ?"
    row = connection.execute(query, (guard.approval,)).fetchone()
    if row is None:
        return Reason.APPROVAL_UNKNOWN
    state, usable_until = row
    if state == ApprovalState.APPROVED.value and (usable_until is None or usable_until <= from_time(guard.now)):
        return Reason.APPROVAL_EXPIRED
    return why_unusable(ApprovalState(state))


def _bypass_over(connection: sqlite3.Connection, guard: BypassInForce) -> Reason | None:
    row = connection.execute("SELECT bypass_until FROM approval WHERE id = ?", (guard.approval,)).fetchone()
    in_force = row is not None and row[0] is not None and row[0] > from_time(guard.now)
    return None if in_force else Reason.STEP_UP_REQUIRED


def _too_many(connection: sqlite3.Connection, guard: FewPending) -> Reason | None:
    query = "SELECT count(*) FROM approval WHERE agent = ? AND person = ? AND state = ? AND pending_until > ?"
    for state, most in ((ApprovalState.PENDING, guard.most), (ApprovalState.WITHDRAWN, guard.most_withdrawn)):
        bound = (guard.agent, guard.person, state.value, from_time(guard.now))
        (count,) = connection.execute(query, bound).fetchone()
        if count >= most:
            return Reason.LIMIT_APPROVALS
    return None
