"""Cursors: where a subscriber keeps its bookmark. A file of its own, or whatever the effects are kept in."""

import asyncio
import errno
import fcntl
import os
import stat
import threading
from pathlib import Path
from typing import Final, Protocol, Self

from broker.client.bookmark import MAX_CHARACTERS, Bookmark, BookmarkInvalid
from broker.client.errors import BrokerError

_MODE: Final = 0o600
# Without O_NONBLOCK a pipe in the place of a file would hold us, and this process's end, for good.
_CAREFUL: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Cursors(Protocol):
    """Keeps one bookmark. Implement it over your own database and effect and bookmark are one transaction.

    `save` is called by `Subscriber.ack` and by nothing else but a subscriber that has nothing left to acknowledge:
    call `ack` inside the transaction that holds the effect, and let `save` write into it.
    """

    async def load(self) -> str:
        """Return the bookmark that was saved last; empty when there is none yet."""

    async def save(self, bookmark: str) -> None:
        """Keep a bookmark in place of the one before; durable when this returns, or when the transaction ends."""


class CursorUnusable(BrokerError):
    """The file of a cursor cannot be used: another process has it, it cannot be read, or it cannot be written."""


class CursorFile:
    """A bookmark in a file of mode 0600, replaced whole and synced to disk; the lock lies beside it, in NAME.lock.

    A context: the lock is taken when it is entered, and is given back when it is left or the process ends, however.

    Args:
        path: of the file; its directory has to exist.

    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._fresh = self._path.with_name(self._path.name + ".new")
        self._held: int | None = None
        self._writing = threading.Lock()

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            CursorUnusable: another process, or another part of this one, has it.

        """
        lock = self._path.with_name(self._path.name + ".lock")
        try:
            held = _open(lock, os.O_RDWR | os.O_CREAT)
        except OSError as failure:
            raise self._unusable(failure) from failure
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            os.close(held)
            if not isinstance(failure, BlockingIOError):
                raise self._unusable(failure) from failure
            raise CursorUnusable(
                f"{self._path}: another subscriber is using it; give each a file of its own."
            ) from None
        self._held = held
        return self

    def __exit__(self, *_: object) -> None:
        with self._writing:  # a save whose caller was cancelled goes on in its thread, and must not outlive the lock
            if self._held is not None:
                os.close(self._held)
                self._held = None

    async def load(self) -> str:
        """Return the bookmark; empty when there is no file yet.

        Raises:
            CursorUnusable: the file cannot be read, or is not locked by this object.
            BookmarkInvalid: it holds something else.

        """
        return await asyncio.to_thread(self._load)

    async def save(self, bookmark: str) -> None:
        """Replace the file: after a crash at any instant it holds either this bookmark or the one before.

        Raises:
            CursorUnusable: it cannot be written (the one before stands), or is not locked by this object.

        """
        await asyncio.to_thread(self._save, bookmark)

    def _load(self) -> str:
        self._check_held()
        try:
            descriptor = _open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return ""
        except OSError as failure:
            raise self._unusable(failure) from failure
        try:
            with os.fdopen(descriptor, encoding="ascii", newline="") as file:
                text = file.read(MAX_CHARACTERS + 1).removesuffix("\n")
            Bookmark.parse(text)
        except OSError as failure:
            raise self._unusable(failure) from failure
        except (BookmarkInvalid, UnicodeDecodeError) as problem:
            raise BookmarkInvalid(
                f"{self._path}: holds no cursor of a subscriber. Name another file; or remove it, and everything is "
                "read again."
            ) from problem
        return text

    def _save(self, bookmark: str) -> None:
        with self._writing:
            self._check_held()
            try:
                descriptor = _open(self._fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                with os.fdopen(descriptor, "w", encoding="ascii", newline="") as file:
                    os.fchmod(descriptor, _MODE)  # of a file that was there already
                    file.write(bookmark + "\n")
                    file.flush()
                    os.fsync(descriptor)
                self._fresh.replace(self._path)
                _sync_directory(self._path.parent)
            except OSError as failure:
                raise self._unusable(failure) from failure

    def _check_held(self) -> None:
        if self._held is None:
            raise CursorUnusable(f"{self._path}: enter the CursorFile first (`with CursorFile(...) as cursors`).")

    def _unusable(self, failure: OSError) -> CursorUnusable:
        return CursorUnusable(f"{self._path}: {failure.strerror}.")


def _open(path: Path, flags: int) -> int:
    """Open a file that is one: no link, pipe or device."""
    descriptor = os.open(path, flags | _CAREFUL, _MODE)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "It is not a regular file")


def _sync_directory(path: Path) -> None:
    """Make a name durable, not only what it names."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
