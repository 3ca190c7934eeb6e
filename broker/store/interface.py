"""Store: what the broker remembers, in our nouns. One transaction a group, one answer an item.

An item is something to write, the guards under which it may be written, and the events that say what happened either
way. Guards, writes and events of one item stand in the same transaction; a guard that fails refuses its own item, whose
refusal event is written in the writes' place, and harms no neighbour. Positions have no gaps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from broker.audit.event import Entry, Opening
from broker.credential.grant import Grant
from broker.credential.revocation import Revocation, Rule
from broker.errors import Reason
from broker.task import Task


class StoreUnavailable(Exception):
    """The store cannot write, or cannot read, now. Nothing of the group may be acknowledged.

    When the disk failed under the commit itself, the group may be found recorded after all once the store is back:
    whole, never in part. Messages hold no value from an item.
    """


# --- guards: checked inside the transaction -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRevoked:
    """No rule in force covers this, and the credential, when one is named, was not ended by an earlier rule or task.

    Refused with AGENT_, TENANT_, TASK_, POLICY_ or CREDENTIAL_REVOKED; the first in this order.
    """

    agent: str
    tenant: str
    task: str
    policy_ids: tuple[str, ...]
    credential_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAlive:
    """The task exists, is this agent's, has not ended, and its deadline lies after `now`.

    Refused with TASK_UNKNOWN, TASK_ENDED or TASK_DEADLINE_PASSED.
    """

    task: str
    agent: str
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOpen:
    """The task exists and has not been ended, whatever its deadline. Refused with TASK_UNKNOWN or TASK_ENDED.

    For whoever ends tasks at their deadline: of two ends of one task, one is recorded.
    """

    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestUnused:
    """The caller has not used this request id. Refused with REQUEST_ID_REUSED."""

    agent: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationInForce:
    """The revocation exists and was not lifted. Refused with REVOCATION_UNKNOWN."""

    revocation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivePolicy:
    """The active bundle is still the one that decided. Refused with POLICY_UNAVAILABLE."""

    digest: str


Guard: TypeAlias = NotRevoked | TaskAlive | TaskOpen | RequestUnused | RevocationInForce | ActivePolicy

# --- writes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AddGrant:
    """Remember a grant until it expires (and its request id, when it has one; guard it with RequestUnused)."""

    grant: Grant
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddTask:
    """Remember a begun task."""

    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTask:
    """Mark a task ended and revoke its live credentials."""

    task: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRevocation:
    """Put a rule in force and revoke the live credentials that it covers."""

    revocation: Revocation


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftRevocation:
    """Take a rule out of force."""

    revocation_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PutKey:
    """Set the state of a key in the ring; `state` is "next", "current", "retired" or "removed"."""

    key: "StoredKey"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivatePolicy:
    """Make a bundle the active one."""

    digest: str


Write: TypeAlias = AddGrant | AddTask | EndTask | AddRevocation | LiftRevocation | PutKey | ActivatePolicy

# --- items and answers --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedCredential:
    """A live credential that a write revoked."""

    credential_id: str
    agent: str
    audience: str
    status_index: int
    expires_at: datetime


Effects: TypeAlias = tuple[RevokedCredential, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to commit.

    Attributes:
        guards: all must hold, in this order; the first that does not gives the reason.
        writes: applied in order when they do.
        accepted: makes the event's entry from what the writes revoked. None: nothing to record.
        refused: makes the refusal's entry; None, or an answer of None: nothing to record (it is counted elsewhere).

    `accepted` and `refused` are called inside the transaction: they do nothing but make the entry, and do not raise. An
    item whose writes revoke credentials has an `accepted`.
    """

    guards: tuple[Guard, ...] = ()
    writes: tuple[Write, ...] = ()
    accepted: Callable[[Effects], Entry] | None = None
    refused: Callable[[Reason], Entry | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The item's writes and its event are durable. Position of the event, or None when there was none."""

    position: int | None
    revoked: Effects


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A guard did not hold; nothing of the item was written but its refusal event."""

    reason: Reason
    position: int | None


Answer: TypeAlias = Committed | Rejected

# --- what is read -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One event of the log, with its openings when they were asked for."""

    position: int
    content: bytes
    openings: tuple[Opening, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedRange:
    """What one event revoked, for one reader."""

    position: int
    at: datetime
    rule: str
    credentials: tuple[RevokedCredential, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key of the ring, as far as the store knows it: never a private key.

    Attributes:
        kid: RFC 7638 thumbprint.
        public_jwk: RFC 7517 JSON as text.
        state: "next", "current", "retired" or "removed".
        since: when it took this state, UTC.

    """

    kid: str
    public_jwk: str
    state: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheckpoint:
    """The newest signed checkpoint."""

    size: int
    note: str


class Store(Protocol):
    """The log and everything that hangs on it. One caller at a time; every method may raise StoreUnavailable."""

    @property
    def log_id(self) -> str:
        """Id of the log, log_…; it names the log in cursors and checkpoints."""

    @property
    def cursor_key(self) -> bytes:
        """MAC key of cursors, 32 bytes."""

    def commit(self, items: Sequence[Item]) -> Sequence[Answer]:
        """Commit a group in one durable transaction; answers in the items' order."""

    def size(self) -> int:
        """Return the number of events."""

    def root(self) -> tuple[int, bytes]:
        """Return size and RFC 6962 root hash of the log, as one consistent pair."""

    def events(self, start: int, stop: int, *, openings: bool) -> Sequence[StoredEvent]:
        """Return the events of [start, stop), in order."""

    def revoked_in(self, start: int, stop: int, *, audience: str = "", agent: str = "") -> Sequence[RevokedRange]:
        """Return what events of [start, stop) revoked for one audience or one agent, in order."""

    def revoked_now(self, now: datetime, *, audience: str = "", agent: str = "") -> tuple[int, Sequence[RevokedCredential]]:
        """Return the log's size and, at that size, all revoked credentials that have not expired, for one reader."""

    def reserve_indexes(self, audience: str, count: int) -> range:
        """Durably reserve the next `count` status indexes of an audience."""

    def task(self, task_id: str) -> Task | None:
        """Return a task, ended or not."""

    def tasks_due(self, now: datetime) -> Sequence[Task]:
        """Return the tasks that have not ended though their deadline has passed."""

    def grant(self, credential_id: str) -> Grant | None:
        """Return a grant that is still remembered."""

    def grant_of_request(self, agent: str, request_id: str) -> Grant | None:
        """Return the grant that was given under a request id."""

    def revocation(self, revocation_id: str) -> Revocation | None:
        """Return a revocation in force."""

    def revocations(self) -> Sequence[Revocation]:
        """Return every revocation in force."""

    def is_revoked(self, rules: Sequence[Rule]) -> Rule | None:
        """Return the first of these rules that is in force."""

    def has_live_grants(self, rule: Rule) -> bool:
        """Whether a grant that is still remembered carries this name."""

    def keys(self) -> Sequence[StoredKey]:
        """Return every key that is not removed."""

    def active_policy(self) -> str:
        """Return the digest of the active bundle, or empty."""

    def save_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        """Remember a checkpoint; some of the earlier ones are kept for verification to narrow a fault down with."""

    def checkpoint(self) -> StoredCheckpoint | None:
        """Return the newest checkpoint."""

    def forget_expired(self, now: datetime) -> int:
        """Drop grants, request ids, rules and ended tasks that nothing can refer to any more; return how many grants.

        One call drops a bounded number of each, so that no commit waits long: call again while the answer is not 0.
        """

    def close(self) -> None:
        """Release the store."""
