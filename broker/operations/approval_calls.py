"""Calls and answers about approvals: what people and agents ask and are told, in nouns."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.approval import ApprovalState, Yes
from broker.intent import Intent
from broker.operations.calls import Context, Page
from broker.operations.drift_calls import ShownDrifted
from broker.policy.step_up import StepUp
from broker.scope import Scope
from broker.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class ListApprovalsCall:
    """The caller's approvals: in these states (none: pending), so many at most, from a token of the page before."""

    context: Context
    states: tuple[ApprovalState, ...] = ()
    page_size: int = 0
    page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalCall:
    """One approval: to be read, denied or withdrawn; and why."""

    context: Context
    approval: str
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveCall:
    """A yes to what a digest names; with a bypass: for how long this kind may go on without asking."""

    context: Context
    approval: str
    digest: str
    bypass: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPageCall:
    """The next page of the caller's approvals as they change; without a cursor from now on."""

    context: Context
    cursor: str = ""


# --- answers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A requirement, the groups that may answer it as well by now, and how many people count towards it."""

    required: StepUp
    escalated_to: tuple[str, ...]
    approvals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What an agent did of late: counted since then; and what became of what it asked people for."""

    since: datetime
    granted: int
    refused: int
    approved: int
    denied: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What an approver decides on.

    Attributes:
        digest: what Approve names.
        nonce: drawn when it was asked for.
        intent: in full.
        scope: what would be granted.
        lifetime: for how long at most.
        policy_ids: of the policies that would permit it.
        business_owner: who answers for the agent in business.
        security_owner: who answers for its security.
        history: what the agent did of late.
        task: in which it asks; None without one.
        answers: who has said yes so far.

    """

    digest: str
    nonce: str
    intent: Intent = field(repr=False)
    scope: Scope = field(repr=False)
    lifetime: timedelta
    policy_ids: tuple[str, ...]
    business_owner: str
    security_owner: str
    history: History
    task: Task | None
    answers: tuple[Yes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownApproval:
    """An approval as its reader sees it; what its members mean, `Approval` says.

    `state` is where it stands now, `requirements` how far each is met, `details` for who may decide it.
    """

    id: str
    state: ApprovalState
    agent: str
    tenant: str
    task: str
    requested_at: datetime
    pending_until: datetime
    intent_digest: str
    requirements: tuple[Progress, ...]
    decided_at: datetime | None = None
    usable_until: datetime | None = None
    bypass_until: datetime | None = None
    text: str = field(default="", repr=False)
    details: Details | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalList:
    """Approvals, the oldest first, and where the next page goes on; empty: nowhere."""

    approvals: tuple[ShownApproval, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAnswered:
    """An approval after an answer, and the position of its event; None when there was nothing to do."""

    shown: ShownApproval
    position: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPage:
    """A page of approvals that have changed, without details, and of drifted tasks that have."""

    page: Page
    approvals: tuple[ShownApproval, ...] = ()
    drifted: tuple[ShownDrifted, ...] = ()
