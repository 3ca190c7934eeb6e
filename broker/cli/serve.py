"""`broker serve`: the broker itself; as issuer and door, supervised, or as one process."""

import asyncio
import sys
from pathlib import Path
from typing import Final

import click

from broker.settings import ConfigurationProblem, config_path, load
from broker.supervisor import Control, supervise

CONFIGURATION: Final = 78

_config = click.option("--config", type=click.Path(path_type=Path), help="The TOML file.  [env: BROKER_CONFIG]")
_control = click.option("--control-fd", type=int, required=True)


@click.command
@_config
@click.option("--embedded", is_flag=True, help="One process for both halves: simpler, and nothing is kept apart.")
def serve(*, config: Path | None, embedded: bool) -> None:
    """Run the broker until SIGTERM."""
    try:
        path = config_path(config)
        settings = load(path)
    except ConfigurationProblem as problem:
        click.secho(str(problem), fg="red", err=True)
        sys.exit(CONFIGURATION)
    if embedded:
        from broker.app.embedded import run_embedded  # noqa: PLC0415  # the supervisor must not import grpc

        sys.exit(asyncio.run(run_embedded(settings)))
    sys.exit(supervise(path, argv_for=lambda role: [sys.executable, "-m", "broker", f"_{role}"]))


@click.command(hidden=True)
@_config
@_control
def issuer(*, config: Path, control_fd: int) -> None:
    """Run the half with the keys and the store."""
    from broker.app.issuer import run_issuer  # noqa: PLC0415

    sys.exit(asyncio.run(run_issuer(load(config), Control(control_fd))))


@click.command(hidden=True)
@_config
@_control
def door(*, config: Path, control_fd: int) -> None:
    """Run the half that parses strangers' bytes."""
    from broker.app.door import run_door  # noqa: PLC0415

    sys.exit(asyncio.run(run_door(load(config), Control(control_fd))))
