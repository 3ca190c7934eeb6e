"""Processes on record: begun once, recognised later, ended exactly, and never mistaken for another."""

import functools
import json
import os
import select
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.spire import launch
from deploy.spire.errors import DeployError

_GRACE_SECONDS = 10.0
_LAUNCH_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process for good: its number may be used again, its number and start time together never."""

    pid: int
    started: int
    boot: str

    @classmethod
    def recorded(cls, path: Path) -> Self | None:
        """Read a record; None where there is none, or none that can be understood."""
        try:
            content = json.loads(path.read_text(encoding="ascii"))
            return cls(pid=int(content["pid"]), started=int(content["started"]), boot=str(content["boot"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def alive(self) -> bool:
        """Whether this very process, and not a later one with its number, still runs."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        try:
            fields = launch.stat_fields(self.pid)
        except OSError:
            return False
        return fields[0] not in "ZX" and int(fields[19]) == self.started and self.boot == launch.boot_id()

    def end(self, *, kill: bool = False) -> bool:
        """Ask it to end, insist after a while (or at once with ``kill``); say whether it was running."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.alive():  # looked at after the handle was taken: the handle is of this process
                return False
            _signal_until_gone(handle, (signal.SIGKILL,) if kill else (signal.SIGTERM, signal.SIGKILL))
        finally:
            os.close(handle)
        self.alive()  # reap it if it was a child of ours
        return True


def _signal_until_gone(handle: int, numbers: tuple[signal.Signals, ...]) -> None:
    gone = select.poll()
    gone.register(handle, select.POLLIN)
    for number in numbers:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
        if gone.poll(_GRACE_SECONDS * 1000):
            return


@functools.cache
def _spawner() -> ThreadPoolExecutor:
    """Give the one thread that begins mortal children.

    The kernel ties a child to the thread that began it, and this thread lives as long as the program.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="spire-spawner")


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A program to keep running: its command, where its output goes, and where it is on record."""

    command: tuple[str, ...]
    log: Path
    record: Path
    death_signal: signal.Signals = signal.SIGKILL

    def process(self) -> Process | None:
        """Return the running process, if there is one."""
        process = Process.recorded(self.record)
        return process if process and process.alive() else None

    def begin(self, *, detached: bool) -> None:
        """Start the program. Not detached, it is sent ``death_signal`` when this process ends, even if that is killed.

        Raises DeployError when it does not even get as far as being recorded.
        """
        self.record.unlink(missing_ok=True)
        pid = self._spawn() if detached else _spawner().submit(self._spawn, self.death_signal).result()
        deadline = time.monotonic() + _LAUNCH_SECONDS
        while not self.record.exists():
            ended = os.waitpid(pid, os.WNOHANG)[0]  # perhaps after it was recorded: then it did start
            if (ended and not self.record.exists()) or time.monotonic() > deadline:
                raise DeployError(f"cannot start {self.command[0]}:\n{self.tail()}")
            time.sleep(0.005)

    def end(self, *, kill: bool = False) -> bool:
        """End the program if it runs, forget it, and say whether it was running."""
        process = Process.recorded(self.record)
        was_running = bool(process and process.end(kill=kill))
        self.record.unlink(missing_ok=True)
        return was_running

    def tail(self, lines: int = 15) -> str:
        """Return the end of the program's log."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        return f"(no log at {self.log})"

    def _spawn(self, death_signal: int = 0) -> int:
        launcher = (sys.executable, "-I", "-S", launch.__file__, str(self.record), str(os.getpid()), str(death_signal))
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.posix_spawn(
            sys.executable,
            (*launcher, *self.command),
            os.environ,
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ),
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
        )
