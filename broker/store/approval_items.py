"""Items of approvals: what is written of them, and the guards under which they are answered and used."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from broker.approval import Approval, ApprovalState


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalOpen:
    """The approval can still be answered or taken back, and nobody has changed it since it was read.

    Refused with APPROVAL_UNKNOWN or the reason of its state; `revision` is the one that was read.
    """

    approval: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalUsable:
    """The approval was given, is not used, and is not over at `now`. Refused with APPROVAL_UNKNOWN or of its state."""

    approval: str
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BypassInForce:
    """The bypass that was given with an approval is not over at `now`, nor ended. Refused with STEP_UP_REQUIRED."""

    approval: str
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FewPending:
    """Fewer than `most` requests of this agent wait for people. Refused with LIMIT_APPROVALS.

    And fewer than `most_withdrawn` were taken back of those that could still be waiting: else an agent that asks and
    takes back, over and over, would fill the store. With a `person`, those are counted that wait for nobody but the one
    whom their task is for, of this one; without, all others: no customer uses up what is another's, or a group's.
    """

    agent: str
    most: int
    most_withdrawn: int
    now: datetime
    person: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenApproval:
    """Remember a held request; and whom it waits for, where that is nobody but the person of its task. Personal."""

    approval: Approval
    person: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeApproval:
    """Write where an approval stands now; what was asked never changes. Guard it with the revision that was read."""

    approval: Approval


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalView:
    """Which approvals are looked at. At most one of `agent`, `begun_by` and `tenants` restricts.

    Attributes:
        states: only in these, as they were written; none: in all.
        agent: only this agent's.
        begun_by: only those of tasks that this principal began.
        persons: of these, only those of tasks that it began for one of these people; none: for anybody.
        tenants: only those of these tenants; None: of all.

    """

    states: tuple[ApprovalState, ...] = ()
    agent: str = ""
    begun_by: str = ""
    persons: tuple[str, ...] = ()
    tenants: tuple[str, ...] | None = None


ApprovalGuard: TypeAlias = ApprovalOpen | ApprovalUsable | BypassInForce | FewPending
ApprovalWrite: TypeAlias = OpenApproval | ChangeApproval
