"""Schema: numbered SQL files, applied forward only. A store that a later release wrote is refused."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from broker.store.interface import StoreUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema's history."""

    version: int
    name: str
    script: str


def shipped() -> Sequence[Migration]:
    """Return the migrations of this release, in order."""
    files = resources.files("broker.store") / "migrations" / "sqlite"
    names = sorted(file.name for file in files.iterdir() if file.name.endswith(".sql"))
    return [
        Migration(version=int(name[:4]), name=name, script=(files / name).read_text(encoding="utf-8")) for name in names
    ]


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    """Bring the schema to the newest version; each step and its number in one transaction.

    Raises:
        StoreUnavailable: the store has a version that this release does not know.

    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT",
    )
    (version,) = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    newest = migrations[-1].version
    if version > newest:
        raise StoreUnavailable(
            f"the store has schema {version}, this release knows {newest}: start the release that wrote it",
        )
    for migration in migrations:
        if migration.version > version:
            _apply(connection, migration)


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(migration.script):
            connection.execute(statement)
        connection.execute("INSERT INTO schema_version VALUES (?, ?)", (migration.version, migration.name))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Split a script at its semicolons; `executescript` would commit in between."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
