"""The table: figures as people read them."""

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.bench.figure import Figure

WIDTH = 120


def show(found: Sequence[Figure], machine: str, *, to: TextIO | None = None) -> None:
    """Print the figures; colour on a terminal only."""
    console = Console(file=to or sys.stdout)
    if not console.is_terminal:
        console = Console(file=to or sys.stdout, width=int(os.environ.get("COLUMNS", WIDTH)))
    table = Table(expand=True)
    table.add_column("what is compared", ratio=5)
    table.add_column("here", justify="right", min_width=13)
    table.add_column("goal", min_width=14)
    table.add_column("limit in this run", ratio=5)
    for figure in found:
        table.add_row(
            figure.says, Text.assemble((_number(figure.middle, figure.unit), "bold"), "\n", (_spread(figure), "dim")),
            _goal(figure), figure.limit,
        )  # fmt: skip
    console.print(Text(machine, "dim"))
    console.print(table)
    judged = [figure for figure in found if figure.met is not None]
    missed = sum(not figure.met for figure in judged)
    console.print(f"{len(judged)} goals: {len(judged) - missed} met, {missed} missed", highlight=False)


def _number(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{'' if unit == 'x' else ' '}{unit}"


def _spread(figure: Figure) -> str:
    low, high = (_number(each(figure.values), "x").removesuffix("x") for each in (min, max))
    return f"{low} to {high}"


def _goal(figure: Figure) -> Text:
    if figure.goal is None:
        return Text("none")
    bound = f"{figure.goal.better} {figure.goal.bound:g}"
    state = ("met", "green") if figure.met else ("missed", "red")
    return Text.assemble(f"{figure.goal.number}: {bound}\n", state)
