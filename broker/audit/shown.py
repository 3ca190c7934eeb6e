"""Shown: an event taken apart, for the formats of others. Only what the stream carried is in it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self
from urllib.parse import unquote

from broker.audit.entry import VERSION, Opening

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Where a request came from."""

    address: str
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An event, read.

    Attributes:
        position: its place in the log.
        text: its exact bytes, as text.
        members: as they stand in it.
        opened: personal values, by the member that they are; empty for a reader who may not see them.

    """

    position: int
    text: str
    members: Mapping[str, Any]
    opened: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, position: int, content: bytes, openings: Iterable[Opening] = ()) -> Self:
        """Take an event apart."""
        text = content.decode()
        opened = {opening.field: json.loads(opening.value) for opening in openings}
        return cls(position=position, text=text, members=json.loads(text), opened=opened)

    @property
    def type(self) -> str:
        """What happened; empty in a version of the form that is not known here."""
        return str(self.members["type"]) if self.members.get("v") == VERSION else ""

    @property
    def microseconds(self) -> int:
        """When, since 1970 in UTC."""
        return microseconds(str(self.members["at"]))

    def time_of(self, member: str) -> int:
        """Return the time that a member holds, in microseconds since 1970."""
        return microseconds(str(self.members[member]))

    @property
    def peer(self) -> Peer | None:
        """Where the request came from, when that was shown."""
        source = self.opened.get("source")
        return _peer(unquote(source)) if isinstance(source, str) else None


def microseconds(at: str) -> int:
    """Return an event's time, as it is written in events, in microseconds since 1970."""
    since = datetime.strptime(at, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * _MICROSECONDS + since.microseconds


def _peer(source: str) -> Peer:
    """Read gRPC's way of naming a peer: ipv4:address:port, ipv6:[address]:port, or anything else as it is."""
    kind, _, rest = source.partition(":")
    address, _, port = rest.rpartition(":")
    if kind in ("ipv4", "ipv6") and address and port.isdecimal():
        return Peer(address=address.removeprefix("[").removesuffix("]"), port=int(port))
    return Peer(address=source)
