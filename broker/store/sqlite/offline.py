"""Offline: a store file, read without touching it, whether or not a broker runs on it."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from broker.audit.entry import Opening
from broker.audit.verify import LoggedEntry
from broker.store.interface import StoreUnavailable


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
        # A copy in a directory that cannot be written has no shared memory file, and needs none when it has no log.
        wal = database.with_name(database.name + "-wal")
        unused = "" if wal.exists() and wal.stat().st_size else "&immutable=1"
        last: sqlite3.Error | None = None
        for option in ("", unused):
            try:
                connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro{option}", uri=True, timeout=5.0)
                connection.isolation_level = None
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("BEGIN")
                connection.execute("SELECT max(position) FROM event").fetchone()
                return cls(connection=connection)
            except sqlite3.Error as problem:
                last = problem
        raise StoreUnavailable(f"{database} is no readable store: {last}")

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
