"""Writes: what an item changes, and which live credentials end with it."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from datetime import datetime
from typing import Final

from broker.credential.revocation import Rule, RuleKind
from broker.store.interface import (
    ActivatePolicy,
    AddGrant,
    AddKeyRequest,
    AddRevocation,
    AddTask,
    EndTask,
    LiftRevocation,
    PutKey,
    RevokedCredential,
    Write,
)
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
)

_ADD_GRANT: Final = f"INSERT INTO granted ({GRANT}, audience, request_id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
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


def apply(connection: sqlite3.Connection, writes: Sequence[Write], position: int) -> Sequence[RevokedCredential]:
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
                revoked += _expand(connection, Rule(kind=RuleKind.TASK, name=write.task), write.at, position)
            case AddRevocation(revocation=revocation):
                identity, rule = revocation.id, revocation.rule
                row = (identity, from_rule(rule), revocation.tenant, from_time(revocation.at), revocation.by)
                connection.execute("INSERT INTO revocation VALUES (?, ?, ?, ?, ?)", row)
                revoked += _expand(connection, revocation.rule, revocation.at, position)
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
    write: AddGrant | AddTask | LiftRevocation | PutKey | ActivatePolicy,
) -> None:
    match write:
        case AddGrant():
            _add_grant(connection, write)
        case AddTask(task=task):
            times = (
                from_time(task.begun_at),
                from_time(task.deadline),
                None if task.ended_at is None else from_time(task.ended_at),
            )
            row = (task.id, task.agent, task.begun_by, task.tenant, task.purpose, task.conversation, *times)
            connection.execute("INSERT INTO task VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        case LiftRevocation():
            connection.execute("DELETE FROM revocation WHERE id = ?", (write.revocation_id,))
        case PutKey(key=key):
            connection.execute(_PUT_KEY, from_key(key))
        case ActivatePolicy():
            connection.execute("UPDATE log SET policy = ?", (write.digest,))


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
    query = f"SELECT {REVOKED} FROM {COVERED[rule.kind]}{_LIVE}"
    found = [to_revoked(row) for row in connection.execute(query, (rule.name, from_time(at)))]
    connection.executemany(
        "INSERT INTO revoked (position, at, rule, credential, agent, audience, status_index, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ((position, from_time(at), rule.kind.value, *astuple(each)[:-1], from_time(each.expires_at)) for each in found),
    )
    return found
