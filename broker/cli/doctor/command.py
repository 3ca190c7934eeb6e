"""The command: runs the checks and shows them."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.cli.doctor import (
    configured,
    customers,
    groups,
    identity,
    keys,
    persons,
    places,
    policy,
    serving,
    store,
    users,
)
from broker.cli.doctor.finding import Finding, Level, problem, run_checks
from broker.cli.doctor.setup import Setup
from broker.settings import ConfigurationProblem, config_path, load
from broker.visible import visible

PROBLEMS: Final = 1
UNUSABLE: Final = 78
CHECKS: Final = (
    *configured.CHECKS,
    *users.CHECKS,
    *places.CHECKS,
    *store.CHECKS,
    *keys.CHECKS,
    *policy.CHECKS,
    *persons.CHECKS,
    *customers.CHECKS,
    *groups.CHECKS,
    *identity.CHECKS,
    *serving.CHECKS,
)
_PIPED_WIDTH: Final = 160
_SIGNS: Final = {
    Level.OK: ("ok", "green"),
    Level.WARNING: ("warning", "yellow"),
    Level.PROBLEM: ("PROBLEM", "bold red"),
    Level.ACCEPTED: ("accepted", "dim"),
    Level.NOT_RUN: ("not run", "dim"),
}


@click.command
@click.option("--config", type=click.Path(path_type=Path), help="The TOML file.  [env: BROKER_CONFIG]")
@click.option(
    "--accept",
    multiple=True,
    metavar="CHECK",
    type=click.Choice([check.id for check in CHECKS]),
    help="A finding that is known and meant so: shown, and not counted. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object a check, a line each.")
def doctor(*, config: Path | None, accept: tuple[str, ...], as_json: bool) -> None:
    """Check a set-up from the configuration up to the running broker, and say how to put right what is wrong.

    Run it as the user who runs the broker, before the first start and whenever something is odd. It changes nothing.

    Exit status: 0 no problem, warnings perhaps; 1 a problem; 78 the configuration cannot be used.
    """
    found: list[tuple[str, Finding]] = []
    status = 0
    for name, finding in _findings(config, frozenset(accept)):
        found.append((name, finding))
        if as_json:
            click.echo(json.dumps({"check": name} | asdict(finding) | {"level": finding.level.value}))
        if finding.level is Level.PROBLEM:
            status = UNUSABLE if name == "config" else status or PROBLEMS
    if not as_json:
        _show(found)
    sys.exit(status)


def _findings(config: Path | None, accepted: frozenset[str]) -> Iterator[tuple[str, Finding]]:
    try:
        path = config_path(config)
        setup = Setup(
            config=path,
            settings=load(path),
            socket=os.environ.get("SPIFFE_ENDPOINT_SOCKET", ""),
            uid=os.geteuid(),
            clock=lambda: datetime.now(UTC),
        )
    except ConfigurationProblem as failure:
        yield "config", _unusable(str(failure))
        return
    yield from run_checks(CHECKS, setup, accepted=accepted)


def _unusable(said: str) -> Finding:
    if "no such file" in said:
        fix = "broker init DIR writes a configuration that loads; name it with --config."
    elif "environment:" in said:
        fix = "Unset the variable, or correct its name: BROKER_<SECTION>__<KEY>."
    else:
        fix = "Correct the keys named here; `broker init DIR` writes a commented configuration to compare with."
    return problem(said, why="Without a configuration nothing starts, and nothing else can be checked.", fix=fix)


def _show(found: list[tuple[str, Finding]]) -> None:
    """Print a table; what stands in files and answers is shown as text, never interpreted."""
    table = Table(show_lines=False, box=None, pad_edge=False)
    table.add_column("")
    table.add_column("check", style="bold")
    table.add_column("what is the case, why it matters, → what puts it right", overflow="fold")
    for name, finding in found:
        sign, style = _SIGNS[finding.level]
        said = Text(_printable(finding.what))
        if finding.why:
            said.append(f"\n{_printable(finding.why)}", "dim")
        if finding.fix:
            said.append(f"\n→ {_printable(finding.fix)}", "" if finding.level is Level.ACCEPTED else "cyan")
        table.add_row(Text(sign, style), Text(name), said)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, _PIPED_WIDTH))
    console.print(table)
    counts = {level: sum(finding.level is level for _, finding in found) for level in Level}
    summary = ", ".join(f"{count} {level.value}" for level, count in counts.items() if count)
    console.print(Text(summary, "bold red" if counts[Level.PROBLEM] else "bold green"))


def _printable(text: str) -> str:
    return "\n".join(map(visible, text.split("\n")))
