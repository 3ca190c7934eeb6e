"""`broker keys`: which keys sign, and how one follows another."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.cli.connection import options, run
from broker.client import Key, Rotation, Session
from broker.visible import visible

_PIPED_WIDTH: Final = 160
_STATES: Final = {"current": "green", "next": "cyan", "retired": "dim"}
_USES: Final = ("tokens", "checkpoints")

_TOKENS_GONE: Final = """\
every service that follows the broker refuses what it signed as soon as it hears of it, any other by its bound of
staleness; agents have to ask for their credentials again"""
_CHECKPOINTS_GONE: Final = """\
checkpoints that it signs from now on count no more; give auditors who hold it the verifier key of the one that signs
(`broker keys list --json`), by a way that the thief does not have"""
_EMERGENCY: Final = """\
The key {kid} will count no more, at once and for ever.
If it signs tokens, every credential that it signed is refused, at every service, until its agent asks again.
If it signs checkpoints, none that it signs from then on counts."""


@click.group
def keys() -> None:
    """List the keys that sign tokens and checkpoints, and rotate them."""


@keys.command("list")
@options
@click.option("--json", "as_json", is_flag=True, help="For programs: an object a key, a line each.")
def list_keys(*, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, as_json: bool) -> None:
    """Show the keys that were not removed: which signs, which is next, which are still known for what they signed."""

    async def work(session: Session) -> list[Key]:
        return await session.list_keys()

    found = run(address, broker_id, socket, spiffe_id, work)
    if as_json:
        for key in found:
            click.echo(json.dumps(_members(asdict(key))))
        return
    table = Table()
    table.add_column("signs")
    table.add_column("key", no_wrap=True)
    table.add_column("is")
    table.add_column("when", overflow="fold")
    for key in found:
        table.add_row(key.use, key.kid, Text(key.state, _STATES.get(key.state, "")), _when(key))
    console = Console(highlight=False)
    wide = console if console.is_terminal else Console(width=max(console.width, _PIPED_WIDTH), highlight=False)
    wide.print(table)


@keys.command
@options
@click.option("--use", type=click.Choice(_USES), help="What the keys sign.  [default: tokens]")
@click.option("--emergency", metavar="KID", help="Let this key count no more, at once and for ever; it was stolen.")
@click.option("--reason", default="", help="Why, for the audit log; required in an emergency.")
@click.option("--request-id", default="", help="Your own id: asked again with it, nothing more is done.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal before an emergency.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def rotate(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, use: str | None,
    emergency: str | None, reason: str, request_id: str, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Let the next key follow the one that signs; or, in an emergency, take one key away at once.

    A key that follows was published long enough for every service to know it, so nothing is refused; before that, this
    is refused with the time from which on it can be. An emergency does not wait.

    Exit status: 0 done, and durable; 1 refused; 2 wrong usage; 69 the broker cannot be reached: ask again.
    """
    if emergency is not None:
        _check_emergency(emergency, use, reason, yes=yes)

    async def work(session: Session) -> Rotation:
        if emergency is not None:
            return await session.remove_key(emergency, reason=reason, request_id=request_id)
        return await session.rotate_keys(use or _USES[0], reason=reason, request_id=request_id)

    changed = run(address, broker_id, socket, spiffe_id, work)
    if as_json:
        click.echo(json.dumps(_members(asdict(changed))))
    else:
        _show(changed, emergency=emergency is not None)


def _check_emergency(kid: str, use: str | None, reason: str, *, yes: bool) -> None:
    if use is not None:
        raise click.UsageError("--emergency names one key; leave --use away.")
    if not reason.strip():
        raise click.UsageError("--emergency needs a --reason, for the audit log.")
    if not yes and sys.stdin.isatty():
        click.echo(_EMERGENCY.format(kid=visible(kid)), err=True)
        click.confirm("This cannot be taken back. Go on?", abort=True, err=True)


def _show(changed: Rotation, *, emergency: bool) -> None:
    gone = _TOKENS_GONE if changed.use == "tokens" else _CHECKPOINTS_GONE
    kept = "it stays known until all that it signed is over" if changed.use == "tokens" else "what it signed stays true"
    at = _time(changed.at)
    click.echo(f"{click.style(changed.kid, fg='green')} signs {changed.use}, since {at}")
    if emergency:
        click.echo(f"{click.style(changed.replaced, fg='red')} counts no more, since {at}:\n{gone}")
    else:
        click.echo(f"{click.style(changed.replaced, dim=True)} signs no more; {kept}")
    click.echo(f"{click.style(changed.following, fg='cyan')} is next, and may sign from {_time(changed.signs_from)} on")
    click.echo(f"recorded at position {changed.position}")


def _when(key: Key) -> str:
    match key.state:
        case "current":
            return f"since {_time(key.activated_at)}, by itself until {_time(key.signs_until)}"
        case "next":
            return f"published since {_time(key.published_at)}, may sign from {_time(key.signs_from)} on"
        case "retired" if key.published_until is not None:
            return f"signed until {_time(key.retired_at)}, known until {_time(key.published_until)}"
        case "retired":
            return f"signed until {_time(key.retired_at)}; what it signed stays true"
        case _:
            return ""


def _members(found: dict[str, object]) -> dict[str, object]:
    """Return what a program reads: times as text, and nothing that does not apply."""
    shown = {name: _time(value) if isinstance(value, datetime) else value for name, value in found.items()}
    return {name: value for name, value in shown.items() if value not in (None, "")}


def _time(at: datetime | None) -> str:
    return "an unknown time" if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
