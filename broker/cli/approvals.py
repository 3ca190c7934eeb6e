"""`broker approvals`, `broker approve` and `broker deny`: what waits for a person, and what the person says."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.cli.approval_shown import lasting, lines, members, row
from broker.cli.connection import REFUSED, fail, options, run
from broker.cli.duration import Duration
from broker.client import Approval, Session
from broker.visible import shortened

Command = TypeVar("Command", bound=Callable[..., Any])

_PIPED_WIDTH: Final = 200
_USAGE: Final = 2
_MAX_TOKEN: Final = 12 * 1024
_STATES: Final = ("pending", "approved", "denied", "expired", "withdrawn", "used")
_COLUMNS: Final = ("approval", "age", "agent", "action", "resource", "parameters", "needs", "left")
_LOUD: Final = frozenset({"action", "resource", "parameter", "digest"})


class _IdentityToken(click.ParamType[str]):
    """A file that holds one identity token, or - for standard input."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Return the token; it is never shown, also not when it cannot be one."""
        try:
            text = sys.stdin.read(_MAX_TOKEN + 1) if value == "-" else _read(Path(str(value)))
        except (OSError, UnicodeDecodeError) as problem:
            self.fail(f"{value} cannot be read: {getattr(problem, 'strerror', None) or 'not text'}", param, ctx)
        token = text.strip()
        if not token or len(token) > _MAX_TOKEN or not token.isascii() or any(c.isspace() for c in token):
            self.fail(f"{value} holds no identity token: one ID token (JWT), and nothing else", param, ctx)
        return token


def _read(path: Path) -> str:
    with path.open(encoding="ascii") as file:
        return file.read(_MAX_TOKEN + 1)


def _person(command: Command) -> Command:
    """Add the option that says which person decides."""
    return click.option(
        "--identity-token-file",
        "identity_token",
        type=_IdentityToken(),
        metavar="FILE",
        help="The ID token of the person who decides, - for standard input; without it the operator of this SVID does.",
    )(command)


_json = click.option("--json", "as_json", is_flag=True, help="For programs: an object an approval, a line each.")


@click.command
@options
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="In this state; repeatable.")
@click.option("-f", "--follow", is_flag=True, help="Stay, and show what changes.")
@_person
@_json
def approvals(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, states: tuple[str, ...],
    follow: bool, identity_token: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show what waits for you: the oldest first; of an agent, what it has asked for itself."""
    if follow:
        if states:
            raise click.UsageError("--follow shows every state; leave --state out.")
        run(address, broker_id, socket, spiffe_id, lambda session: _follow(session, identity_token, as_json=as_json))
        return

    async def work(session: Session) -> list[Approval]:
        listed = await session.approvals(states=states, identity_token=identity_token or "")
        return [
            each if each.details else await session.approval(each.id, identity_token=identity_token or "")
            for each in listed
        ]

    found = run(address, broker_id, socket, spiffe_id, work)
    if as_json:
        for each in found:
            click.echo(json.dumps(members(each)))
    elif found:
        _table(found)
    else:
        click.echo("nothing waits for you")


async def _follow(session: Session, identity_token: str | None, *, as_json: bool) -> None:
    async for changed in session.follow_approvals(identity_token=identity_token or ""):
        each = (
            await session.approval(changed.id, identity_token=identity_token or "") if not changed.details else changed
        )
        if as_json:
            click.echo(json.dumps(members(each)))
            continue
        identifier, _, *rest, left = row(each, datetime.now(UTC))
        until = f"{left} left" if each.state == "pending" else ""
        click.echo("  ".join(part for part in (f"{each.state:9}", identifier, *rest, until) if part))


def _table(found: list[Approval]) -> None:
    table = Table()
    for column in _COLUMNS:
        table.add_column(column, overflow="fold", no_wrap=column in {"approval", "age", "left"})
    now = datetime.now(UTC)
    for each in found:
        cells = row(each, now)
        table.add_row(
            *(Text(cell, "yellow" if column == "action" else "") for column, cell in zip(_COLUMNS, cells, strict=True))
        )
    console = Console(highlight=False)
    wide = console if console.is_terminal else Console(width=max(console.width, _PIPED_WIDTH), highlight=False)
    wide.print(table)
    click.echo("  → broker approve APPROVAL shows all of one, and asks", err=True)


@click.command
@options
@click.argument("approval")
@click.option(
    "--bypass", type=Duration(), help="Let this agent do this kind, in its task, so long without asking; 30m."
)
@click.option("--digest", default="", help="Approve only what has this digest, as `broker approvals --json` shows it.")
@click.option("--yes", is_flag=True, help="Do not ask; for programs, which name the digest of what was looked at.")
@_person
@_json
def approve(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, approval: str,
    bypass: timedelta | None, digest: str, yes: bool, identity_token: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show all of a held request (appr_...), and say yes to it. It may then be used once."""
    if yes and not digest:
        raise click.UsageError("--yes needs --digest: whoever does not look names what was looked at.")
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on; give --digest and --yes.")

    async def work(session: Session) -> Approval | None:
        shown = await session.approval(approval, identity_token=identity_token or "")
        details = shown.details
        if details is None:
            fail(f"{shown.id} is not for you to decide", "`broker approvals` lists those that are.", REFUSED)
        if not yes:
            _show(shown)
        if digest and digest != details.digest:
            fail("this is not what that digest is of; nothing was approved",
                 f"Look at it again: its digest is {details.digest}.", REFUSED)  # fmt: skip
        if not yes and not click.confirm(_question(bypass), default=False, err=True):
            return None
        return await session.approve(
            shown.id, digest=details.digest, bypass=bypass, identity_token=identity_token or ""
        )

    done = run(address, broker_id, socket, spiffe_id, work)
    if done is None:
        fail("nothing was approved", "", REFUSED)
    _say(done, as_json=as_json)


def _question(bypass: timedelta | None) -> str:
    unasked = f", and let this kind pass unasked for {lasting(bypass)}" if bypass else ""
    return f"Approve this{unasked}?"


@click.command
@options
@click.argument("approval")
@click.option("--reason", required=True, help="Why: for the audit log, and for the agent, which may tell its user.")
@_person
@_json
def deny(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, approval: str, reason: str,
    identity_token: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Say no to a held request (appr_...), or take back a yes that was not used; one no decides."""

    async def work(session: Session) -> Approval:
        return await session.deny(approval, reason=reason, identity_token=identity_token or "")

    _say(run(address, broker_id, socket, spiffe_id, work), as_json=as_json)


def _show(approval: Approval) -> None:
    found = list(lines(approval, datetime.now(UTC)))
    width = max(len(name) for name, _ in found)
    for name, text in found:
        said = click.style(text, bold=True) if name in _LOUD else text
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {said}", err=True)


def _say(done: Approval, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(members(done)))
        return
    colour = {"approved": "green", "denied": "red"}.get(done.state, "yellow")
    click.echo(f"{click.style(done.state, fg=colour)}  {done.id}")
    if done.state == "pending":
        missing = "; ".join(cell for cell in (row(done, datetime.now(UTC))[6],) if cell)
        click.echo(f"  → more have to say yes: {shortened(missing, 200)}", err=True)
