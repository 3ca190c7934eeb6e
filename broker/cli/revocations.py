"""`broker revocations`: what no longer counts, as services and agents hear of it."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import click

from broker.cli.connection import options, run
from broker.client import BrokerError, CursorFile, Session, follow_revocations
from broker.credential.status_list import read_status_list
from broker.v1 import revoke_pb2
from broker.visible import visible

# Each one shown takes room: a line of this many is one of 8 MiB.
MOST_SHOWN: Final = 1 << 20


@click.group
def revocations() -> None:
    """Follow the revocations that concern the caller."""


@revocations.command
@options
@click.option(
    "--cursor",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Resume after what was shown last time, as this file remembers.",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def follow(
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, cursor: Path | None, as_json: bool
) -> None:
    """Show each revocation as it comes, until interrupted: a service those of its credentials, an agent its own.

    Without a cursor, everything that counts now comes first. It goes on by itself after a lost connection.
    """

    async def work(session: Session) -> None:
        with CursorFile(cursor) if cursor else nullcontext() as cursors:
            async with follow_revocations(session, cursors) as subscriber:
                async for received in subscriber:
                    for line in _lines(received.value, as_json=as_json):
                        click.echo(line)
                    await subscriber.ack(received)

    run(address, broker_id, socket, spiffe_id, work)


def _lines(message: revoke_pb2.SubscribeRevocationsResponse, *, as_json: bool) -> list[str]:
    """Return what is new in a message; a heartbeat alone is nothing new."""
    found: list[dict[str, Any]] = []
    if message.HasField("snapshot"):
        snapshot = message.snapshot
        found.append({"position": message.from_position, "snapshot": _ended(snapshot.credential_ids, _bits(snapshot))})
    for each in message.revoked:
        at = _time(each)
        ended = _ended(each.credential_ids, each.status_indexes)
        found.append({"position": each.position, "at": at, "rule": each.rule} | ended)
    if as_json:
        lines = [json.dumps(each) for each in found]
        if found:
            covered = {"from": message.from_position, "to": message.to_position, "cursor": message.cursor}
            lines.append(json.dumps(covered))
        return lines
    return [_line(each) for each in found]


def _bits(snapshot: revoke_pb2.RevocationSnapshot) -> list[int]:
    try:
        return list(read_status_list(snapshot.status_indexes, MOST_SHOWN)) if snapshot.status_indexes else []
    except ValueError as problem:
        raise BrokerError(f"The broker's list of what is revoked cannot be shown: {problem}.") from problem


def _time(revoked: revoke_pb2.Revoked) -> str:
    try:
        return revoked.at.ToJsonString()
    except ValueError as problem:
        raise BrokerError("What the broker sent as the time of a revocation is none.") from problem


def _ended(credentials: Any, indexes: Any) -> dict[str, Any]:  # noqa: ANN401  # protobuf's repeated fields
    """Return what ended: credentials by id for an agent, by status index for a service."""
    return {"credentials": list(credentials), "status_indexes": list(indexes)}


def _line(found: dict[str, Any]) -> str:
    snapshot = found.get("snapshot")
    ended = snapshot or found
    names = [*map(visible, ended["credentials"]), *(f"#{index}" for index in ended["status_indexes"])]
    position = click.style(f"{found['position']:>6}", dim=True)
    if snapshot:
        shown = " ".join(names) or "none"
        return "  ".join((position, click.style("revoked until now".ljust(28), fg="yellow"), shown))
    rule = click.style(visible(found["rule"]).ljust(10), fg="red")
    return "  ".join((position, found["at"][11:23], rule, " ".join(names) or "none of yours"))
