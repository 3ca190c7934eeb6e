"""Shown: an event taken apart, for the formats of others. Only what the stream carried is in it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote

from broker.audit.entry import VERSION, Opening
from broker.audit.shape import EventMalformed, members_of, microseconds, opened_of


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
        """Take an event apart.

        Raises:
            EventMalformed: it is none that can be read; the message says which.

        """
        try:
            members = members_of(content)
            opened = opened_of({opening.field: opening.value for opening in openings})
        except EventMalformed as problem:
            raise EventMalformed(f"the event at {position} cannot be read: {problem}") from problem
        return cls(position=position, text=content.decode(), members=members, opened=opened)

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


def _peer(source: str) -> Peer:
    """Read gRPC's way of naming a peer: ipv4:address:port, ipv6:[address]:port, or anything else as it is."""
    kind, _, rest = source.partition(":")
    address, _, port = rest.rpartition(":")
    if kind in ("ipv4", "ipv6") and address and port.isdecimal():
        return Peer(address=address.removeprefix("[").removesuffix("]"), port=int(port))
    return Peer(address=source)
