"""Writes: what an item changes, and which live credentials end with it."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from datetime import datetime
from typing import Any, Final

from broker.credential.revocation import Rule, RuleKind
from broker.drifted import DriftState
from broker.store.approval_items import ChangeApproval, OpenApproval
from broker.store.drift_items import AddDrifted, EscalateDrifted
from broker.store.interface import (
    ActivatePolicy,
    AddGrant,
    AddKeyRequest,
    AddOverride,
    AddRedemption,
    AddReport,
    AddRevocation,
    AddTask,
    Charge,
    CountDrift,
    EndCredentials,
    EndTask,
    ForgetDrift,
    GiveBack,
    HearTask,
    LiftOverride,
    LiftRevocation,
    NarrowTask,
    NoteGranted,
    PutKey,
    ResumeTask,
    RevokedCredential,
    SuspendTask,
    Write,
)
from broker.store.sqlite import approvals, drifted, drifting, limits, outcomes, overrides, redemptions, tasks
from broker.store.sqlite.rows import (
    GRANT,
    KEY,
    KEY_REQUEST,
    REVOKED,
    from_key,
    from_rule,
    from_scope,
    from_time,
    to_json,
    to_revoked,
    to_rule,
)

_GRANT_ALSO: Final = "audience, request_id, declared, bundle, approval"
_ADD_GRANT: Final = f"INSERT INTO granted ({GRANT}, {_GRANT_ALSO}) VALUES ({', '.join('?' * 18)})"
# A removed key never comes back.
_PUT_KEY: Final = (
    f"INSERT INTO key_ring ({KEY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kid) DO UPDATE SET"
    " state = excluded.state, since = excluded.since, activated = excluded.activated, until = excluded.until"
    " WHERE key_ring.state <> 'removed'"
)

# The grants that a rule covers, by an index each; `_LIVE` bounds them to the credentials that still count.
COVERED: Final = {
    RuleKind.CREDENTIAL: "granted WHERE credential = ?",
    RuleKind.TASK: "granted WHERE task = ? AND task <> ''",
    RuleKind.AGENT: "granted WHERE agent = ?",
    RuleKind.TENANT: "granted WHERE tenant = ?",
    RuleKind.POLICY: "granted_policy JOIN granted USING (number) WHERE policy = ?",
}
_LIVE: Final = (
    " AND expires_at > ? AND NOT EXISTS (SELECT 1 FROM revoked WHERE revoked.credential = granted.credential)"
    " ORDER BY audience, status_index"
)


def apply(  # noqa: C901, PLR0912 - one for each write
    connection: sqlite3.Connection, writes: Sequence[Write], position: int
) -> Sequence[RevokedCredential]:
    """Apply the writes of one item in order and return the credentials that they revoked.

    Args:
        connection: inside the group's transaction.
        writes: of an item whose guards hold.
        position: where the item's event will stand.

    """
    revoked: list[RevokedCredential] = []
    for write in writes:
        match write:
            case EndTask():
                connection.execute(
                    "UPDATE task SET ended_at = ? WHERE id = ? AND ended_at IS NULL",
                    (from_time(write.at), write.task),
                )
                rule = Rule(kind=RuleKind.TASK, name=write.task)
                revoked += _expand(connection, rule, write.at, position)
                approvals.withdraw(connection, rule, write.at, position)
                drifted.close(connection, write.task, DriftState.ENDED, position)
            case AddRevocation(revocation=revocation):
                identity, rule = revocation.id, revocation.rule
                row = (identity, from_rule(rule), revocation.tenant, from_time(revocation.at), revocation.by)
                connection.execute("INSERT INTO revocation VALUES (?, ?, ?, ?, ?)", row)
                revoked += _expand(connection, rule, revocation.at, position)
                approvals.withdraw(connection, rule, revocation.at, position)
                if rule.kind is RuleKind.TASK:
                    drifted.close(connection, rule.name, DriftState.ENDED, position)
            case LiftRevocation():
                _lift(connection, write, position)
            case AddOverride(override=override):
                overrides.add(connection, override)
                where, bound = overrides.covered(write)
                revoked += _end(connection, where, bound, "override", override.at, position)
                approvals.withdraw(connection, override.stop, override.at, position)
            case EndCredentials():
                for credential in write.credentials:
                    rule = Rule(kind=RuleKind.CREDENTIAL, name=credential)
                    revoked += _expand(connection, rule, write.at, position)
            case AddRedemption():
                redemptions.add(connection, write, position)
            case GiveBack(credential=credential):
                if write.unused and not outcomes.only_failed(connection, credential):
                    continue
                limits.give_back(connection, credential)
                rule = Rule(kind=RuleKind.CREDENTIAL, name=credential)
                revoked += _expand(connection, rule, write.at, position)
            case SuspendTask():
                drifting.change(connection, write)
                rule = Rule(kind=RuleKind.TASK, name=write.task)
                revoked += _expand(connection, rule, write.at, position)
                approvals.withdraw(connection, rule, write.at, position)
            case AddDrifted() | EscalateDrifted() | ResumeTask():
                drifted.write(connection, write, position)
            case AddReport():
                outcomes.add(connection, write, position)
            case OpenApproval() | ChangeApproval():
                approvals.write(connection, write, position)
            case AddKeyRequest(request=asked):
                connection.execute(
                    f"INSERT INTO key_request (position, {KEY_REQUEST}) VALUES (?, ?, ?, ?, ?, ?)",
                    (position, asked.caller, asked.request_id, asked.digest, asked.answer, from_time(asked.at)),
                )
            case _:
                _put(connection, write)
    return revoked


def _put(
    connection: sqlite3.Connection,
    write: AddGrant
    | AddTask
    | Charge
    | NoteGranted
    | HearTask
    | NarrowTask
    | LiftOverride
    | PutKey
    | ActivatePolicy
    | CountDrift
    | ForgetDrift,
) -> None:
    match write:
        case AddGrant():
            _add_grant(connection, write)
        case AddTask(task=task):
            tasks.add(connection, task)
        case HearTask() | NarrowTask():
            tasks.change(connection, write)
        case CountDrift() | ForgetDrift():
            drifting.change(connection, write)
        case LiftOverride():
            overrides.lift(connection, write.override_id)
        case PutKey(key=key):
            connection.execute(_PUT_KEY, from_key(key))
        case ActivatePolicy():
            connection.execute("UPDATE log SET policy = ?", (write.digest,))
            overrides.remember_stoppers(connection, write.stoppers)
            limits.keep_standing(connection, write.standing)
        case Charge():
            limits.charge(connection, write)
        case NoteGranted():
            limits.note(connection, write)


def _lift(connection: sqlite3.Connection, write: LiftRevocation, position: int) -> None:
    query = "DELETE FROM revocation WHERE id = ? RETURNING rule"
    for (rule,) in connection.execute(query, (write.revocation_id,)).fetchall():
        drifted.reopen(connection, to_rule(rule), write.at, position)


def _add_grant(connection: sqlite3.Connection, write: AddGrant) -> None:
    grant = write.grant
    row = (
        grant.credential_id,
        grant.agent,
        grant.tenant,
        grant.task,
        grant.transaction_id,
        from_scope(grant.scope),
        grant.intent_digest,
        grant.thumbprint,
        grant.status_index,
        to_json(grant.policy_ids),
        from_time(grant.issued_at),
        from_time(grant.expires_at),
        grant.use,
        grant.scope.audience,
        write.request_id,
        write.declared,
        write.bundle,
        write.approval,
    )
    number = connection.execute(_ADD_GRANT, row).lastrowid
    policies = [(policy, number) for policy in dict.fromkeys(grant.policy_ids)]
    connection.executemany("INSERT INTO granted_policy VALUES (?, ?)", policies)


def _expand(
    connection: sqlite3.Connection,
    rule: Rule,
    at: datetime,
    position: int,
) -> Sequence[RevokedCredential]:
    """Record as revoked every live credential that the rule covers."""
    return _end(connection, COVERED[rule.kind], (rule.name,), rule.kind.value, at, position)


def _end(  # what, by which rule, when
    connection: sqlite3.Connection, where: str, bound: tuple[Any, ...], rule: str, at: datetime, position: int
) -> Sequence[RevokedCredential]:
    query = f"SELECT {REVOKED} FROM {where}{_LIVE}"
    found = [to_revoked(row) for row in connection.execute(query, (*bound, from_time(at)))]
    connection.executemany(
        "INSERT INTO revoked (position, at, rule, credential, agent, audience, status_index, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ((position, from_time(at), rule, *astuple(each)[:-1], from_time(each.expires_at)) for each in found),
    )
    return found
