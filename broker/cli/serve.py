"""`broker serve`: the broker itself; as issuer and door, supervised, or as one process."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import click

from broker.settings import ConfigurationProblem, Settings, config_path, load
from broker.supervisor import Control, UserProblem, Users, find_users, supervise
from broker.supervisor.reach import stands_in_the_way

CONFIGURATION: Final = 78

# Whether it can be read is for `load` to say, in its own words and with its own status.
_config = click.option(
    "--config", type=click.Path(path_type=Path, readable=False), help="The TOML file.  [env: BROKER_CONFIG]"
)
_control = click.option("--control-fd", type=int, required=True)


@click.command
@_config
@click.option("--embedded", is_flag=True, help="One process for both halves: simpler, and nothing is kept apart.")
def serve(*, config: Path | None, embedded: bool) -> None:
    """Run the broker until SIGTERM."""
    try:
        path = config_path(config)
        settings = load(path)
        users = _users(settings, path, embedded=embedded)
    except (ConfigurationProblem, UserProblem) as problem:
        click.secho(str(problem), fg="red", err=True)
        sys.exit(CONFIGURATION)
    if embedded:
        from broker.app.embedded import run_embedded  # noqa: PLC0415  # the supervisor must not import grpc

        sys.exit(asyncio.run(run_embedded(settings)))
    # -P: nothing that lies in the working directory is taken for the broker's code.
    argv = [sys.executable, "-P", "-m", "broker"]
    sys.exit(supervise(path, argv_for=lambda role: [*argv, f"_{role}"], users=users))


def _users(settings: Settings, path: Path, *, embedded: bool) -> Users | None:
    """Return whom the halves run as; None when they run as whoever starts them.

    Raises:
        UserProblem: they cannot.

    """
    issuer, door = settings.issuer.user, settings.door.user
    if issuer is None or door is None:
        return None
    without = f"or take [issuer] user and [door] user out of {path}"
    if embedded:
        raise UserProblem("--embedded is one process, which cannot be two users", fix=f"leave it out, {without}")
    users = find_users(issuer, door)
    if os.geteuid() != 0:
        raise UserProblem(
            f"only root can start the halves as users {issuer} and {door}", fix=f"start the broker as root, {without}"
        )
    try:
        obstacle = stands_in_the_way(settings, path, os.environ.get("SPIFFE_ENDPOINT_SOCKET", ""), users)
    except OSError as failure:
        raise UserProblem(str(failure), fix=f"give the broker CAP_SETUID and CAP_SETGID, {without}") from failure
    if obstacle:
        raise UserProblem(obstacle, fix=f"`broker doctor --config {path}` shows everything")
    return users


@click.command(hidden=True)
@_config
@_control
def issuer(*, config: Path, control_fd: int) -> None:
    """Run the half with the keys and the store."""
    from broker.app.issuer import run_issuer  # noqa: PLC0415

    control = Control(control_fd)
    sys.exit(asyncio.run(run_issuer(_loaded(config, control), control)))


@click.command(hidden=True)
@_config
@_control
def door(*, config: Path, control_fd: int) -> None:
    """Run the half that parses strangers' bytes."""
    from broker.app.door import run_door  # noqa: PLC0415

    control = Control(control_fd)
    sys.exit(asyncio.run(run_door(_loaded(config, control), control)))


def _loaded(config: Path, control: Control) -> Settings:
    """Load what the supervisor has loaded; since then it may have been changed, or closed to this half's user."""
    try:
        return load(config)
    except ConfigurationProblem as problem:
        control.report_failure(str(problem))
        sys.exit(CONFIGURATION)
