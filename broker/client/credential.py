"""What a session hands out: credentials, tasks, key sets. A token cannot print itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from broker.boundary import Boundary
from broker.credential.token import Token
from broker.intent import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A credential for one action, bound to the SVID that asked for it.

    Attributes:
        token: the secret; reveal() gives it, nothing else does.
        id: its id, safe to log.
        expires_at: UTC; from then on it is over.
        authorization_details: what it covers (RFC 9396); never more than was asked.
        intent_digest: of the intent it was given for.
        decision_id: of the decision behind it.
        policy_ids: the policies that permitted it.
        transaction_id: the same when a lost reply was asked again.
        tenant: the tenant it is pinned to.
        thumbprint: of the SVID it is bound to; session.channel() takes the connection with that SVID.
        use: "many", or "once": it is good for one call, and the service refuses a second one.

    """

    token: Token
    id: str
    expires_at: datetime
    authorization_details: Sequence[Mapping[str, Json]] = field(repr=False)
    intent_digest: str = field(repr=False)
    decision_id: str
    policy_ids: tuple[str, ...]
    transaction_id: str
    tenant: str
    thumbprint: str
    use: Literal["many", "once"] = "many"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata to send with one call to the service that this credential is for."""
        return (("authorization", f"Bearer {self.token.reveal()}"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A begun task.

    Attributes:
        id: its id.
        purpose: registered for the agent.
        tenant: the tenant that it is pinned to.
        begun_at: UTC.
        deadline: when it ends by itself.
        conversation: as it was named, or empty.
        type: as the bundle declares it, or empty.
        boundary: what it may ever touch; a member that is None does not restrict.
        heartbeat: how often it must be heard of; None: never.
        agent: SPIFFE ID of the agent whose task it is.
        suspended_at: since when nothing is given in it, until a person lets it go on; None: it is not suspended.

    """

    id: str
    purpose: str
    tenant: str
    begun_at: datetime
    deadline: datetime
    conversation: str
    type: str = ""
    boundary: Boundary = field(default_factory=Boundary)
    heartbeat: timedelta | None = None
    agent: str = ""
    suspended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """A task that goes on, as it is now, and how many of its live credentials have ended."""

    task: Task
    revoked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What ended: its event's position, how many live credentials ended with it, a revocation's or override's id."""

    position: int
    revoked: int = 0
    revocation: str = ""
    override: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What people have stopped, until another operator than `imposed_by` lifts it.

    Attributes:
        id: ovr_….
        kind: "agent", "tenant", "class", "action" or "everything".
        name: of what is stopped; empty for everything.
        within_tenant: of a class or an action, the one tenant in which it is stopped; empty for every tenant.
        imposed_at: since when, UTC.
        imposed_by: SPIFFE ID.
        reason: why, in that operator's words.

    """

    id: str
    kind: str
    name: str
    within_tenant: str
    imposed_at: datetime
    imposed_by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The broker's public keys: issuer, JWKS as JSON text, verifier key of the checkpoints."""

    issuer: str
    jwks: str
    checkpoint_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of the broker as its operators see it; times that do not apply are None.

    Attributes:
        kid: RFC 7638 thumbprint.
        use: "tokens" or "checkpoints".
        state: "next", "current" or "retired".
        algorithm: "ES256" or "Ed25519".
        published_at: when it was first published.
        activated_at: when it began to sign.
        retired_at: when it ceased to.
        signs_from: of a next key, when it may sign at the earliest.
        signs_until: of a current key, when another follows by itself.
        published_until: of a retired token key, when all that it signed is over.
        verifier_key: of a checkpoint key, as auditors hold it; else empty.
        endorsement: of a checkpoint key, the signed note by which the one before introduced it; else empty.

    """

    kid: str
    use: str
    state: str
    algorithm: str
    published_at: datetime | None
    activated_at: datetime | None
    retired_at: datetime | None
    signs_from: datetime | None
    signs_until: datetime | None
    published_until: datetime | None
    verifier_key: str
    endorsement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What a change of the keys did.

    Attributes:
        position: of its event.
        at: when it came into force.
        use: "tokens" or "checkpoints".
        kid: the key that signs from then on.
        replaced: the key that does not any more, or counts no more.
        following: the key that is next.
        signs_from: when that may sign at the earliest.

    """

    position: int
    at: datetime
    use: str
    kid: str
    replaced: str
    following: str
    signs_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signed note and the size of the log that it covers."""

    note: str
    size: int
