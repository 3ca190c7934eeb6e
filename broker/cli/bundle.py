"""What the commands that read a policy directory share: how it is read, and how they print."""

import json
from pathlib import Path
from typing import Final, NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.policy.bundle import BundleProblem, Draft, Problem, read_bundle
from broker.policy.golden import run_cases
from broker.policy.source import read_directory

WRONG: Final = 1
_PIPED_WIDTH: Final = 160

directory = click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


def read(path: Path) -> dict[str, bytes]:
    """Read a bundle's files, or end the command."""
    try:
        return read_directory(path)
    except OSError as problem:
        raise click.ClickException(f"{path}: {problem.strerror or problem}") from problem


def draft_of(path: Path, *, for_program: bool) -> tuple[Draft, bool]:
    """Return a bundle and whether its golden cases hold; end the command when it is not sound in itself.

    One whose cases fail is looked at all the same: that is when one wants to know why. Standard error says so.
    """
    try:
        draft = read_bundle(read(path))
    except BundleProblem as problem:
        stop(problem.problems, for_program=for_program)
    loads = all(result.passed for result in run_cases(draft.policy, draft.cases))
    if not loads:
        click.secho("golden cases fail: the broker would not load this; see `broker policy test`", fg="red", err=True)
    return draft, loads


def stop(problems: tuple[Problem, ...], *, for_program: bool) -> NoReturn:
    """Name everything that keeps a bundle from loading, and end the command."""
    if for_program:
        found = [{"file": p.file, "line": p.line, "sentence": p.sentence} for p in problems]
        print_json({"ok": False, "problems": found})
    else:
        _show_problems(problems)
    click.get_current_context().exit(WRONG)


def console() -> Console:
    """Return a console that does not break lines at 80 columns when nobody looks at a terminal."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(width=max(plain.width, _PIPED_WIDTH), highlight=False)


def print_json(value: dict[str, object]) -> None:
    """Print one object."""
    click.echo(json.dumps(value, ensure_ascii=True))


def _show_problems(problems: tuple[Problem, ...]) -> None:
    out = console()
    out.print(Text(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}; the broker would not load this:"))
    table = Table(show_lines=True)
    table.add_column("where", style="bold")
    table.add_column("what, and what puts it right", overflow="fold")
    for problem in problems:
        place = problem.file or "the bundle"
        # Text, not markup: what stands in a bundle is shown, never interpreted.
        table.add_row(Text(place if problem.line is None else f"{place}:{problem.line}"), Text(problem.sentence))
    out.print(table)
