"""How the story looks: numbered steps; what was asked, what was decided, what came back."""

import re
import sys
import textwrap
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.text import Text

_WIDEST: Final = 100
_LABEL: Final = 11
_INDENT: Final = 4
_TREE: Final = re.compile(r"[ │├└─]*")  # what a tree's line begins with


class Mismatch(Exception):
    """A step did not do what it says; the text says what was expected."""


def require(holds: object, what: str) -> None:
    """Raise Mismatch unless it holds."""
    if not holds:
        raise Mismatch(what)


def _console() -> Console:
    # Rich colours terminals only, and leaves it when NO_COLOR is set.
    console = Console(file=sys.stdout, highlight=False, soft_wrap=False)
    console.width = min(console.width if console.is_terminal else _WIDEST, _WIDEST)
    return console


@dataclass(slots=True, kw_only=True)
class Narrator:
    """Tells the story on standard output."""

    console: Console = field(default_factory=_console)
    step: int = 0

    def title(self, text: str, about: str) -> None:
        """Say what is to be seen."""
        self.console.print(Text(text, "bold"))
        self._hanging("", "", about, "dim", indent=0)

    def begin(self, text: str) -> None:
        """Begin the next step."""
        self.step += 1
        line = Text.assemble((f"{self.step:>2}  ", "bold cyan"), (text, "bold"))
        self.console.print()
        self.console.print(line)
        sys.stdout.flush()

    def asked(self, text: str) -> None:
        """Say who asked whom for what."""
        self._line("asked", text)

    def decided(self, text: str, *, good: bool) -> None:
        """Say what was decided, by what."""
        self._line("decided", text, "green" if good else "red")

    def came_back(self, text: str) -> None:
        """Say what the asker got."""
        self._line("came back", text)

    def note(self, text: str) -> None:
        """Say something more about it."""
        self._line("", text, "dim")

    def members(self, rows: dict[str, str]) -> None:
        """Show names and values."""
        width = max(map(len, rows))
        for name, value in rows.items():
            self._hanging(name.ljust(width + 2), "cyan", value, "", indent=_INDENT + _LABEL)

    def table(self, headings: list[str], rows: list[list[str]]) -> None:
        """Show a table, a line a row; the last column takes what is left of the width."""
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        for number, row in enumerate([headings, *rows]):
            style = "" if number else "dim"
            *cells, last = row
            start = "".join(cell.ljust(width + 2) for cell, width in zip(cells, widths, strict=False))
            self._hanging(start, style, last, style, indent=_INDENT, hyphens=True)

    def verbatim(self, text: str) -> None:
        """Show what a command printed; what is too long for a line goes on in the next one."""
        for line in text.splitlines():
            tree = _TREE.match(line)
            below = " " * (tree.end() + _INDENT if tree else _INDENT)
            room = self.console.width - _INDENT
            for part in textwrap.wrap(line, room, subsequent_indent=below, break_on_hyphens=False) or [""]:
                self.console.print(Text(f"{' ' * _INDENT}{part}".rstrip()), soft_wrap=True)
        sys.stdout.flush()

    def end(self, text: str) -> None:
        """Say the last word."""
        self.console.print()
        self.console.print(Text(text, "bold green"))

    def _line(self, label: str, text: str, style: str = "") -> None:
        self._hanging(label.ljust(_LABEL), "dim", text, style, indent=_INDENT)

    def _hanging(  # two texts with their styles
        self, label: str, label_style: str, text: str, style: str, *, indent: int, hyphens: bool = False
    ) -> None:
        """Write a label and, beside it, text that starts at the same column in every line."""
        room = max(20, self.console.width - indent - len(label))
        for number, part in enumerate(textwrap.wrap(text, room, break_on_hyphens=hyphens) or [""]):
            shown = label if number == 0 else " " * len(label)
            line = Text.assemble(" " * indent, (shown, label_style), (part, style))
            line.rstrip()
            self.console.print(line, soft_wrap=True)
        sys.stdout.flush()
