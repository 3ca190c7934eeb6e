"""Progress of long steps: one rewriting line on a terminal, a few plain lines in a log.

Everything goes to standard error, so that a command's answer stays alone on standard output.
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

_BAR_WIDTH = 24
_REDRAW_SECONDS = 0.2
_FINE_SECONDS = 10  # below it, tenths are of interest
_COLOURS = {"cyan": "36", "green": "32", "red": "31"}


def say(text: str, *, stream: TextIO | None = None) -> None:
    """Tell the user one thing, at once."""
    print(text, file=stream or sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as people write them: ``0.4 s``, ``12 s``, ``4 min 05 s``."""
    if seconds < _FINE_SECONDS:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@dataclass(kw_only=True)
class Step:
    """One long step. ``update`` is cheap: draw as often as there is news."""

    title: str
    stream: TextIO
    seconds_between_lines: float = 10.0
    _begun: float = field(default_factory=time.monotonic)
    _done: int = 0
    _total: int = 0
    _note: str = ""
    _over: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread = field(default_factory=threading.Thread)

    def update(self, done: int, total: int = 0, note: str = "") -> None:
        """Say how far the step has come; without a total only the count and the note are shown."""
        self._done, self._total, self._note = done, total, note

    def begin(self) -> None:
        """Show the title, and from now on the time that passes."""
        if not self._on_terminal:
            self._write(f"{self.title} ...\n")
        self._watcher = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._watcher.start()

    def finish(self, how: str, colour: str) -> None:
        """Say how it ended and how long it took."""
        self._over.set()
        self._watcher.join()
        clear = "\r\x1b[K" if self._on_terminal else ""
        took = duration(time.monotonic() - self._begun)
        self._write(f"{clear}{self.title}: {self._colour(how, colour)} {took}\n")

    @property
    def _on_terminal(self) -> bool:
        return not self.stream.closed and self.stream.isatty() and os.environ.get("TERM") != "dumb"

    def _colour(self, text: str, name: str) -> str:
        if not self._on_terminal or os.environ.get("NO_COLOR"):
            return text
        return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m"

    def _write(self, line: str) -> None:
        """Write one line; a reader who has gone away does not end the work."""
        try:
            self.stream.write(line)
            self.stream.flush()
        except (OSError, ValueError):
            self._over.set()

    def _state(self) -> str:
        parts = [duration(time.monotonic() - self._begun)]
        if self._total:
            parts.append(f"{self._done}/{self._total} ({100 * self._done // self._total} %)")
        elif self._done:
            parts.append(str(self._done))
        return "  ".join([*parts, self._note] if self._note else parts)

    def _bar(self) -> str:
        if not self._total:
            return ""
        filled = _BAR_WIDTH * min(self._done, self._total) // self._total
        return "#" * filled + "-" * (_BAR_WIDTH - filled) + "  "

    def _redraw(self) -> None:
        room = shutil.get_terminal_size().columns - 1
        title, rest = f"{self.title}  ", f"{self._bar()}{self._state()}"
        line = f"{self._colour(title[:room], 'cyan')}{rest[: max(0, room - len(title))]}"
        self._write(f"\r\x1b[K{line}")

    def _watch(self) -> None:
        pause = _REDRAW_SECONDS if self._on_terminal else self.seconds_between_lines
        while not self._over.wait(pause):
            if self._on_terminal:
                self._redraw()
            else:
                self._write(f"{self.title}: {self._state()}\n")


@contextmanager
def step(title: str, *, stream: TextIO | None = None, seconds_between_lines: float = 10.0) -> Iterator[Step]:
    """Show that ``title`` is under way, how far it is, and how it ended.

    Whatever is raised inside passes through, after the step has been marked as failed or, for an
    interruption, as stopped.
    """
    current = Step(title=title, stream=stream or sys.stderr, seconds_between_lines=seconds_between_lines)
    current.begin()
    how, colour = "failed after", "red"
    try:
        yield current
        how, colour = "done in", "green"
    except (KeyboardInterrupt, SystemExit):
        how = "stopped after"
        raise
    finally:
        current.finish(how, colour)
