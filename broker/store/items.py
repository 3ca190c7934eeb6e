"""Items: what is written, the guards under which it may be, and the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from broker.audit.entry import Entry
from broker.credential.grant import Grant
from broker.credential.revocation import Revocation
from broker.errors import Reason, Refusal
from broker.override import Stopper
from broker.store.approval_items import ApprovalGuard, ApprovalWrite
from broker.store.drift_items import DriftOpen, DriftWrite
from broker.store.key_items import AddKeyRequest, PutKey
from broker.store.limit_items import Charge, GiveBack, NoteGranted, NotGranted, StepsOpen, WithinLimit
from broker.store.outcome_items import (
    AddReport,
    CountDrift,
    ForgetDrift,
    OutcomeFits,
    ReportUnused,
    ResumeTask,
    SuspendTask,
    TaskSuspended,
)
from broker.store.override_items import AddOverride, LiftOverride, OverrideInForce
from broker.store.redemption_items import AddRedemption, NotOver, Unspent
from broker.store.task_items import EndCredentials, HearTask, NarrowTask
from broker.task import Task

# --- guards: checked inside the transaction -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRevoked:
    """Nobody has stopped this, no rule in force covers it, and no earlier rule or task ended the credential it names.

    Refused with OVERRIDE_IN_FORCE, AGENT_, TENANT_, TASK_, POLICY_ or CREDENTIAL_REVOKED; the first in this order.
    `action` is empty when it is about none, `action_class` when nobody knows it.
    """

    agent: str
    tenant: str
    task: str
    policy_ids: tuple[str, ...]
    credential_id: str = ""
    action: str = ""
    action_class: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAlive:
    """The task exists, is this agent's, has not ended, is not over by itself at `now`, and was not narrowed meanwhile.

    Refused with TASK_UNKNOWN, TASK_DEADLINE_PASSED, TASK_HEARTBEAT_MISSED, TASK_ENDED, TASK_SUSPENDED or
    TASK_BOUNDARY_CHANGED. `revision` is the one that was decided on; None asks nothing about it. With `even_suspended`
    a suspended task will do: for what gives nothing.
    """

    task: str
    agent: str
    now: datetime
    revision: int | None = None
    even_suspended: bool = False


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


Guard: TypeAlias = (
    NotRevoked
    | TaskAlive
    | TaskOpen
    | RequestUnused
    | RevocationInForce
    | ActivePolicy
    | OverrideInForce
    | NotOver
    | Unspent
    | WithinLimit
    | NotGranted
    | StepsOpen
    | ReportUnused
    | OutcomeFits
    | TaskSuspended
    | ApprovalGuard
    | DriftOpen
)

# --- writes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AddGrant:
    """Remember a grant until it expires (and its request id, when it has one; guard it with RequestUnused).

    Within a task, `declared` is what its scope does not say of its intent, a JSON object, and `bundle` what decided.
    `approval` is the one that it is given on, or whose bypass lets it pass.
    """

    grant: Grant
    request_id: str = ""
    declared: str = "{}"
    bundle: str = ""
    approval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddTask:
    """Remember a begun task."""

    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTask:
    """Mark a task ended, revoke its live credentials, take back its approvals; its drift waits for nobody any more."""

    task: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRevocation:
    """Put a rule in force, revoke the live credentials that it covers, and take back such approvals.

    Of a rule over a task, its drift waits for nobody any more.
    """

    revocation: Revocation


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftRevocation:
    """Take a rule out of force."""

    revocation_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivatePolicy:
    """Make a bundle the active one, and remember whom it lets stop things.

    `standing` are its limits by agent, each as policy, place and parameter: what was counted under others is forgotten.
    """

    digest: str
    stoppers: tuple[Stopper, ...] = ()
    standing: tuple[tuple[str, int, str], ...] = ()


Write: TypeAlias = (
    AddGrant
    | AddTask
    | EndTask
    | AddRevocation
    | LiftRevocation
    | PutKey
    | AddKeyRequest
    | ActivatePolicy
    | AddOverride
    | LiftOverride
    | HearTask
    | NarrowTask
    | EndCredentials
    | AddRedemption
    | Charge
    | GiveBack
    | NoteGranted
    | AddReport
    | CountDrift
    | ForgetDrift
    | SuspendTask
    | ResumeTask
    | ApprovalWrite
    | DriftWrite
)

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
        guards: all must hold, in this order; the first that does not gives the refusal.
        writes: applied in order when they do.
        accepted: makes the event's entry from what the writes revoked. None: nothing to record.
        refused: makes the refusal's entry; None, or an answer of None: nothing to record (it is counted elsewhere).

    `accepted` and `refused` are called inside the transaction: they do nothing but make the entry, and do not raise. An
    item whose writes revoke credentials has an `accepted`.
    """

    guards: tuple[Guard, ...] = ()
    writes: tuple[Write, ...] = ()
    accepted: Callable[[Effects], Entry] | None = None
    refused: Callable[[Refusal], Entry | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The item's writes and its event are durable. Position of the event, or None when there was none."""

    position: int | None
    revoked: Effects


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A guard did not hold; nothing of the item was written but its refusal event. `detail` is as a Refusal's."""

    reason: Reason
    position: int | None
    detail: str = ""


Answer: TypeAlias = Committed | Rejected
