"""Store: what the broker remembers, in our nouns. One transaction a group, one answer an item.

An item is something to write, the guards under which it may be written, and the events that say what happened either
way. Guards, writes and events of one item stand in the same transaction; a guard that fails refuses its own item, whose
refusal event is written in the writes' place, and harms no neighbour. Positions have no gaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from broker.audit.entry import Opening
from broker.credential.grant import Grant
from broker.credential.revocation import Revocation, Rule
from broker.override import Override, Stopper
from broker.store.approval_store import ApprovalStore
from broker.store.drift_store import DriftStore
from broker.store.items import (
    ActivatePolicy,
    ActivePolicy,
    AddGrant,
    AddRevocation,
    AddTask,
    Answer,
    Committed,
    Effects,
    EndTask,
    Guard,
    Item,
    LiftRevocation,
    NotRevoked,
    Rejected,
    RequestUnused,
    RevocationInForce,
    RevokedCredential,
    TaskAlive,
    TaskOpen,
    Write,
)
from broker.store.key_items import AddKeyRequest, PutKey, StoredKey, StoredKeyRequest
from broker.store.limit_items import (
    Charge,
    Counter,
    GiveBack,
    Granted,
    NoteGranted,
    NotGranted,
    Step,
    StepsOpen,
    WithinLimit,
)
from broker.store.outcome_items import (
    AddReport,
    CountDrift,
    ForgetDrift,
    OutcomeFits,
    Outside,
    Reportable,
    ReportUnused,
    ResumeTask,
    StoredReport,
    SuspendTask,
    TaskSuspended,
)
from broker.store.override_items import AddOverride, LiftOverride, OverrideInForce
from broker.store.redemption_items import AddRedemption, NotOver, StoredRedemption, Unspent
from broker.store.task_items import EndCredentials, HearTask, HeldGrant, NarrowTask
from broker.task import Task

__all__ = [
    "ActivatePolicy",
    "ActivePolicy",
    "AddGrant",
    "AddKeyRequest",
    "AddOverride",
    "AddRedemption",
    "AddReport",
    "AddRevocation",
    "AddTask",
    "Answer",
    "Charge",
    "Committed",
    "CountDrift",
    "Counter",
    "Effects",
    "EndCredentials",
    "EndTask",
    "ForgetDrift",
    "GiveBack",
    "Granted",
    "Guard",
    "HearTask",
    "HeldGrant",
    "Item",
    "LiftOverride",
    "LiftRevocation",
    "NarrowTask",
    "NotGranted",
    "NotOver",
    "NotRevoked",
    "NoteGranted",
    "OutcomeFits",
    "Outside",
    "OverrideInForce",
    "PutKey",
    "Rejected",
    "ReportUnused",
    "Reportable",
    "RequestUnused",
    "ResumeTask",
    "RevocationInForce",
    "RevokedCredential",
    "RevokedRange",
    "Step",
    "StepsOpen",
    "Store",
    "StoreUnavailable",
    "StoredCheckpoint",
    "StoredEvent",
    "StoredKey",
    "StoredKeyRequest",
    "StoredRedemption",
    "StoredReport",
    "SuspendTask",
    "TaskAlive",
    "TaskOpen",
    "TaskSuspended",
    "Unspent",
    "WithinLimit",
    "Write",
]


class StoreUnavailable(Exception):
    """The store cannot write, or cannot read, now. Nothing of the group may be acknowledged.

    When the disk failed under the commit itself, the group may be found recorded after all once the store is back:
    whole, never in part. Messages hold no value from an item.
    """


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
class StoredCheckpoint:
    """The newest signed checkpoint."""

    size: int
    note: str


class Store(ApprovalStore, DriftStore, Protocol):
    """The log and everything that hangs on it. One caller at a time; every method may raise StoreUnavailable."""

    @property
    def log_id(self) -> str:
        """Id of the log, log_…; it names the log in cursors and checkpoints."""

    @property
    def cursor_key(self) -> bytes:
        """MAC key of cursors, 32 bytes."""

    @property
    def endings(self) -> int:
        """Rises with each group that may have ended credentials, or put a rule in or out of force. A hint."""

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

    def revoked_now(
        self, now: datetime, *, audience: str = "", agent: str = ""
    ) -> tuple[int, Sequence[RevokedCredential]]:
        """Return the log's size and, at that size, all revoked credentials that have not expired, for one reader."""

    def reserve_indexes(self, audience: str, count: int) -> range:
        """Durably reserve the next `count` status indexes of an audience."""

    def task(self, task_id: str) -> Task | None:
        """Return a task, ended or not."""

    def tasks_due(self, now: datetime) -> Sequence[Task]:
        """Return the tasks that have not ended though their deadline has passed, or three heartbeats were missed."""

    def held(self, task_id: str, now: datetime, *, unless_under: str = "") -> Sequence[HeldGrant]:
        """Return the grants of a task whose credentials are live, without those that one bundle decided."""

    def granted(self, task_id: str, subjects: Sequence[str]) -> Granted:
        """Return what is remembered of a task's grants, and how far these subjects have come in sequences."""

    def grant(self, credential_id: str) -> Grant | None:
        """Return a grant that is still remembered."""

    def reportable(self, credential_id: str) -> Reportable | None:
        """Return a credential that its service may still report on, though it may have expired."""

    def report(self, service: str, report_id: str) -> StoredReport | None:
        """Return a report that was counted."""

    def grant_of_request(self, agent: str, request_id: str) -> Grant | None:
        """Return the grant that was given under a request id."""

    def redemption(self, credential_id: str) -> StoredRedemption | None:
        """Return how a credential that is still remembered was spent; None when it was not."""

    def revocation(self, revocation_id: str) -> Revocation | None:
        """Return a revocation in force."""

    def revocations(self) -> Sequence[Revocation]:
        """Return every revocation in force."""

    def is_revoked(self, rules: Sequence[Rule]) -> Rule | None:
        """Return the first of these rules that is in force."""

    def overrides(self) -> Sequence[Override]:
        """Return every override in force, the oldest first."""

    def stoppers(self) -> Sequence[Stopper]:
        """Return whom the last bundle that was activated lets stop things."""

    def has_live_grants(self, rule: Rule) -> bool:
        """Whether a grant that is still remembered carries this name."""

    def keys(self) -> Sequence[StoredKey]:
        """Return every key that is not removed, of every use."""

    def key(self, kid: str) -> StoredKey | None:
        """Return a key, removed or not."""

    def key_request(self, caller: str, request_id: str) -> tuple[int, StoredKeyRequest] | None:
        """Return the position of the event of a request to change the keys, and the request."""

    def last_expiry(self) -> datetime | None:
        """Return when the last of all remembered grants expires; None when there is none."""

    def active_policy(self) -> str:
        """Return the digest of the active bundle, or empty."""

    def save_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        """Remember a checkpoint; some of the earlier ones are kept for verification to narrow a fault down with."""

    def checkpoint(self) -> StoredCheckpoint | None:
        """Return the newest checkpoint."""

    def forget_expired(self, now: datetime) -> int:
        """Drop what nothing can refer to any more: grants, rules, ended tasks, charges ...; return how many grants.

        Of a grant that goes, what a late report of its service needs is kept for some days more, with the reports.

        One call drops a bounded number of each, so that no commit waits long: call again while the answer is not 0.
        """

    def close(self) -> None:
        """Release the store."""
