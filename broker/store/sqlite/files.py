"""Files: the database file and the lock that keeps a second process out."""

import fcntl
import os
import sqlite3
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.store.interface import StoreUnavailable

MEMORY: Final = ":memory:"
_MODE: Final = 0o600
_OLDEST: Final = (3, 37, 0)  # STRICT tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The one process that may write the store holds this; the kernel lets go of it when the process dies."""

    descriptor: int

    @classmethod
    def take(cls, database: Path) -> "Lock":
        """Take the lock beside the database.

        Raises:
            StoreUnavailable: another process holds it, or the directory cannot be written.

        """
        path = database.with_name(database.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        except OSError as problem:
            raise StoreUnavailable(f"{path}: {problem.strerror}") from problem
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as problem:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreUnavailable(f"{database} is in use by process {holder}; one broker, one store") from problem
        except OSError as problem:
            os.close(descriptor)
            raise StoreUnavailable(f"{path}: {problem.strerror}") from problem
        return cls(descriptor=descriptor)

    def release(self) -> None:
        """Let another process in."""
        os.close(self.descriptor)


def create(database: Path) -> None:
    """Make the database file with mode 0600 when there is none; refuse one that others can read.

    Raises:
        StoreUnavailable: it cannot be made, is no regular file, or its mode is wider.

    """
    try:
        with suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(database, flags, _MODE))
            directory = os.open(database.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        found = database.lstat()
    except OSError as problem:
        raise StoreUnavailable(f"{database}: {problem.strerror}") from problem
    if not stat.S_ISREG(found.st_mode):
        raise StoreUnavailable(f"{database} is not a regular file")
    if stat.S_IMODE(found.st_mode) & ~_MODE:
        raise StoreUnavailable(f"{database} can be read or run by others: chmod 600 it")


def identity(database: Path) -> tuple[int, int]:
    """Return which file stands at the path now.

    Raises:
        StoreUnavailable: none does.

    """
    try:
        found = database.stat()
    except OSError as problem:
        raise StoreUnavailable(f"{database}: {problem.strerror}") from problem
    return found.st_dev, found.st_ino


def connect(location: str) -> sqlite3.Connection:
    """Open the database for durable writing: every commit is on disk before it is answered.

    Raises:
        StoreUnavailable: this SQLite is too old.
        sqlite3.Error: the file cannot be opened or is no database.

    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise StoreUnavailable(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or later is needed")
    # One caller at a time, but not always the same thread: the caller sees to it.
    connection = sqlite3.connect(
        location,
        timeout=1.0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        if location != MEMORY:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 67108864")
    except BaseException:
        connection.close()
        raise
    return connection
