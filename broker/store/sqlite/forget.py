"""Forget: drop what nothing can refer to any more. Events are never dropped."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import sqlite3
from datetime import datetime, timedelta
from typing import Final

from broker.store.sqlite import drifted, drifting, limits, outcomes
from broker.store.sqlite.rows import from_time

# Rows of each kind in one call: a few milliseconds, then the next group may commit.
BATCH: Final = 1000
KEY_REQUESTS_KEPT: Final = timedelta(days=1)
# Longer than a request can wait, an approval be used, a bypass last and a credential live, one after another.
APPROVALS_KEPT: Final = timedelta(days=7)
# Those that nobody decided about: nothing was given on them, and the log tells of them.
UNDECIDED_KEPT: Final = timedelta(days=1)

_EXPIRED: Final = "(SELECT number FROM granted WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"


def forget_expired(connection: sqlite3.Connection, now: datetime) -> int:
    """Drop a bounded number of expired rows and return how many grants went; inside a transaction."""
    bounds = (from_time(now), BATCH)
    connection.execute(
        "DELETE FROM granted_policy WHERE (policy, number) IN"
        f" (SELECT value, number FROM granted, json_each(policies) WHERE number IN {_EXPIRED})",
        bounds,
    )
    connection.execute(
        f"DELETE FROM redemption WHERE credential IN (SELECT credential FROM granted WHERE number IN {_EXPIRED})",
        bounds,
    )
    outcomes.remember(connection, _EXPIRED, bounds)
    gone = connection.execute(f"DELETE FROM granted WHERE number IN {_EXPIRED}", bounds).rowcount
    connection.execute(
        "DELETE FROM revoked WHERE rowid IN (SELECT rowid FROM revoked WHERE expires_at <= ? LIMIT ?)",
        bounds,
    )
    # A task that can still hold a live credential, or be asked for before its deadline, stays.
    tasks = connection.execute(
        "DELETE FROM task WHERE id IN (SELECT id FROM task WHERE ended_at IS NOT NULL AND deadline <= ?"
        " AND NOT EXISTS (SELECT 1 FROM granted WHERE granted.task = task.id AND granted.task <> '') LIMIT ?)"
        " RETURNING id",
        bounds,
    ).fetchall()
    limits.forget(connection, now, [task for (task,) in tasks], BATCH)
    asked_since = from_time(now - KEY_REQUESTS_KEPT)
    connection.execute(
        "DELETE FROM key_request WHERE (caller, request_id) IN"
        " (SELECT caller, request_id FROM key_request WHERE at <= ? LIMIT ?)",
        (asked_since, BATCH),
    )
    connection.execute(
        "DELETE FROM approval WHERE number IN (SELECT number FROM approval WHERE requested_at <= ?"
        " AND state NOT IN ('pending', 'approved') LIMIT ?)",
        (from_time(now - APPROVALS_KEPT), BATCH),
    )
    connection.execute(
        "DELETE FROM approval WHERE number IN (SELECT number FROM approval WHERE requested_at <= ?"
        " AND pending_until <= ? AND state IN ('expired', 'withdrawn') AND usable_until IS NULL LIMIT ?)",
        (from_time(now - UNDECIDED_KEPT), from_time(now - UNDECIDED_KEPT), BATCH),
    )
    # Rules over one credential or one task have nothing left to cover once it is gone; ids are never given twice.
    for kind, table, column in (("credential", "granted", "credential"), ("task", "task", "id")):
        connection.execute(
            f"DELETE FROM revocation WHERE id IN (SELECT id FROM revocation WHERE rule >= ? AND rule < ?"
            f" AND NOT EXISTS (SELECT 1 FROM {table} WHERE {column} = substr(rule, ?)) LIMIT ?)",
            (f"{kind} ", f"{kind}!", len(kind) + 2, BATCH),
        )
    outcomes.forget(connection, now, BATCH)
    drifting.forget(connection, BATCH)
    drifted.forget(connection, BATCH)
    return gone
