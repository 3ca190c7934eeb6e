"""Offline: a store file, read without touching it, whether or not a broker runs on it."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from broker.audit.entry import Opening
from broker.audit.verify import LoggedEntry
from broker.store.interface import StoreUnavailable


def connect_read_only(database: Path) -> sqlite3.Connection:
    """Connect so that nothing is written, beside the file either."""
    # Without a shared memory file nobody has it open, and SQLite must not make one, unless a log waits to be read.
    shared, log = (database.with_name(database.name + suffix) for suffix in ("-shm", "-wal"))
    in_use = shared.exists() or (log.exists() and log.stat().st_size > 0)
    option = "" if in_use else "&immutable=1"
    uri = f"{database.absolute().as_uri()}?mode=ro{option}"
    return sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineLog:
    """One consistent state of the log in a store file, as a context manager."""

    connection: sqlite3.Connection

    @classmethod
    def open(cls, database: Path) -> Self:
        """Open a store file read-only.

        Raises:
            StoreUnavailable: it cannot be read, or is no store.

        """
        if not database.is_file():
            raise StoreUnavailable(f"{database}: no such file")
        try:
            connection = connect_read_only(database)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("BEGIN")
            connection.execute("SELECT max(position) FROM event").fetchone()
        except sqlite3.Error as problem:
            raise StoreUnavailable(f"{database} is no readable store: {problem}") from problem
        return cls(connection=connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def size(self) -> int:
        """Return how many events there seem to be; for progress only."""
        (last,) = self.connection.execute("SELECT max(position) FROM event").fetchone()
        return 0 if last is None else int(last) + 1

    def notes(self) -> list[str]:
        """Return the checkpoints that lie beside the log, unverified."""
        return [str(note) for (note,) in self.connection.execute("SELECT note FROM checkpoint ORDER BY size")]

    def entries(self) -> Iterator[LoggedEntry]:
        """Yield what stands in the log, unverified, with what lies beside it.

        Raises:
            StoreUnavailable: the file is damaged so that it cannot be read on.

        """
        openings = self._openings()
        ahead = next(openings, None)
        query = "SELECT position, content, leaf FROM event ORDER BY position"
        try:
            for position, content, leaf in self.connection.execute(query):
                own: list[Opening] = []
                while ahead is not None and ahead[0] <= position:
                    if ahead[0] == position:
                        own.append(ahead[1])
                    ahead = next(openings, None)
                yield LoggedEntry(position=position, content=_bytes(content), openings=tuple(own), leaf=_bytes(leaf))
        except sqlite3.Error as problem:
            raise StoreUnavailable(f"the store cannot be read on: {problem}") from problem

    def _openings(self) -> Iterator[tuple[int, Opening]]:
        query = "SELECT position, field, value, salt FROM opening ORDER BY position, field"
        for position, field, value, salt in self.connection.execute(query):
            yield position, Opening(field=str(field), value=_bytes(value), salt=_bytes(salt))


def _bytes(found: object) -> bytes:
    """A tampered column may hold anything; what is not bytes matches no hash."""
    return found if isinstance(found, bytes) else str(found).encode(errors="replace")
