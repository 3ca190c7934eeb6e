"""What happens to held requests. The union of all events is in `event`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, TypeAlias

from broker.audit.entry import Caller, Decided
from broker.intent import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested:
    """An intent is held until people have approved it.

    `requirements` are as the policies state them, all of which must be met; `replaces` is an approval for the same
    intent that no longer suffices, `trail` what led to the intent.
    """

    TYPE: ClassVar = "approval.requested"
    at: datetime
    caller: Caller
    intent: Mapping[str, Json]
    intent_digest: str
    decided: Decided
    tenant: str
    task: str
    transaction: str
    approval: str
    requirements: tuple[Json, ...]
    pending_until: datetime
    replaces: str = ""
    trail: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalApproved:
    """A person said yes; `complete` when no further yes is wanted. It may then be used until `usable_until`.

    `by_token` when the person is known by an identity token, and not by the caller's own SVID; `approvals` counts those
    who have said yes.
    """

    TYPE: ClassVar = "approval.approved"
    at: datetime
    caller: Caller
    decided: Decided
    tenant: str
    task: str
    agent: str
    approval: str
    person: str
    by_token: bool
    approvals: int
    complete: bool
    usable_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalBypass:
    """Those who approved let the agent do this kind in this task until then without asking again."""

    TYPE: ClassVar = "approval.bypass"
    at: datetime
    caller: Caller
    decided: Decided
    tenant: str
    task: str
    agent: str
    approval: str
    person: str
    action: str
    resource_type: str
    audience: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDenied:
    """A person said no, or took back a yes (`was` is "approved" or "used") and its bypass."""

    TYPE: ClassVar = "approval.denied"
    at: datetime
    caller: Caller
    decided: Decided
    tenant: str
    task: str
    agent: str
    approval: str
    person: str
    was: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalWithdrawn:
    """Who asked took it back. What ends a task, an agent or more names the approvals that end with it itself."""

    TYPE: ClassVar = "approval.withdrawn"
    at: datetime
    caller: Caller
    tenant: str
    task: str
    agent: str
    approval: str
    was: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalExpired:
    """Nobody answered in time (`was` is "pending"), or it was not used in time ("approved")."""

    TYPE: ClassVar = "approval.expired"
    at: datetime
    tenant: str
    task: str
    agent: str
    approval: str
    was: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalEscalated:
    """A request was left unanswered: from now on another group may answer it as well."""

    TYPE: ClassVar = "approval.escalated"
    at: datetime
    tenant: str
    task: str
    agent: str
    approval: str
    group: str


ApprovalEvent: TypeAlias = (
    ApprovalRequested
    | ApprovalApproved
    | ApprovalBypass
    | ApprovalDenied
    | ApprovalWithdrawn
    | ApprovalExpired
    | ApprovalEscalated
)
