"""Calls and answers: what each operation takes and what it gives, in nouns.

A call carries what its connection presented (Evidence), never a name: every operation authenticates for itself.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeAlias

from broker.audit.event import Opening
from broker.boundary import Boundary
from broker.credential.revocation import Rule
from broker.credential.token import Credential, Token
from broker.errors import Refusal
from broker.intent import Intent
from broker.svid.principal import Evidence
from broker.trail import NO_TRAIL, Trail


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What comes with every call.

    Attributes:
        evidence: what the connection presented.
        request: the door's id of this call, req_….
        trace: W3C trace id, 32 hex digits, or empty.
        identity_token: what came as `authorization: Bearer`, unverified; only where a person's word is taken.

    """

    evidence: Evidence
    request: str
    trace: str = ""
    identity_token: Token | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeCall:
    """One intent, or the refusal that stands for it when it could not be understood.

    `trail` is what led to it, `approval` the one that it is asked with.
    """

    context: Context
    intent: Intent | Refusal
    lifetime: timedelta | None = None
    request_id: str = ""
    trail: Trail = NO_TRAIL
    approval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginTaskCall:
    """A task to begin.

    Attributes:
        context: who begins it.
        purpose: registered for the agent.
        tenant: to pin it to; empty: the agent's only one.
        lifetime: None takes the configured default.
        conversation: a name for it, or empty.
        type: of task; empty: the only one that fits.
        boundary: what to narrow the type to.
        heartbeat: how often it will be heard of; None: as its type says.
        agent: SPIFFE ID of the agent; empty: the caller itself.
        person: for whom a front end begins it.
        asked: digest of what that person asked.

    """

    context: Context
    purpose: str
    tenant: str = ""
    lifetime: timedelta | None = None
    conversation: str = ""
    type: str = ""
    boundary: Boundary = field(default_factory=Boundary)
    heartbeat: timedelta | None = None
    agent: str = ""
    person: str = field(default="", repr=False)
    asked: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTaskCall:
    """A task to end, or to cancel, and why."""

    context: Context
    task: str
    cancelled: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeCall:
    """A rule to put in force, and why."""

    context: Context
    rule: Rule
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftCall:
    """A revocation to lift, and why."""

    context: Context
    revocation: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCall:
    """Asks for what needs no argument: the keys, the newest checkpoint, whether the caller is known (health)."""

    context: Context


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedCall:
    """A call that the door could not understand; the issuer records the refusal once it knows who asked."""

    context: Context
    operation: str
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationPageCall:
    """The next page of a reader's revocations.

    Attributes:
        context: who reads.
        cursor: from the last page; empty for the first: a snapshot.
        known_keys: digest of the key set that the reader has; the page carries it only when it differs.
        opening: True for the first page of a stream, which is recorded.

    """

    context: Context
    cursor: str = ""
    known_keys: str = ""
    opening: bool = False


class Start(Enum):
    """Where an audit stream starts without a cursor."""

    BEGINNING = "beginning"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which events a reader wants; empty members do not restrict."""

    kinds: tuple[str, ...] = ()
    tenant: str = ""
    agent: str = ""
    task: str = ""
    credential: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPageCall:
    """The next page of the audit log.

    Attributes:
        context: who reads.
        cursor: from the last page, or empty.
        filter: which events; the cursor holds to it.
        start: where to begin without a cursor.
        personal: with the openings of personal values.
        opening: True for the first page of a stream, which is recorded.

    """

    context: Context
    cursor: str = ""
    filter: AuditFilter = field(default_factory=AuditFilter)
    start: Start = Start.BEGINNING
    personal: bool = False
    opening: bool = False


# --- answers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What ending a task, or revoking, did: the event's position, how many live credentials ended with it."""

    position: int
    revoked: int
    revocation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The public keys: the issuer's name, JWKS as JSON text, verifier key of the checkpoints, digest of all three."""

    issuer: str
    jwks: str
    checkpoint_key: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A signed note and the size it covers."""

    note: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything revoked and not expired for one reader: a serialised bitmap for a service, ids for an agent."""

    status_indexes: bytes = b""
    credential_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """One revocation as far as it concerns the reader."""

    position: int
    at: datetime
    rule: str
    status_indexes: tuple[int, ...] = ()
    credential_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What every page says: the range [start, stop) that was scanned, where to resume, how fresh it is.

    Attributes:
        start: first position scanned.
        stop: one past the last.
        cursor: resumes at `stop`.
        read_at: the issuer's clock before it read; everything below `size` had been read then.
        size: size of the log at that time.
        valid_until: when the reader's SVID ends; the stream ends with it.

    """

    start: int
    stop: int
    cursor: str
    read_at: datetime
    size: int
    valid_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationPage:
    """A page of revocations."""

    page: Page
    snapshot: Snapshot | None = None
    revoked: tuple[Revoked, ...] = ()
    key_set: KeySet | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One event with the openings that the reader may see."""

    position: int
    content: bytes
    openings: tuple[Opening, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """A page of the audit log."""

    page: Page
    events: tuple[AuditEvent, ...] = ()


ExchangeAnswer: TypeAlias = Credential | Refusal
