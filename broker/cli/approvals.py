"""`broker approvals`, `broker approve` and `broker deny`: what waits for a person, and what the person says."""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.cli.approval_shown import Line, lasting, lines, members, row
from broker.cli.connection import REFUSED, fail, options, run
from broker.cli.drifted_shown import drifted_lines, drifted_members, drifted_row
from broker.cli.duration import Duration
from broker.cli.person import person
from broker.client import Approval, DriftedTask, Session
from broker.visible import shortened

_PIPED_WIDTH: Final = 200
_USAGE: Final = 2
_STATES: Final = ("pending", "approved", "denied", "expired", "withdrawn", "used")
_COLUMNS: Final = ("approval", "age", "agent", "action", "resource", "parameters", "needs", "left")
_LOUD: Final = frozenset({"action", "resource", "parameter", "digest"})
_LOUD_DRIFTED: Final = frozenset({"drifted", "now", "refused"})


_NOT_YOURS: Final = (
    "`broker approvals` lists those that are; a tool or a front end names the person: --identity-token-file."
)

_json = click.option("--json", "as_json", is_flag=True, help="For programs: an object each, on a line of its own.")


@click.command
@options
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="In this state; repeatable.")
@click.option("-f", "--follow", is_flag=True, help="Stay, and show what changes.")
@person
@_json
def approvals(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, states: tuple[str, ...],
    follow: bool, identity_token: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show what waits for you, the oldest first: held requests, and tasks that drifted; of an agent, what it asked for.

    A task that drifted was refused too often what lies outside it. It is shown to the group that its type names, and to
    operators who may resume it, with what can be done.
    """
    if follow:
        if states:
            raise click.UsageError("--follow shows every state; leave --state out.")
        run(address, broker_id, socket, spiffe_id, lambda session: _follow(session, identity_token, as_json=as_json))
        return

    async def work(session: Session) -> tuple[list[Approval], list[DriftedTask]]:
        listed = await session.approvals(states=states, identity_token=identity_token)
        found = [
            each if each.details else await session.approval(each.id, identity_token=identity_token) for each in listed
        ]
        return found, [] if states else await session.drifted_tasks(identity_token=identity_token)

    found, drifted = run(address, broker_id, socket, spiffe_id, work)
    if as_json:
        for line in (*map(members, found), *map(drifted_members, drifted)):
            click.echo(json.dumps(line))
        return
    if found:
        _table(found)
    for each in drifted:
        click.echo()
        _show(drifted_lines(each, datetime.now(UTC)), loud=_LOUD_DRIFTED, err=False)
    if not found and not drifted:
        _say_nothing(states)


def _say_nothing(states: tuple[str, ...]) -> None:
    click.echo(f"nothing of yours is {' or '.join(states)}" if states else "nothing waits for you")
    click.echo(
        "  → listed is what this SVID, or the person of --identity-token-file, may answer or has asked for", err=True
    )
    click.echo(
        "  → is one missing? At the broker, `broker doctor` names groups that may not answer (`groups`)", err=True
    )


async def _follow(session: Session, identity_token: str | None, *, as_json: bool) -> None:
    async for changed in session.follow_approvals(identity_token=identity_token):
        if isinstance(changed, DriftedTask):
            _say_drifted(changed, as_json=as_json)
            continue
        each = await session.approval(changed.id, identity_token=identity_token) if not changed.details else changed
        if as_json:
            click.echo(json.dumps(members(each)))
            continue
        identifier, _, *rest, left = row(each, datetime.now(UTC))
        until = f"{left} left" if each.state == "pending" else ""
        click.echo("  ".join(part for part in (f"{each.state:9}", identifier, *rest, until) if part))


def _say_drifted(drifted: DriftedTask, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(drifted_members(drifted)))
        return
    click.echo("  ".join(("drifted  ", *drifted_row(drifted))))


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
    if any(each.details for each in found):
        click.echo("  → broker approve APPROVAL shows all of one, and asks", err=True)
    else:
        click.echo("  → none of these is for you to answer; `needs` says whose word each waits for", err=True)


@click.command
@options
@click.argument("approval")
@click.option(
    "--bypass", type=Duration(), help="Let this agent do this kind, in its task, so long without asking; 30m."
)
@click.option("--digest", default="", help="Approve only what has this digest, as `broker approvals --json` shows it.")
@click.option("--yes", is_flag=True, help="Do not ask; for programs, which name the digest of what was looked at.")
@person
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
        shown = await session.approval(approval, identity_token=identity_token)
        details = shown.details
        if details is None:
            fail(f"{shown.id} is not for you to decide", _NOT_YOURS, REFUSED)
        if not yes:
            _show(lines(shown, datetime.now(UTC)), loud=_LOUD, err=True)
        if digest and digest != details.digest:
            fail("this is not what that digest is of; nothing was approved",
                 f"Look at it again: its digest is {details.digest}.", REFUSED)  # fmt: skip
        if not yes and not click.confirm(_question(bypass), default=False, err=True):
            return None
        return await session.approve(shown.id, digest=details.digest, bypass=bypass, identity_token=identity_token)

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
@person
@_json
def deny(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, approval: str, reason: str,
    identity_token: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Say no to a held request (appr_...), or take back a yes that was not used; one no decides."""

    async def work(session: Session) -> Approval:
        return await session.deny(approval, reason=reason, identity_token=identity_token)

    _say(run(address, broker_id, socket, spiffe_id, work), as_json=as_json)


def _show(yielded: Iterable[Line], *, loud: frozenset[str], err: bool) -> None:
    found = list(yielded)
    width = max(len(name) for name, _ in found)
    for name, text in found:
        said = click.style(text, bold=True) if name in loud else text
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {said}", err=err)


def _say(done: Approval, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(members(done)))
        return
    colour = {"approved": "green", "denied": "red"}.get(done.state, "yellow")
    click.echo(f"{click.style(done.state, fg=colour)}  {done.id}")
    if done.state == "pending":
        missing = "; ".join(cell for cell in (row(done, datetime.now(UTC))[6],) if cell)
        click.echo(f"  → more have to say yes: {shortened(missing, 200)}", err=True)
