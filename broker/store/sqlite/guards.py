"""Guards: whether an item may be written, asked inside the transaction that writes it."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import sqlite3
from collections.abc import Iterable
from typing import Final

from broker.credential.revocation import Rule, RuleKind
from broker.errors import Reason, Refusal
from broker.store.approval_items import ApprovalOpen, ApprovalUsable, BypassInForce, FewPending
from broker.store.drift_items import DriftOpen
from broker.store.interface import (
    ActivePolicy,
    Guard,
    NotGranted,
    NotOver,
    NotRevoked,
    OutcomeFits,
    OverrideInForce,
    ReportUnused,
    RequestUnused,
    RevocationInForce,
    StepsOpen,
    TaskAlive,
    TaskOpen,
    TaskSuspended,
    Unspent,
    WithinLimit,
)
from broker.store.sqlite import approvals, drifting, limits, outcomes, overrides, redemptions
from broker.store.sqlite.rows import from_rule, to_time, to_time_or_none
from broker.task import why_over

_REASONS: Final = {
    RuleKind.AGENT: Reason.AGENT_REVOKED,
    RuleKind.TENANT: Reason.TENANT_REVOKED,
    RuleKind.TASK: Reason.TASK_REVOKED,
    RuleKind.POLICY: Reason.POLICY_REVOKED,
    RuleKind.CREDENTIAL: Reason.CREDENTIAL_REVOKED,
}


def first_refusal(connection: sqlite3.Connection, guards: Iterable[Guard]) -> Refusal | None:
    """Return the refusal of the first guard that does not hold; None when all do."""
    for guard in guards:
        found = _refusal(connection, guard)
        if found is not None:
            return found if isinstance(found, Refusal) else Refusal(found)
    return None


def first_in_force(connection: sqlite3.Connection, rules: Iterable[Rule]) -> Rule | None:
    """Return the first of these rules that is in force."""
    wanted = {from_rule(rule): rule for rule in rules}
    marks = ",".join("?" * len(wanted))
    found = {
        text for (text,) in connection.execute(f"SELECT rule FROM revocation WHERE rule IN ({marks})", tuple(wanted))
    }
    return next((rule for text, rule in wanted.items() if text in found), None)


def _refusal(  # noqa: C901, PLR0911 - one for each guard
    connection: sqlite3.Connection, guard: Guard
) -> Reason | Refusal | None:
    match guard:
        case NotRevoked():
            return _revoked(connection, guard)
        case TaskAlive():
            return _task_over(connection, guard)
        case TaskOpen():
            return _task_ended(connection, guard)
        case RequestUnused():
            return _used(connection, guard)
        case RevocationInForce():
            return _lifted(connection, guard)
        case OverrideInForce():
            return overrides.gone(connection, guard.override_id)
        case NotOver() | Unspent():
            return redemptions.refusal(connection, guard)
        case WithinLimit() | NotGranted() | StepsOpen():
            return limits.refusal(connection, guard)
        case ReportUnused() | OutcomeFits():
            return outcomes.refusal(connection, guard)
        case TaskSuspended() | DriftOpen():
            return drifting.refusal(connection, guard)
        case ApprovalOpen() | ApprovalUsable() | BypassInForce() | FewPending():
            return approvals.refusal(connection, guard)
        case ActivePolicy():
            (active,) = connection.execute("SELECT policy FROM log").fetchone()
            return None if active == guard.digest else Reason.POLICY_UNAVAILABLE


def _used(connection: sqlite3.Connection, guard: RequestUnused) -> Reason | None:
    # The literal lets the partial index answer.
    query = "SELECT 1 FROM granted WHERE agent = ? AND request_id = ? AND request_id <> ''"
    used = connection.execute(query, (guard.agent, guard.request_id)).fetchone()
    return Reason.REQUEST_ID_REUSED if used else None


def _lifted(connection: sqlite3.Connection, guard: RevocationInForce) -> Reason | None:
    known = connection.execute("SELECT 1 FROM revocation WHERE id = ?", (guard.revocation_id,)).fetchone()
    return None if known else Reason.REVOCATION_UNKNOWN


def _revoked(connection: sqlite3.Connection, guard: NotRevoked) -> Reason | None:
    if overrides.stopped(connection, guard):
        return Reason.OVERRIDE_IN_FORCE
    # The order gives the reason: what an operator did to the whole before what happened to a part.
    rules = [Rule(kind=RuleKind.AGENT, name=guard.agent), Rule(kind=RuleKind.TENANT, name=guard.tenant)]
    if guard.task:
        rules.append(Rule(kind=RuleKind.TASK, name=guard.task))
    rules += [Rule(kind=RuleKind.POLICY, name=name) for name in guard.policy_ids]
    if guard.credential_id:
        rules.append(Rule(kind=RuleKind.CREDENTIAL, name=guard.credential_id))
    rule = first_in_force(connection, rules)
    if rule is not None:
        return _REASONS[rule.kind]
    if guard.credential_id:
        # What a lifted rule ended stays ended.
        query = "SELECT 1 FROM revoked WHERE credential = ?"
        if connection.execute(query, (guard.credential_id,)).fetchone():
            return Reason.CREDENTIAL_REVOKED
    return None


def _task_ended(connection: sqlite3.Connection, guard: TaskOpen) -> Reason | None:
    row = connection.execute("SELECT ended_at FROM task WHERE id = ?", (guard.task,)).fetchone()
    if row is None:
        return Reason.TASK_UNKNOWN
    return None if row[0] is None else Reason.TASK_ENDED


def _task_over(connection: sqlite3.Connection, guard: TaskAlive) -> Reason | None:
    query = "SELECT agent, revision, deadline, silent_at, ended_at, suspended_at FROM task WHERE id = ?"
    row = connection.execute(query, (guard.task,)).fetchone()
    if row is None or row[0] != guard.agent:
        return Reason.TASK_UNKNOWN
    _, revision, deadline, silent_at, ended_at, suspended_at = row
    over = why_over(
        guard.now,
        deadline=to_time(deadline),
        silent_at=to_time_or_none(silent_at),
        ended_at=to_time_or_none(ended_at),
        suspended_at=None if suspended_at is None or guard.even_suspended else to_time(suspended_at),
    )
    if over is None and guard.revision not in {None, revision}:
        return Reason.TASK_BOUNDARY_CHANGED
    return over
