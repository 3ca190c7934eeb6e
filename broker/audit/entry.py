"""Entry: an event in the form in which it is stored and proven.

An event is RFC 8785 JSON. Personal values (the person acted for, parameters, the source address, free text, the
intent's digest, which could be guessed back) are not in it: it holds salted commitments to them, and the values with
their salts ("openings") are stored beside it, so that erasing them leaves every proof whole.

A commitment is "sha-256:" and base64url of SHA-256(salt ‖ RFC 8785 form of the value), the salt 32 random bytes.
"""

import dataclasses
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

from broker.intent import Json, canonical_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

VERSION: Final = 1
PERSONAL_INTENT_MEMBERS: Final = ("parameters", "on_behalf_of")

# Members that never stand in an event but behind a commitment.
PERSONAL: Final = frozenset(
    {
        "approved_by",
        "asked",
        "call_digest",
        "conversation",
        "detail",
        "intent_digest",
        "on_behalf_of",
        "parameters",
        "person",
        "problem",
        "reference",
        "rolled_back_by",
        "source",
        "text",
        "trail",
    },
)

Salt: TypeAlias = Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A personal value behind a commitment: its field, its RFC 8785 form, its salt."""

    field: str
    value: bytes
    salt: bytes = dataclasses.field(repr=False)

    def commitment(self) -> str:
        """Return what stands in the event for this value."""
        hashed = hashlib.sha256(self.salt + self.value).digest()
        return "sha-256:" + urlsafe_b64encode(hashed).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event as it is stored: exact bytes, and the openings beside them."""

    content: bytes
    openings: tuple[Opening, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who called, from where, in which request.

    Attributes:
        spiffe_id: the verified SPIFFE ID; empty when it could not be verified.
        login: "x509", or empty.
        source: peer address; personal.
        request: the broker's own id of the request, req_….
        trace: W3C trace id of the caller's traceparent, 32 hex digits, or empty.

    """

    spiffe_id: str = ""
    login: str = ""
    source: str = ""
    request: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """By which decision, of which policies, of which bundle."""

    id: str
    policies: tuple[str, ...] = ()
    bundle: str = ""


def flatten(event: "DataclassInstance") -> dict[str, Json]:
    """Return the event's members as JSON, flattened by one level, empty ones left out."""
    members: dict[str, Json] = {}
    for name in _names(type(event)):
        value = getattr(event, name)
        match value:
            case str() | int():  # most of them, so it comes first
                members[name] = value
            case Caller():
                members |= {part: getattr(value, part) for part in _names(Caller)}
            case Decided():
                members["decision"] = {"id": value.id, "policies": list(value.policies), "bundle": value.bundle}
            case datetime():
                members[name] = timestamp(value)
            case None:
                continue
            case tuple():
                members[name] = list(value)
            case Mapping() if name == "intent":
                members["intent"] = {k: v for k, v in value.items() if k not in PERSONAL_INTENT_MEMBERS}
                members |= {k: v for k, v in value.items() if k in PERSONAL_INTENT_MEMBERS}
            case Mapping() if name == "status_indexes":
                members[name] = {audience: [list(range_) for range_ in ranges] for audience, ranges in value.items()}
            case _:
                members[name] = value
    return {name: value for name, value in members.items() if value not in ("", {}, [])}


@cache  # as many as there are types of events
def _names(kind: "type[DataclassInstance]") -> tuple[str, ...]:
    return tuple(each.name for each in dataclasses.fields(kind))


def seal_members(event_type: str, plain: Mapping[str, Json], salt: Salt) -> Entry:
    """Return the exact bytes of an event with these members, and the openings of its personal ones.

    Args:
        event_type: the event's type, such as "task.begun".
        plain: its members as plain JSON, personal ones included.
        salt: gives 32 fresh random bytes at each call.

    """
    members: dict[str, Json] = {"v": VERSION, "type": event_type}
    openings: list[Opening] = []
    for name, value in plain.items():
        if name in PERSONAL:
            openings.append(Opening(field=name, value=canonical_json(value), salt=salt()))
        else:
            members[name] = value
    if openings:
        members["commitments"] = {opening.field: opening.commitment() for opening in openings}
    return Entry(content=canonical_json(members), openings=tuple(openings))


def timestamp(at: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
