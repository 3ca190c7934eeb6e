"""`broker audit tail`: the log as it is read from the subscriber stream."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from broker.audit import saved
from broker.audit.entry import Opening
from broker.cli.connection import options, run
from broker.cli.cursor import recall, remember
from broker.client import Session
from broker.v1 import audit_pb2

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
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line; `broker audit verify` reads it.")
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
) -> None:
    """Show the audit log, in order and without gaps."""
    wanted = audit_pb2.AuditFilter(kinds=kinds, tenant=tenant, agent=agent, task_id=task, credential_id=credential)
    resume = recall(cursor)

    async def work(session: Session) -> None:
        stream = session.subscribe_audit(
            wanted=wanted, cursor=resume, from_end=from_end, forever=follow, personal=personal
        )
        async for message in stream:
            _show_message(message, as_json=as_json)
            remember(cursor, message.cursor)

    run(address, broker_id, socket, spiffe_id, work)


def _show_message(message: audit_pb2.SubscribeAuditResponse, *, as_json: bool) -> None:
    for event in message.events:
        openings = [
            Opening(field=opening.field, value=opening.value.encode(), salt=opening.salt) for opening in event.openings
        ]
        if as_json:
            click.echo(saved.to_line(event.position, event.event, openings))
        else:
            click.echo(_line(event.position, json.loads(event.event), openings))
    if as_json and message.events:
        click.echo(json.dumps({"from": message.from_position, "to": message.to_position, "cursor": message.cursor}))


def _line(position: int, event: Mapping[str, Any], openings: list[Opening]) -> str:
    kind = str(event["type"])
    colour = _COLOURS.get(kind.rpartition(".")[2])
    parts = [
        click.style(f"{position:>6}", dim=True),
        str(event["at"])[11:23],
        click.style(kind.ljust(18), fg=colour),
        str(event.get("spiffe_id", "-")).removeprefix("spiffe://"),
        _what(event),
    ]
    opened = " ".join(f"{opening.field}={opening.value.decode()}" for opening in openings)
    return "  ".join(part for part in (*parts, click.style(_printable(opened), fg="cyan")) if part)


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
    return _printable(" ".join(str(word) for word in words if word))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
