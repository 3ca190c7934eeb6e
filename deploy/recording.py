"""A recording of the demonstration as a picture: `make recording` runs it and writes docs/images/demo.svg.

The picture plays what was said, in its order and rhythm, and ends on all of it; it is text and styles, without scripts
and without anything from outside. What differs from run to run and means nothing (ids, digests, ports, process ids, the
clock) is replaced by a stand-in of the same form, always the same one for the same place, so that two recordings differ
where the demonstration does. Measured times stay, in whole units.
"""

import argparse
import base64
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from rich.console import Console
from rich.style import Style
from rich.text import Text

if __package__ in {None, ""}:  # run as a file: the repository's root is where imports begin
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from deploy.progress import say
from deploy.spire.interrupts import Interrupted, Interrupts

ROOT: Final = Path(__file__).resolve().parents[1]
COLUMNS: Final = 100  # what the demonstration is written for
LONGEST_PAUSE: Final = 2.0  # seconds; what a busy machine adds is not part of the story
NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
_CELL: Final = 8.4
_LINE: Final = 19
_EDGE: Final = 20
_RUN: Final = re.compile(r"\S+(?: \S+)*")
_HANGING: Final = re.compile(r"\s{12}|\s*$")  # a line that belongs to the one above it
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_DIGEST: Final = re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])")
_PORT: Final = re.compile(r"(?<=on port )\d+|(?<=127\.0\.0\.1:)\d+")
_PROCESS: Final = re.compile(r"(?<=is process )\d+")
_MOMENT: Final = re.compile(r"(?<!\d)(\d{10})  \(\d\d:\d\d:\d\d UTC\)")
_CLOCK: Final = re.compile(r"(?<![\d(:])(\d{4}-\d\d-\d\dT)?(\d\d):(\d\d):(\d\d)(?![\d:.])")
_DURATION: Final = re.compile(r"\d+\.\d+(?= m?s\b)")
_COLOURS: Final = {1: "red", 2: "green", 6: "cyan"}
_STYLE: Final = """\
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;fill:#e6edf3}
.bold{font-weight:700}.dim{fill:#9da7b3}.cyan{fill:#56d4dd}.green{fill:#56d364}.red{fill:#ff8178}
@keyframes appear{from{visibility:hidden}}
@media (prefers-reduced-motion:no-preference){g{animation:appear .1s backwards}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that was said: when, in seconds from the first one, and its parts as (classes, text)."""

    at: float
    parts: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The line without its styles."""
        return "".join(text for _, text in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIns:
    """Stand-ins for what means nothing: the first id of every recording is the same one, and so is the second."""

    begun: int  # the first moment that is told, in seconds since 1970
    known: dict[str, dict[str, int]] = field(default_factory=dict)

    def of(self, text: str) -> str:
        """Return the text with stand-ins."""
        text = _MOMENT.sub(lambda found: self._moment(int(found[1])), text)
        text = _CLOCK.sub(self._clock, text)
        text = _UUID.sub(self._numbered("id", _uuid), text)
        text = _DIGEST.sub(self._numbered("digest", _digest), text)
        text = _PORT.sub(self._numbered("port", lambda number: str(10_000 + number)), text)
        text = _PROCESS.sub(self._numbered("process", lambda number: str(100 + number)), text)
        return _DURATION.sub(lambda found: str(max(1, round(float(found[0])))), text)

    def _numbered(self, kind: str, form: Callable[[int], str]) -> Callable[[re.Match[str]], str]:
        seen = self.known.setdefault(kind, {})
        return lambda found: form(seen.setdefault(found[0], len(seen) + 1))

    def _clock(self, found: re.Match[str]) -> str:
        begun = datetime.fromtimestamp(self.begun, UTC)
        hours, minutes, seconds = (int(part) for part in found.groups()[1:])
        day = datetime.fromisoformat(f"{found[1] or begun.date().isoformat() + 'T'}00:00:00+00:00")
        told = NOON + (day + timedelta(hours=hours, minutes=minutes, seconds=seconds) - begun)
        return f"{told:%Y-%m-%dT%H:%M:%S}" if found[1] else f"{told:%H:%M:%S}"

    def _moment(self, seconds: int) -> str:
        told = NOON + timedelta(seconds=seconds - self.begun)
        return f"{told.timestamp():.0f}  ({told:%H:%M:%S} UTC)"


def _uuid(number: int) -> str:
    text = hashlib.sha256(f"id {number}".encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-7{text[13:16]}-8{text[17:20]}-{text[20:32]}"


def _digest(number: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(f"digest {number}".encode()).digest()).decode().rstrip("=")


def read(said: Sequence[tuple[float, str]]) -> list[Line]:
    """Bring what a terminal was sent, each line with its time, into lines with stand-ins."""
    console = Console(width=COLUMNS)
    texts = [(at, Text.from_ansi(line, end="")) for at, line in said]
    moments = [int(found[1]) for _, text in texts for found in _MOMENT.finditer(text.plain)]
    stand_ins = StandIns(begun=min(moments, default=0))
    return [
        Line(
            at=at,
            parts=tuple((_classes(part.style), stand_ins.of(part.text)) for part in text.render(console) if part.text),
        )
        for at, text in texts
    ]


def _classes(style: Style | None) -> str:
    if style is None:
        return ""
    names = [name for name, on in (("bold", style.bold), ("dim", style.dim)) if on]
    if style.color is not None and style.color.number in _COLOURS:
        names.append(_COLOURS[style.color.number])
    return " ".join(names)


def picture(lines: Sequence[Line]) -> str:
    """Return the SVG text of a recording."""
    width, height = round(COLUMNS * _CELL + 2 * _EDGE), len(lines) * _LINE + 2 * _EDGE
    beats = list(_beats(lines))
    delays = "".join(f"#b{n}{{animation-delay:{at:g}s}}\n" for n, (at, _) in enumerate(beats) if at)
    groups = "".join(
        f'<g id="b{n}">\n' + "".join(_drawn(row, line) for row, line in rows) + "</g>\n"
        for n, (_, rows) in enumerate(beats)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="title about">\n'
        '<title id="title">A recording of make demo</title>\n'
        '<desc id="about">What the demonstration says on a terminal, step by step. Ids, digests, ports, process ids '
        "and the clock are stand-ins.</desc>\n"
        f"<style>\n{_STYLE}{delays}</style>\n"
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="9" fill="#0d1117" stroke="#59636e"/>\n'
        f"{groups}</svg>\n"
    )


def _beats(lines: Sequence[Line]) -> Iterator[tuple[float, list[tuple[int, Line]]]]:
    """Put each line with what hangs from it, and say when it appears, in half seconds."""
    told = heard = 0.0
    beat: list[tuple[int, Line]] = []
    for row, line in enumerate(lines):
        if beat and not _HANGING.match(line.text):
            yield round(2 * told) / 2, beat
            beat = []
        told += min(line.at - heard, LONGEST_PAUSE)
        heard = line.at
        beat.append((row, line))
    yield round(2 * told) / 2, beat


def _drawn(row: int, line: Line) -> str:
    """Return a line's words, run by run, each run in its own column whatever the font: blanks in a row collapse."""
    column, texts = 0, []
    for classes, text in line.parts:
        named = f' class="{classes}"' if classes else ""
        for run in _RUN.finditer(text):
            x, y = _EDGE + (column + run.start()) * _CELL, _EDGE + row * _LINE + 14
            width = len(run[0]) * _CELL
            texts.append(f'<text x="{x:g}" y="{y}" textLength="{width:g}"{named}>{escape(run[0])}</text>\n')
        column += len(text)
    return "".join(texts)


def record(command: Sequence[str]) -> list[tuple[float, str]]:
    """Run a command as on a terminal; return each line that it says and when, in seconds from the first one.

    Raises:
        subprocess.CalledProcessError: it failed; `output` is what it said.

    """
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(COLUMNS), "PYTHONPATH": str(ROOT)}
    environment.pop("NO_COLOR", None)
    said: list[tuple[float, str]] = []
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101  it is a pipe
        try:
            said.extend((time.monotonic(), line.rstrip("\n")) for line in process.stdout)
        except BaseException:
            process.terminate()  # it clears away what it began; leaving the block waits for that
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command), "\n".join(line for _, line in said))
    begun = said[0][0] if said else 0.0
    return [(at - begun, line) for at, line in said]


def main() -> int:
    """Record, draw, and say where it is."""
    parser = argparse.ArgumentParser(description="Record the demonstration as a picture.")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "demo.svg")
    output: Path = parser.parse_args().output
    try:
        with Interrupts():
            drawn = picture(read(record([sys.executable, "examples/support-desk/demo.py"])))
    except subprocess.CalledProcessError as problem:
        say(f"{problem.output}\nerror: the demonstration failed, so {output} is as it was")
        return 1
    except (KeyboardInterrupt, Interrupted) as interruption:
        return 128 + getattr(interruption, "number", 2)
    output.write_text(drawn, encoding="utf-8")
    say(f"{output}: {len(drawn.encode()) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
