"""How the story looks: numbered steps; what was asked, what was decided, what came back."""

import sys
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDEST: Final = 100
_LABEL: Final = 11


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
        self.console.print(Text(about, "dim"))

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
        grid = Table.grid(padding=(0, 2))
        grid.add_column(width=_LABEL + 4)
        grid.add_column(style="cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in rows.items():
            grid.add_row("", Text(name), Text(value))
        self.console.print(grid)
        sys.stdout.flush()

    def table(self, headings: list[str], rows: list[list[str]]) -> None:
        """Show a table, a line a row."""
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("", width=2)
        for heading in headings:
            table.add_column(heading, header_style="dim", overflow="fold")
        for row in rows:
            table.add_row("", *(Text(cell) for cell in row))
        self.console.print(table)
        sys.stdout.flush()

    def end(self, text: str) -> None:
        """Say the last word."""
        self.console.print()
        self.console.print(Text(text, "bold green"))

    def _line(self, label: str, text: str, style: str = "") -> None:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=3)
        grid.add_column(width=_LABEL, style="dim")
        grid.add_column(overflow="fold")
        grid.add_row("", label, Text(text, style))
        self.console.print(grid)
        sys.stdout.flush()
