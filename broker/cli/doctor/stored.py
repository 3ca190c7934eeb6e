"""Stored: what the checks want to know of the store, read without touching the file."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from broker.override import Override
from broker.store.interface import StoreUnavailable
from broker.store.sqlite import log, overrides, rows, schema
from broker.store.sqlite.offline import connect_read_only

# The schema from which on checkpoint keys stand in the store too.
_WITH_USES: Final = 2
# The one from which on it holds what people have stopped.
_WITH_OVERRIDES: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """A key by the store: what it signs ("token", "checkpoint"), its state, and since when it has that, UTC."""

    kid: str
    use: str
    state: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A store's facts.

    Attributes:
        log_id: id of the log.
        size: events in it.
        newest: time of the newest event, UTC; None when it says none.
        keys: every key that there ever was, the removed ones too.
        note: the newest checkpoint; empty before the first.
        overrides: in force, the oldest first.

    """

    log_id: str
    size: int
    newest: datetime | None
    keys: tuple[KnownKey, ...]
    note: str
    overrides: tuple[Override, ...]

    def keys_of(self, use: str, *states: str) -> tuple[KnownKey, ...]:
        """Return the keys of one use in these states."""
        return tuple(key for key in self.keys if key.use == use and key.state in states)


def read_store(path: Path) -> Stored | None:
    """Read a store file; None when there is none yet, or an empty one.

    Raises:
        StoreUnavailable: it is damaged, no store, or of a later release.

    """
    if not path.exists() or not path.stat().st_size:
        return None
    try:
        with closing(connect_read_only(path)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("BEGIN")
            return _read(connection)
    except (sqlite3.Error, TypeError, ValueError) as failure:  # a damaged column may hold anything
        raise StoreUnavailable(f"{path} is no readable store: {failure}") from failure


def _read(connection: sqlite3.Connection) -> Stored:
    (version,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    newest = schema.shipped()[-1].version
    if version is None or version > newest:
        raise StoreUnavailable(f"the store has schema {version}, this release knows {newest}")
    row = connection.execute("SELECT id FROM log").fetchone()
    if row is None:
        raise StoreUnavailable("the store has no log: the store is damaged")
    tail = log.verify_tail(connection, None)
    event = connection.execute("SELECT content FROM event ORDER BY position DESC LIMIT 1").fetchone()
    note = connection.execute("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
    use = "use" if version >= _WITH_USES else "'token'"
    keys = connection.execute(f"SELECT kid, {use}, state, since FROM key_ring ORDER BY since, kid").fetchall()  # noqa: S608
    return Stored(
        log_id=str(row[0]),
        size=tail.size,
        newest=_time_of(event[0]) if event else None,
        keys=tuple(
            KnownKey(kid=str(kid), use=str(use), state=str(state), since=rows.to_time(int(since)))
            for kid, use, state, since in keys
        ),
        note=str(note[0]) if note else "",
        overrides=tuple(overrides.in_force(connection)) if version >= _WITH_OVERRIDES else (),
    )


def _time_of(content: bytes) -> datetime | None:
    try:
        at = datetime.fromisoformat(json.loads(content)["at"])
    except (ValueError, TypeError, KeyError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
