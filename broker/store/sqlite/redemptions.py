"""Redemptions as SQLite rows: a credential is spent by the row that its id can have once."""

import sqlite3
from datetime import datetime

from broker.errors import Reason
from broker.store.redemption_items import AddRedemption, NotOver, StoredRedemption, Unspent
from broker.store.sqlite.rows import from_time, to_time


def refusal(connection: sqlite3.Connection, guard: NotOver | Unspent) -> Reason | None:
    """Return why a credential cannot be spent; None when it can."""
    match guard:
        case NotOver():
            return _over(connection, guard.credential_id, guard.now)
        case Unspent():
            return _spent(connection, guard.credential_id)


def _over(connection: sqlite3.Connection, credential_id: str, now: datetime) -> Reason | None:
    row = connection.execute("SELECT expires_at FROM granted WHERE credential = ?", (credential_id,)).fetchone()
    if row is None:
        return Reason.CREDENTIAL_UNKNOWN
    return Reason.TOKEN_EXPIRED if row[0] <= from_time(now) else None


def _spent(connection: sqlite3.Connection, credential_id: str) -> Reason | None:
    found = connection.execute("SELECT 1 FROM redemption WHERE credential = ?", (credential_id,)).fetchone()
    return Reason.CREDENTIAL_SPENT if found else None


def add(connection: sqlite3.Connection, write: AddRedemption, position: int) -> None:
    """Spend a credential."""
    row = (write.credential_id, write.key, write.call_digest, position, from_time(write.at))
    connection.execute("INSERT INTO redemption VALUES (?, ?, ?, ?, ?)", row)


def find(connection: sqlite3.Connection, credential_id: str) -> StoredRedemption | None:
    """Return how a credential was spent; None when it was not."""
    query = "SELECT key, call_digest, position, at FROM redemption WHERE credential = ?"
    row = connection.execute(query, (credential_id,)).fetchone()
    if row is None:
        return None
    key, call_digest, position, at = row
    return StoredRedemption(key=key, call_digest=call_digest, position=position, at=to_time(at))
