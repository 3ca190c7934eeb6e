"""The private directory that this process's tunnels listen in.

A process that is killed cannot remove its own. So each holds a lock on its directory as long as it lives, and the next
one removes those that nobody holds; a lock is known across containers that share the place, a process id is not.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

_PREFIX: Final = "broker-tunnel-"


class Folder:
    """A directory that other users cannot enter; it is made at once."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self._path, self._lock = _make()
        self._numbers = count()

    def socket(self) -> Path:
        """Return a path for a socket that never was another's, so that nobody reaches the wrong one late."""
        return self._path / str(next(self._numbers))

    def close(self) -> None:
        """Remove it, with all that is in it."""
        shutil.rmtree(self._path, ignore_errors=True)
        os.close(self._lock)


def _make() -> tuple[Path, int]:
    """Make a directory and lock it; again when somebody has swept it away in between."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))  # mode 0700
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return path, lock
            os.close(lock)


def _sweep(base: Path) -> None:
    """Remove what killed processes of this user left."""
    for path in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: it lives
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
