"""Event: one audit entry. A closed set of types; fields are only ever added.

An event is RFC 8785 JSON. Personal values (the person acted for, parameters, the source address, free text, the intent's
digest, which could be guessed back) are not in it: it holds salted commitments to them, and the values with their salts
("openings") are stored beside it, so that erasing them leaves every proof whole.

A commitment is "sha-256:" and base64url of SHA-256(salt ‖ RFC 8785 form of the value), the salt 32 random bytes.
Events carry plain values, so that they outlive the code that made them.
"""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import ClassVar, TypeAlias

from broker.intent import Json, canonical_json

VERSION = 1
PERSONAL_INTENT_MEMBERS = ("parameters", "on_behalf_of")

Salt: TypeAlias = Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A personal value behind a commitment: its field, its RFC 8785 form, its salt."""

    field: str
    value: bytes
    salt: bytes = field(repr=False)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialGranted:
    """A credential was given; its token left the broker only after this was durable."""

    TYPE: ClassVar = "credential.granted"
    at: datetime
    caller: Caller
    intent: Mapping[str, Json]
    intent_digest: str
    decided: Decided
    tenant: str
    task: str
    transaction: str
    credential: str
    token_digest: str
    audience: str
    status_index: int
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialReissued:
    """A lost reply was asked again; the same credential was signed again."""

    TYPE: ClassVar = "credential.reissued"
    at: datetime
    caller: Caller
    intent_digest: str
    tenant: str
    task: str
    transaction: str
    credential: str
    token_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRefused:
    """An intent was refused. `intent` is empty when it could not be understood."""

    TYPE: ClassVar = "exchange.refused"
    at: datetime
    caller: Caller
    intent: Mapping[str, Json]
    intent_digest: str
    decided: Decided | None
    tenant: str
    task: str
    transaction: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused:
    """Any other request was refused, or a caller could not be authenticated."""

    TYPE: ClassVar = "request.refused"
    at: datetime
    caller: Caller
    operation: str
    reason: str
    detail: str
    decided: Decided | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalsSuppressed:
    """More refusals for one reason from one source than the log takes; counted instead."""

    TYPE: ClassVar = "refusals.suppressed"
    at: datetime
    source: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBegun:
    """A task began."""

    TYPE: ClassVar = "task.begun"
    at: datetime
    caller: Caller
    decided: Decided
    tenant: str
    task: str
    purpose: str
    conversation: str
    deadline: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnded:
    """A task ended, and its live credentials with it. `cause` is "ended" or "deadline"."""

    TYPE: ClassVar = "task.ended"
    at: datetime
    caller: Caller
    tenant: str
    task: str
    cause: str
    credentials: tuple[str, ...]
    status_indexes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationMade:
    """A rule came into force, and ended the credentials that its transaction expanded it to."""

    TYPE: ClassVar = "revocation.made"
    at: datetime
    caller: Caller
    decided: Decided
    revocation: str
    rule: str
    name: str
    text: str
    credentials: tuple[str, ...]
    status_indexes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationLifted:
    """A rule no longer blocks new grants."""

    TYPE: ClassVar = "revocation.lifted"
    at: datetime
    caller: Caller
    decided: Decided
    revocation: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyActivated:
    """A policy bundle became the one that decides."""

    TYPE: ClassVar = "policy.activated"
    at: datetime
    bundle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRejected:
    """A new bundle on disk did not load; the active one stays."""

    TYPE: ClassVar = "policy.rejected"
    at: datetime
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChanged:
    """A key changed its state: "next", "current", "retired" or "removed"."""

    TYPE: ClassVar = "key.changed"
    at: datetime
    use: str
    kid: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOpened:
    """A reader began to follow a stream."""

    TYPE: ClassVar = "stream.opened"
    at: datetime
    caller: Caller
    decided: Decided
    stream: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStarted:
    """The issuer opened this log."""

    TYPE: ClassVar = "broker.started"
    at: datetime
    spiffe_id: str
    version: str


Event: TypeAlias = (
    CredentialGranted
    | CredentialReissued
    | ExchangeRefused
    | RequestRefused
    | RefusalsSuppressed
    | TaskBegun
    | TaskEnded
    | RevocationMade
    | RevocationLifted
    | PolicyActivated
    | PolicyRejected
    | KeyChanged
    | StreamOpened
    | BrokerStarted
)

# Members that never stand in an event but behind a commitment.
PERSONAL = frozenset(
    {"parameters", "on_behalf_of", "intent_digest", "source", "text", "detail", "conversation", "problem"},
)


def seal(event: Event, salt: Salt) -> Entry:
    """Return the event's exact bytes and the openings of its personal values.

    Args:
        event: the event.
        salt: gives 32 fresh random bytes at each call.

    """
    members: dict[str, Json] = {"v": VERSION, "type": event.TYPE}
    openings: list[Opening] = []
    for name, value in _plain_members(event).items():
        if name in PERSONAL:
            openings.append(Opening(field=name, value=canonical_json(value), salt=salt()))
        else:
            members[name] = value
    if openings:
        members["commitments"] = {opening.field: opening.commitment() for opening in openings}
    return Entry(content=canonical_json(members), openings=tuple(openings))


def _plain_members(event: Event) -> dict[str, Json]:
    """Return the event's members as JSON, flattened by one level, empty ones left out."""
    members: dict[str, Json] = {}
    for each in fields(event):
        value = getattr(event, each.name)
        match value:
            case Caller():
                members |= {part.name: getattr(value, part.name) for part in fields(value)}
            case Decided():
                members["decision"] = {"id": value.id, "policies": list(value.policies), "bundle": value.bundle}
            case Mapping() if each.name == "intent":
                members["intent"] = {k: v for k, v in value.items() if k not in PERSONAL_INTENT_MEMBERS}
                members |= {k: v for k, v in value.items() if k in PERSONAL_INTENT_MEMBERS}
            case datetime():
                members[each.name] = timestamp(value)
            case None:
                continue
            case Mapping():
                members[each.name] = {name: list(indexes) for name, indexes in value.items()}
            case tuple():
                members[each.name] = list(value)
            case _:
                members[each.name] = value
    return {name: value for name, value in members.items() if value not in ("", {}, [])}


def timestamp(at: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
