"""The one interface between door and issuer: evidence and a request go in, an answer or a refusal comes out.

The door says what a connection presented (Evidence), never who called: the issuer authenticates, on every call and every
page. Both sides speak in nouns; `wire.py` carries them over a private socket when the two are separate processes.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol, TypeAlias

from broker.audit.event import Opening
from broker.credential.revocation import Rule
from broker.credential.token import Credential
from broker.errors import Refusal
from broker.intent import Intent
from broker.svid.principal import Evidence
from broker.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What comes with every call.

    Attributes:
        evidence: what the connection presented.
        request: the door's id of this call, req_….
        trace: W3C trace id, 32 hex digits, or empty.

    """

    evidence: Evidence
    request: str
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeCall:
    """One intent, or the refusal that stands for it when it could not be understood."""

    context: Context
    intent: Intent | Refusal
    lifetime: timedelta | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginTaskCall:
    """A task to begin; lifetime None takes the configured default."""

    context: Context
    purpose: str
    tenant: str = ""
    lifetime: timedelta | None = None
    conversation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTaskCall:
    """A task to end."""

    context: Context
    task: str


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
    """Asks for what needs no argument: the key set, the newest checkpoint, whether the caller is known (health)."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that readers must hear of: the log grew, or who may read may have changed (`epoch` rose)."""

    size: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the issuer stands on, for the admin socket."""

    size: int
    policy_digest: str
    policy_problem: str
    spiffe_id: str


ExchangeAnswer: TypeAlias = Credential | Refusal


class Issuer(Protocol):
    """Everything a door may ask for. Every method but `exchange` raises Refusal; `exchange` answers item by item."""

    async def exchange(self, calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        """Decide intents; each is authenticated, decided and recorded on its own."""

    async def begin_task(self, call: BeginTaskCall) -> Task:
        """Begin a task."""

    async def end_task(self, call: EndTaskCall) -> Ended:
        """End a task and its credentials."""

    async def revoke(self, call: RevokeCall) -> Ended:
        """Put a rule in force."""

    async def lift(self, call: LiftCall) -> Ended:
        """Take a rule out of force."""

    async def key_set(self, call: ReadCall) -> KeySet:
        """Return the public keys."""

    async def checkpoint(self, call: ReadCall) -> SignedCheckpoint:
        """Return the newest checkpoint, of everything committed before the call."""

    async def refuse(self, call: RefusedCall) -> Refusal:
        """Authenticate, record and return the refusal to give: the authentication's own when that fails."""

    async def authenticate(self, call: ReadCall) -> datetime:
        """Check who calls, nothing else; return when the caller's SVID ends. For health and open streams."""

    async def revocation_page(self, call: RevocationPageCall) -> RevocationPage:
        """Return the next page of a reader's revocations."""

    async def audit_page(self, call: AuditPageCall) -> AuditPage:
        """Return the next page of the audit log."""

    def changes(self) -> AsyncIterator[Change]:
        """Yield the newest state at once, then each change; what piled up comes as one. Ends when the issuer does."""

    async def state(self) -> State:
        """Return what the issuer stands on."""
