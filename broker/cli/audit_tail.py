"""`broker audit tail`: the log as it is read from the subscriber stream."""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import click

from broker.audit.entry import Opening
from broker.audit.shown import Shown
from broker.cli.audit_lines import line_in
from broker.cli.connection import options, run
from broker.client import CursorFile, Session, follow_audit
from broker.v1 import audit_pb2
from broker.visible import visible

FORMS: Final = ("text", "json", "ocsf", "otel")
_COLOURS: Final = {"refused": "red", "suppressed": "red", "rejected": "red", "granted": "green", "made": "yellow"}


@click.command
@options
@click.option("--follow", "-f", is_flag=True, help="Stay, and show what comes.")
@click.option("--from-end", is_flag=True, help="Only what comes from now on; with --follow.")
@click.option(
    "--kind", "kinds", multiple=True, help="Only events of this type, such as credential.granted; repeatable."
)
@click.option("--tenant", default="", help="Only events of this tenant.")
@click.option("--agent", default="", help="Only events of this agent, by SPIFFE ID.")
@click.option("--task", default="", help="Only events of this task.")
@click.option("--credential", default="", help="Only events of this credential.")
@click.option("--personal", is_flag=True, help="With personal values, for whom policy allows it.")
@click.option(
    "--cursor",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Resume after what was shown last time, as this file remembers.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    default="text",
    show_default=True,
    help="text for people; json a JSON object a line, which `broker audit verify` reads; ocsf an event of the Open "
    "Cybersecurity Schema Framework a line; otel an OpenTelemetry log record a line.",
)
def tail(  # noqa: PLR0913  # one parameter an option
    *,
    address: str,
    broker_id: str,
    socket: str | None,
    spiffe_id: str | None,
    follow: bool,
    from_end: bool,
    kinds: tuple[str, ...],
    tenant: str,
    agent: str,
    task: str,
    credential: str,
    personal: bool,
    cursor: Path | None,
    as_json: bool,
    form: str,
) -> None:
    """Show the audit log, in order and without gaps."""
    form = "json" if as_json else form
    wanted = audit_pb2.AuditFilter(kinds=kinds, tenant=tenant, agent=agent, task_id=task, credential_id=credential)

    async def work(session: Session) -> None:
        with CursorFile(cursor) if cursor else nullcontext() as cursors:
            async with follow_audit(
                session, cursors, wanted=wanted, from_end=from_end, forever=follow, personal=personal
            ) as subscriber:
                async for received in subscriber.messages():
                    _show_message(*received.value, form=form)
                    await subscriber.ack(received)

    run(address, broker_id, socket, spiffe_id, work)


def _show_message(
    message: audit_pb2.SubscribeAuditResponse, events: Sequence[audit_pb2.AuditEvent], *, form: str
) -> None:
    for event in events:
        openings = [
            Opening(field=opening.field, value=opening.value.encode(), salt=opening.salt) for opening in event.openings
        ]
        if form == "text":
            click.echo(_line(Shown.read(event.position, event.event, openings), openings))
        else:
            click.echo(line_in(form, event.position, event.event, openings))
    if form == "json":
        click.echo(json.dumps({"from": message.from_position, "to": message.to_position, "cursor": message.cursor}))


def _line(shown: Shown, openings: list[Opening]) -> str:
    event = shown.members
    kind = str(event["type"])
    colour = _COLOURS.get(kind.rpartition(".")[2])
    parts = [
        click.style(f"{shown.position:>6}", dim=True),
        str(event["at"])[11:23],
        click.style(visible(kind).ljust(18), fg=colour),
        visible(str(event.get("spiffe_id", "-")).removeprefix("spiffe://")),
        _what(event),
    ]
    opened = " ".join(f"{opening.field}={opening.value.decode()}" for opening in openings)
    return "  ".join(part for part in (*parts, click.style(visible(opened), fg="cyan")) if part)


def _what(event: Mapping[str, Any]) -> str:
    """Say in a few words what the event is about; values are escaped, since some come from callers."""
    intent = event.get("intent", {})
    resource = intent.get("resource", {})
    words = [
        event.get("reason"),
        intent.get("action"),
        f"{resource.get('type')}/{resource.get('id') or resource.get('set')}" if resource else None,
        " ".join(event.get("decision", {}).get("policies", ())),
        event.get("credential"),
        event.get("task"),
        event.get("rule"),
        event.get("name"),
        event.get("revocation"),
        f"ended {event['revoked']}" if "revoked" in event else None,
        event.get("bundle"),
        event.get("kid"),
        event.get("state"),
        event.get("stream"),
    ]
    return visible(" ".join(str(word) for word in words if word))
