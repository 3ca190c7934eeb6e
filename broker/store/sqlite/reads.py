"""Reads: every question has an index that answers it."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

from broker.audit.entry import Opening
from broker.store.interface import HeldGrant, RevokedCredential, RevokedRange, StoredEvent
from broker.store.sqlite.rows import GRANT, REVOKED, from_time, to_grant, to_revoked, to_time


def events(connection: sqlite3.Connection, start: int, stop: int, *, openings: bool) -> Sequence[StoredEvent]:
    """Return the events of [start, stop)."""
    within = "WHERE position >= ? AND position < ? ORDER BY position"
    found: defaultdict[int, list[Opening]] = defaultdict(list)
    if openings:
        query = f"SELECT position, field, value, salt FROM opening {within}"
        for position, field, value, salt in connection.execute(query, (start, stop)):
            found[position].append(Opening(field=field, value=value, salt=salt))
    return [
        StoredEvent(position=position, content=content, openings=tuple(found.get(position, ())))
        for position, content in connection.execute(f"SELECT position, content FROM event {within}", (start, stop))
    ]


def _reader(audience: str, agent: str) -> tuple[str, str]:
    """Return the column and the name that a reader is known by."""
    if bool(audience) == bool(agent):
        raise ValueError("a reader is either an audience or an agent")
    return ("audience", audience) if audience else ("agent", agent)


def revoked_in(
    connection: sqlite3.Connection,
    start: int,
    stop: int,
    *,
    audience: str,
    agent: str,
) -> Sequence[RevokedRange]:
    """Return what events of [start, stop) revoked for one reader."""
    column, name = _reader(audience, agent)
    query = (
        f"SELECT position, at, rule, {REVOKED} FROM revoked WHERE {column} = ? AND position >= ? AND position < ?"
        " ORDER BY position, audience, status_index"
    )
    rows = connection.execute(query, (name, start, stop))
    ranges = []
    for position, group in groupby(rows, key=lambda row: int(row[0])):
        members = list(group)
        _, at, rule, *_ = members[0]
        credentials = tuple(to_revoked(row[3:]) for row in members)
        ranges.append(RevokedRange(position=position, at=to_time(at), rule=rule, credentials=credentials))
    return ranges


def revoked_now(
    connection: sqlite3.Connection,
    now: datetime,
    *,
    audience: str,
    agent: str,
) -> tuple[int, Sequence[RevokedCredential]]:
    """Return the log's size and what is revoked at that size; in one transaction, so that the two agree."""
    column, name = _reader(audience, agent)
    connection.execute("BEGIN")
    try:
        (size,) = connection.execute("SELECT size FROM log").fetchone()
        query = f"SELECT {REVOKED} FROM revoked WHERE {column} = ? AND expires_at > ? ORDER BY audience, status_index"
        found = [to_revoked(row) for row in connection.execute(query, (name, from_time(now)))]
    finally:
        connection.execute("ROLLBACK")
    return size, found


def held(connection: sqlite3.Connection, task_id: str, now: datetime, *, unless_under: str) -> Sequence[HeldGrant]:
    """Return the grants of a task whose credentials are live, without those that one bundle decided."""
    query = (
        f"SELECT declared, approval, {GRANT} FROM granted WHERE task = ?1 AND task <> '' AND expires_at > ?2"
        " AND (bundle <> ?3 OR ?3 = '')"
        " AND NOT EXISTS (SELECT 1 FROM revoked WHERE revoked.credential = granted.credential) ORDER BY number"
    )
    return [
        HeldGrant(grant=to_grant(row), declared=declared, approval=approval)
        for declared, approval, *row in connection.execute(query, (task_id, from_time(now), unless_under))
    ]
