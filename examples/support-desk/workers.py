"""The demonstration's processes: begun so that none outlives it, asked a line at a time, ended for certain."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from deploy.spire import launch
from deploy.spire.errors import DeployError

ANSWER_SECONDS: Final = 40.0
_PIECE: Final = 1 << 16


class WorkerFailed(DeployError):
    """A process of the demonstration ended, or did not answer; the text holds the end of its log."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a process answered: what it got, or how it was refused."""

    ok: dict[str, Any] | None = None
    refused: dict[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class Worker:
    """One process.

    Attributes:
        name: for people, and of its files.
        command: the program and its arguments.
        directory: where its record and its log are kept.
        environment: whole.
        speaks: whether it answers on its standard output; else that goes into the log as well.
        seconds_to_end: how long it may take to end before it is killed.

    """

    name: str
    command: list[str]
    directory: Path
    environment: dict[str, str]
    speaks: bool = True
    seconds_to_end: float = 5.0
    process: subprocess.Popen[bytes] | None = None
    _unread: bytearray = field(default_factory=bytearray)

    @property
    def log(self) -> Path:
        """Where what it says to people goes."""
        return self.directory / f"{self.name}.log"

    def begin(self) -> None:
        """Start it, in a session of its own; it dies with this process, however that ends."""
        launcher = [sys.executable, "-I", "-S", launch.__file__, str(self.directory / f"{self.name}.pid")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*launcher, str(os.getpid()), str(int(signal.SIGKILL)), *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if self.speaks else log,
                stderr=log,
                env=self.environment,
                cwd=self.directory,
                start_new_session=True,
            )

    def ask(self, what: str, **arguments: Any) -> Answer:  # noqa: ANN401  # JSON
        """Tell it to do something and wait for the answer.

        Raises:
            WorkerFailed: it could not, it ended, or it does not answer.

        """
        process = self._running()
        request = json.dumps({"do": what, **arguments}).encode() + b"\n"
        if process.stdin is not None:
            try:
                process.stdin.write(request)
                process.stdin.flush()
            except BrokenPipeError:
                raise self._failed("has ended") from None
        return self.answered()

    def get(self, what: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """Tell it to do something that is not to be refused."""
        answer = self.ask(what, **arguments)
        if answer.ok is None:
            raise WorkerFailed(f"{self.name}: {what} was refused: {answer.refused}")
        return answer.ok

    def answered(self) -> Answer:
        """Wait for the next answer; the first one says that it is ready.

        Raises:
            WorkerFailed: as `ask`.

        """
        answer = json.loads(self.line())
        if "failed" in answer:
            raise self._failed(answer["failed"])
        return Answer(ok=answer.get("ok"), refused=answer.get("refused"))

    def line(self) -> bytes:
        """Wait for the next line that it says."""
        process = self._running()
        output = process.stdout.fileno() if process.stdout else -1
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self._unread:
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self._failed(f"has not answered for {ANSWER_SECONDS:.0f} s")
            piece = os.read(output, _PIECE)
            if not piece:
                raise self._failed("has ended")
            self._unread += piece
        line, _, rest = bytes(self._unread).partition(b"\n")
        self._unread = bytearray(rest)
        return line

    def said(self) -> str:
        """Wait until it has ended by itself, and return all that it said.

        Raises:
            WorkerFailed: it ended badly, or does not end.

        """
        process = self._running()
        try:
            output, _ = process.communicate(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise self._failed(f"has not ended for {ANSWER_SECONDS:.0f} s") from None
        if process.returncode:
            raise self._failed(f"ended with {process.returncode}")
        return output.decode()

    def await_in_log(self, pattern: str) -> re.Match[str]:
        """Wait until its log says this.

        Raises:
            WorkerFailed: it ended, or does not say it.

        """
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            ended = self._running().poll() is not None
            found = re.search(pattern, self.log.read_text(encoding="utf-8", errors="replace"))
            if found:
                return found
            if ended or time.monotonic() > deadline:
                raise self._failed("has ended" if ended else f"is not ready after {ANSWER_SECONDS:.0f} s")
            time.sleep(0.02)

    def end(self) -> None:
        """End it: ask, wait, kill. More than once is harmless."""
        process, self.process = self.process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        process.terminate()
        try:
            process.wait(self.seconds_to_end)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def tail(self, lines: int = 15) -> str:
        """Return the end of its log."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        return "(no log)"

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise WorkerFailed(f"{self.name} does not run")
        return self.process

    def _failed(self, why: str) -> WorkerFailed:
        return WorkerFailed(f"{self.name}: {why}. The end of its log:\n{self.tail()}")
