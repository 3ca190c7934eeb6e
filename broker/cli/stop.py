"""`broker stop`: stop an agent, a tenant, a kind of action or everything at once; see what is stopped; let it go on."""

import json
from dataclasses import asdict
from typing import Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.cli.connection import options, run, show
from broker.client import Ending, Override, Session
from broker.override import StopKind
from broker.visible import visible

_PIPED_WIDTH: Final = 160
_CLASSES: Final = ("read", "write", "high-impact")

_reason = click.option("--reason", required=True, help="Why: for the audit log, and for whoever decides about lifting.")
_tenant = click.option("--tenant", default="", help="Within this tenant only.")
_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group
def stop() -> None:
    """Stop an agent, a tenant, a kind of action, or everything, at once.

    It ends every live credential under it and lets no new one pass, until another operator lifts it. (It does not end
    the broker's own process.)
    """


@stop.command
@options
@click.argument("spiffe_id_of_agent", metavar="SPIFFE-ID")
@_reason
@_json
def agent(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, spiffe_id_of_agent: str, reason: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Stop one agent, in every tenant."""
    _impose((address, broker_id, socket, spiffe_id), StopKind.AGENT, spiffe_id_of_agent, reason, as_json=as_json)


@stop.command
@options
@click.argument("name")
@_reason
@_json
def tenant(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, name: str, reason: str, as_json: bool
) -> None:
    """Stop everything that is done for one tenant."""
    _impose((address, broker_id, socket, spiffe_id), StopKind.TENANT, name, reason, as_json=as_json)


@stop.command("class")
@options
@click.argument("name", type=click.Choice(_CLASSES))
@_tenant
@_reason
@_json
def action_class(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, name: str, tenant: str, reason: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Stop every action of a class. No class implies another: to stop all changes, stop write and high-impact."""
    _impose((address, broker_id, socket, spiffe_id), StopKind.CLASS, name, reason, tenant=tenant, as_json=as_json)


@stop.command
@options
@click.argument("name")
@_tenant
@_reason
@_json
def action(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, name: str, tenant: str, reason: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Stop one action, such as order.refund."""
    _impose((address, broker_id, socket, spiffe_id), StopKind.ACTION, name, reason, tenant=tenant, as_json=as_json)


@stop.command
@options
@_reason
@_json
def everything(
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, reason: str, as_json: bool
) -> None:
    """Stop all agents, whatever they do."""
    _impose((address, broker_id, socket, spiffe_id), StopKind.EVERYTHING, "", reason, as_json=as_json)


def _impose(  # what every one of them takes
    broker: tuple[str, str, str | None, str | None], kind: StopKind, name: str, reason: str, *, tenant: str = "",
    as_json: bool,
) -> None:  # fmt: skip
    async def work(session: Session) -> Ending:
        return await session.impose_override(kind, name, reason=reason, within_tenant=tenant)

    done = run(*broker, work)
    show({"stopped": done.override, "ended credentials": done.revoked, "position": done.position}, as_json=as_json)
    if not as_json:
        click.echo(f"  → another operator lets it go on: broker stop lift {done.override} --reason ...", err=True)


@stop.command("list")
@options
@click.option("--json", "as_json", is_flag=True, help="For programs: an object an override, a line each.")
def list_overrides(*, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, as_json: bool) -> None:
    """Show what is stopped now, since when, by whom and why."""

    async def work(session: Session) -> list[Override]:
        return await session.overrides()

    found = run(address, broker_id, socket, spiffe_id, work)
    if as_json:
        for each in found:
            click.echo(json.dumps(asdict(each) | {"imposed_at": each.imposed_at.isoformat()}))
    elif found:
        _show(found)
    else:
        click.echo("nothing is stopped")


def _show(found: list[Override]) -> None:
    table = Table()
    for column in ("stopped", "since", "by", "why", "override"):
        table.add_column(column, overflow="fold", no_wrap=column == "override")
    for each in found:
        what = " ".join(word for word in (each.kind, each.name) if word)
        within = f" within {each.within_tenant}" if each.within_tenant else ""
        since = f"{each.imposed_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(Text(what + within, "red"), since, Text(each.imposed_by), Text(visible(each.reason)), each.id)
    console = Console(highlight=False)
    wide = console if console.is_terminal else Console(width=max(console.width, _PIPED_WIDTH), highlight=False)
    wide.print(table)


@stop.command
@options
@click.argument("override")
@_reason
@_json
def lift(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, override: str, reason: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Let go on what another operator has stopped (ovr_...). What was ended stays ended; agents ask again."""

    async def work(session: Session) -> Ending:
        return await session.lift_override(override, reason=reason)

    lifted = run(address, broker_id, socket, spiffe_id, work)
    show({"lifted": lifted.override, "position": lifted.position}, as_json=as_json)
