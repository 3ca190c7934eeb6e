"""Session: the one connection to the store file, which fails closed and comes back by itself.

When a write fails (disk full, read-only, an I/O error, a failed fsync) nothing is acknowledged: the transaction is
rolled back and the connection closed. The next call opens the file anew and proves that the tail matches the last
events and that nothing acknowledged is gone; while it cannot, every call fails; once it can, work goes on by itself.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from broker.audit.tree import Frontier
from broker.store.interface import StoreUnavailable
from broker.store.sqlite import files, log, schema


class Session:
    """A SQLite file, or a database in memory, for one caller at a time.

    Attributes:
        tail: the tail that this process last acknowledged.
        log_id: id of the log.
        cursor_key: MAC key of cursors.

    Args:
        location: path of the file, or ":memory:".
        log_id: the id a new log gets; an existing one keeps its own.
        cursor_key: the MAC key a new log gets, 32 random bytes.
        migrations: the schema's history.

    Raises:
        StoreUnavailable: another process has the store, it is damaged, from a later release, readable by others, or it
            cannot be written.

    """

    def __init__(
        self,
        location: str | Path,
        *,
        log_id: str,
        cursor_key: bytes,
        migrations: Sequence[schema.Migration],
    ) -> None:
        self._path = None if location == files.MEMORY else Path(location).absolute()
        self._migrations = migrations
        self._connection: sqlite3.Connection | None = None
        self.tail: Frontier | None = None
        self.log_id = ""
        self.cursor_key = b""
        self._identity: tuple[int, int] | None = None
        self._lock = None if self._path is None else files.Lock.take(self._path)
        try:
            if self._path is not None:
                files.create(self._path)
                self._identity = files.identity(self._path)
            self._open(log_id, cursor_key)
        except BaseException:
            self.close()
            raise

    def _open(self, log_id: str = "", cursor_key: bytes = b"") -> sqlite3.Connection:
        """Open the file, prove its tail, and keep the connection; a new log is begun when `log_id` is given."""
        try:
            connection = files.connect(files.MEMORY if self._path is None else str(self._path))
        except sqlite3.Error as problem:
            raise StoreUnavailable(f"the store cannot be opened: {problem}") from problem
        try:
            schema.migrate(connection, self._migrations)
            if log_id:
                connection.execute(
                    "INSERT OR IGNORE INTO log VALUES (1, ?, ?, 0, ?, '')",
                    (log_id, cursor_key, Frontier().to_bytes()),
                )
            self.tail = log.verify_tail(connection, self.tail)
            self.log_id, self.cursor_key = connection.execute("SELECT id, cursor_key FROM log").fetchone()
        except sqlite3.Error as problem:
            connection.close()
            raise StoreUnavailable(f"the store cannot be opened: {problem}") from problem
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _ready(self) -> sqlite3.Connection:
        if self._path is not None:
            if self._lock is None:
                raise StoreUnavailable("the store is closed")
            # Commits into a file that was moved away would be durable, and gone.
            if files.identity(self._path) != self._identity:
                raise StoreUnavailable(f"{self._path} is not the file that was opened; restart the broker")
        if self._connection is None and self._path is None:
            raise StoreUnavailable("the store is closed")
        return self._open() if self._connection is None else self._connection

    @contextmanager
    def failing_closed(self) -> Iterator[sqlite3.Connection]:
        """Give the connection; whatever goes wrong, roll back, and after a database error open anew next time."""
        connection = self._ready()
        try:
            yield connection
        except sqlite3.Error as problem:
            self._abandon(connection, reopen=not isinstance(problem, sqlite3.IntegrityError))
            raise StoreUnavailable(f"the store failed: {problem}") from problem
        except StoreUnavailable:
            self._abandon(connection, reopen=True)
            raise
        except BaseException:
            self._abandon(connection, reopen=False)
            raise

    def _abandon(self, connection: sqlite3.Connection, *, reopen: bool) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            reopen = True
        if reopen and self._path is not None:
            self._connection = None
            with suppress(sqlite3.Error):
                connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection inside a transaction, and commit it durably."""
        with self.failing_closed() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def require_own(self, tail: Frontier) -> None:
        """Refuse to go on from a tail that this process did not write: the file is opened and proven anew first.

        Raises:
            StoreUnavailable: somebody else has written.

        """
        if tail != self.tail:
            raise StoreUnavailable("the log has changed by another hand; the store is verified anew")

    def close(self) -> None:
        """Release the store; every later call fails."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
