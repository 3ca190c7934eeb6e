"""Overrides: what is stopped, in rows, and which grants a stop covers."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from broker.errors import Reason
from broker.override import Override, Stop, StopKind, Stopper
from broker.store.items import NotRevoked
from broker.store.override_items import AddOverride
from broker.store.sqlite.rows import from_time, to_json, to_time

_COLUMNS: Final = "id, kind, name, tenant, at, by, text"
_ACTIONS: Final = "EXISTS (SELECT 1 FROM json_each(scope, '$.actions') WHERE value"
# A class or an action may be stopped within one tenant. No index: it is a look at every live grant, once.
_COVERED: Final = {
    StopKind.AGENT: "granted WHERE agent = ?",
    StopKind.TENANT: "granted WHERE tenant = ?",
    StopKind.CLASS: f"granted WHERE ? IN ('', tenant) AND {_ACTIONS} NOT IN (SELECT value FROM json_each(?)))",
    StopKind.ACTION: f"granted WHERE ? IN ('', tenant) AND {_ACTIONS} = ?)",
    StopKind.EVERYTHING: "granted WHERE true",
}


def in_force(connection: sqlite3.Connection) -> Sequence[Override]:
    """Return every override in force, the oldest first."""
    return [
        Override(
            id=identity, stop=Stop(kind=StopKind(kind), name=name, tenant=tenant), at=to_time(at), by=by, text=text
        )
        for identity, kind, name, tenant, at, by, text in connection.execute(
            f"SELECT {_COLUMNS} FROM override ORDER BY at, id"
        )
    ]


def stopped(connection: sqlite3.Connection, guard: NotRevoked) -> bool:
    """Whether somebody has stopped what the guard is about."""
    return any(
        each.stop.covers(agent=guard.agent, tenant=guard.tenant, action=guard.action, action_class=guard.action_class)
        for each in in_force(connection)
    )


def gone(connection: sqlite3.Connection, override_id: str) -> Reason | None:
    """Return why an override cannot be lifted; None when it is in force."""
    found = connection.execute("SELECT 1 FROM override WHERE id = ?", (override_id,)).fetchone()
    return None if found else Reason.OVERRIDE_UNKNOWN


def add(connection: sqlite3.Connection, override: Override) -> None:
    """Put an override in force."""
    stop = override.stop
    row = (override.id, stop.kind.value, stop.name, stop.tenant, from_time(override.at), override.by, override.text)
    connection.execute(f"INSERT INTO override ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def lift(connection: sqlite3.Connection, override_id: str) -> None:
    """Take an override out of force."""
    connection.execute("DELETE FROM override WHERE id = ?", (override_id,))


def covered(write: AddOverride) -> tuple[str, tuple[Any, ...]]:
    """Return where the grants stand that an override covers, as a part of a query and what is bound in it."""
    stop = write.override.stop
    bound: dict[StopKind, tuple[Any, ...]] = {
        StopKind.CLASS: (stop.tenant, to_json(write.spared)),
        StopKind.ACTION: (stop.tenant, stop.name),
        StopKind.EVERYTHING: (),
    }
    return _COVERED[stop.kind], bound.get(stop.kind, (stop.name,))


def stoppers(connection: sqlite3.Connection) -> Sequence[Stopper]:
    """Return whom the last bundle that was activated lets stop things."""
    query = "SELECT spiffe_id, tenant FROM stopper ORDER BY spiffe_id, tenant"
    return [Stopper(spiffe_id=spiffe_id, tenant=tenant) for spiffe_id, tenant in connection.execute(query)]


def remember_stoppers(connection: sqlite3.Connection, found: Sequence[Stopper]) -> None:
    """Let these take the place of those of the bundle before."""
    connection.execute("DELETE FROM stopper")
    connection.executemany("INSERT INTO stopper VALUES (?, ?)", [(each.spiffe_id, each.tenant) for each in found])
