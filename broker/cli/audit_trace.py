"""`broker audit trace`: one story, from prompt to side effect. `broker audit unaccounted`: uses without an end."""

import json
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text
from rich.tree import Tree

from broker.audit.entry import Opening, timestamp
from broker.audit.shown import Shown
from broker.audit.story import Story, to_json
from broker.audit.trace import Finder, Gatherer, needs_personal
from broker.audit.unaccounted import Accounting, Unaccounted
from broker.cli.audit_story import draw
from broker.cli.connection import REFUSED, fail, options, run
from broker.cli.duration import Duration
from broker.client import Session
from broker.v1 import audit_pb2
from broker.visible import visible

_PIPED_WIDTH: Final = 160
_OF_USES: Final = ("credential.redeemed", "usage.accepted", "outcome.reported", "reports.dropped")
_tenant = click.option("--tenant", default="", help="Only what stands in this tenant's part of the log.")


@click.command
@options
@_tenant
@click.option("--personal", is_flag=True, help="With personal values, for whom policy allows it.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@click.argument("name", metavar="ID")
def trace(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, tenant: str, personal: bool,
    as_json: bool, name: str,
) -> None:  # fmt: skip
    """Tell one story: prompt, task, approval, decision, credential, each use, what came of it, and who it was.

    ID is a credential (cred_...), a task (task_...), a transaction (txn_...), an approval (appr_...) or a use. With
    --personal it may also be a conversation as the agent named it, or a reference of an agent or a service. The log is
    read twice, from its beginning.

    Exit status: 0 found; 1 not found, or refused; 69 the broker cannot be reached.
    """
    if needs_personal(name) and not personal:
        fail(
            f"{visible(name)} is no id of the broker's; a conversation, or a reference, is a personal value.",
            "Ask with --personal, if policy lets you read personal values (broker.audit.read_personal).",
            REFUSED,
        )
    wanted = audit_pb2.AuditFilter(tenant=tenant)

    async def work(session: Session) -> Story | None:
        finder = Finder(name)
        await _scan(session, wanted, finder.see, "looking for it", personal=personal, quiet=as_json)
        if not finder.wanted():
            return None
        gatherer = Gatherer(finder.wanted())
        await _scan(session, wanted, gatherer.see, "gathering", personal=personal, quiet=as_json)
        return gatherer.story()

    story = run(address, broker_id, socket, spiffe_id, work)
    if story is None:
        fail(f"The log says nothing of {visible(name)}.", "It may stand in another tenant's part of it.", REFUSED)
    now = timestamp(datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(to_json(story, now)))
    else:
        _console().print(*draw(story, now), sep="\n")


@click.command
@options
@_tenant
@click.option("--older-than", "age", type=Duration(), help="Only uses that are older than this, such as 15m.")
@click.option("--json", "as_json", is_flag=True, help="For programs: an object a use, a line each.")
def unaccounted(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, tenant: str, age: timedelta | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show the uses of credentials of which their service has not said what came of them, or cannot tell.

    So is what a service has spent, of a credential that is good once, and not said that it accepted it.
    """
    accounting = Accounting()
    wanted = audit_pb2.AuditFilter(tenant=tenant, kinds=_OF_USES)

    async def work(session: Session) -> None:
        await _scan(session, wanted, accounting.see, "reading", personal=False, quiet=as_json)

    run(address, broker_id, socket, spiffe_id, work)
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    least = (age or timedelta(0)) // timedelta(microseconds=1)
    found = [each for each in accounting.open() if now - each.at >= least]
    if as_json:
        for each in found:
            click.echo(json.dumps(each.to_json() | {"age_seconds": max(0, now - each.at) // 1_000_000}))
        return
    if found:
        _console().print(*(_use(each, now) for each in found), sep="\n")
    else:
        click.echo("every use has an outcome")
    for service, count in sorted(accounting.dropped.items()):
        click.secho(f"{service} says that it lost {count} reports", fg="yellow", err=True)


async def _scan(
    session: Session,
    wanted: audit_pb2.AuditFilter,
    see: Callable[[Shown], None],
    doing: str,
    *,
    personal: bool,
    quiet: bool,
) -> None:
    """Show every event of the log as it is now to `see`, and on standard error how far that is."""
    console = Console(stderr=True)
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        bar = progress.add_task(doing, total=None)
        async with aclosing(session.subscribe_audit(wanted=wanted, forever=False, personal=personal)) as messages:
            async for message in messages:
                for event in message.events:
                    see(Shown.read(event.position, event.event, _openings(event)))
                total = max(message.heartbeat.position, message.to_position)
                progress.update(bar, completed=message.to_position, total=total)


def _openings(event: audit_pb2.AuditEvent) -> list[Opening]:
    return [Opening(field=each.field, value=each.value.encode(), salt=each.salt) for each in event.openings]


def _use(each: Unaccounted, now: int) -> Tree:
    age = timedelta(seconds=max(0, now - each.at) // 1_000_000)
    said = ("its service cannot tell", "yellow") if each.said else ("its service has said nothing", "red")
    what = f"use {each.use}" if each.use else "spent"
    tree = Tree(Text.assemble((f"{age}  ", "dim"), (what, "bold"), "  ", said))
    for name in ("service", "credential", "task", "agent"):
        tree.add(Text.assemble((f"{name}  ", "dim"), visible(getattr(each, name))))
    return tree


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=max(console.width, _PIPED_WIDTH), highlight=False)
