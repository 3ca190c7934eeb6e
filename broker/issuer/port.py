"""The one interface between door and issuer: evidence and a request go in, an answer or a refusal comes out.

The door says what a connection presented (Evidence), never who called: the issuer authenticates, on every call and
every page. Both sides speak in nouns; `wire.py` carries them over a private socket when the two are separate processes.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from broker.approval import ApprovalState, Yes
from broker.drifted import Drifted, DriftState
from broker.errors import Refusal
from broker.operations.approval_calls import (
    ApprovalAnswered,
    ApprovalCall,
    ApprovalList,
    ApprovalPage,
    ApprovalPageCall,
    ApproveCall,
    Details,
    History,
    ListApprovalsCall,
    Progress,
    ShownApproval,
)
from broker.operations.calls import (
    AuditEvent,
    AuditFilter,
    AuditPage,
    AuditPageCall,
    BeginTaskCall,
    Context,
    Ended,
    EndTaskCall,
    ExchangeAnswer,
    ExchangeCall,
    KeySet,
    LiftCall,
    Page,
    ReadCall,
    RefusedCall,
    RevocationPage,
    RevocationPageCall,
    RevokeCall,
    Revoked,
    SignedCheckpoint,
    Snapshot,
    Start,
)
from broker.operations.drift_calls import DriftedList, ListDriftedCall, ShownDrifted
from broker.operations.key_calls import KeyList, KeysChanged, ListedKey, RotateKeysCall
from broker.operations.outcome_calls import ReportAnswer, ReportCall, Reported
from broker.operations.override_calls import ImposeCall, LiftOverrideCall, Overridden, OverrideList
from broker.operations.redeem_calls import RedeemAnswer, RedeemCall, Redeemed
from broker.operations.task_calls import Continued, HeartbeatCall, NarrowTaskCall, ResumeTaskCall
from broker.outcome import Report, ReportKind
from broker.override import Override, Stop, StopKind
from broker.task import Task
from broker.trail import NO_TRAIL, Trail

__all__ = [
    "NO_TRAIL",
    "ApprovalAnswered",
    "ApprovalCall",
    "ApprovalList",
    "ApprovalPage",
    "ApprovalPageCall",
    "ApprovalState",
    "ApproveCall",
    "AuditEvent",
    "AuditFilter",
    "AuditPage",
    "AuditPageCall",
    "BeginTaskCall",
    "Change",
    "Context",
    "Continued",
    "Details",
    "DriftState",
    "Drifted",
    "DriftedList",
    "EndTaskCall",
    "Ended",
    "ExchangeAnswer",
    "ExchangeCall",
    "HeartbeatCall",
    "History",
    "ImposeCall",
    "Issuer",
    "KeyList",
    "KeySet",
    "KeysChanged",
    "LiftCall",
    "LiftOverrideCall",
    "ListApprovalsCall",
    "ListDriftedCall",
    "ListedKey",
    "NarrowTaskCall",
    "Overridden",
    "Override",
    "OverrideList",
    "Page",
    "Progress",
    "ReadCall",
    "RedeemAnswer",
    "RedeemCall",
    "Redeemed",
    "RefusedCall",
    "Report",
    "ReportAnswer",
    "ReportCall",
    "ReportKind",
    "Reported",
    "ResumeTaskCall",
    "RevocationPage",
    "RevocationPageCall",
    "RevokeCall",
    "Revoked",
    "RotateKeysCall",
    "ShownApproval",
    "ShownDrifted",
    "SignedCheckpoint",
    "Snapshot",
    "Start",
    "State",
    "Stop",
    "StopKind",
    "Task",
    "Trail",
    "Yes",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that readers must hear of.

    Attributes:
        size: of the log.
        epoch: rises when who may read may have changed.
        endings: rises when credentials may have ended, or a rule came into force or went out of it.
        approvals: rises when approvals, or drifted tasks, may have changed.

    """

    size: int
    epoch: int
    endings: int
    approvals: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the issuer stands on, for the admin socket."""

    size: int
    policy_digest: str
    policy_problem: str
    spiffe_id: str


class Issuer(Protocol):
    """Everything a door may ask for. Every method but `exchange` raises Refusal; `exchange` answers item by item."""

    async def exchange(self, calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        """Decide intents; each is authenticated, decided and recorded on its own."""

    async def begin_task(self, call: BeginTaskCall) -> Task:
        """Begin a task."""

    async def end_task(self, call: EndTaskCall) -> Ended:
        """End a task and its credentials."""

    async def heartbeat_task(self, call: HeartbeatCall) -> Continued:
        """Hear that a task is still worked on."""

    async def narrow_task(self, call: NarrowTaskCall) -> Continued:
        """Give a task a narrower boundary, and end what no longer fits."""

    async def resume_task(self, call: ResumeTaskCall) -> Ended:
        """Let a suspended task go on."""

    async def report(self, call: ReportCall) -> Reported:
        """Take what a service reports of its credentials; each report has an answer of its own."""

    async def revoke(self, call: RevokeCall) -> Ended:
        """Put a rule in force."""

    async def lift(self, call: LiftCall) -> Ended:
        """Take a rule out of force."""

    async def redeem(self, call: RedeemCall) -> Redeemed:
        """Spend a credential that is good once. Calls that wait together share one commit."""

    async def impose_override(self, call: ImposeCall) -> Overridden:
        """Stop something, at once. This and the next two do not wait behind exchanges."""

    async def lift_override(self, call: LiftOverrideCall) -> Overridden:
        """Lift an override that somebody else imposed."""

    async def list_overrides(self, call: ReadCall) -> OverrideList:
        """Return the overrides in force that concern the caller's tenants."""

    async def list_approvals(self, call: ListApprovalsCall) -> ApprovalList:
        """Return a page of the caller's approvals."""

    async def get_approval(self, call: ApprovalCall) -> ShownApproval:
        """Return one of them."""

    async def approve(self, call: ApproveCall) -> ApprovalAnswered:
        """Say yes to one."""

    async def deny(self, call: ApprovalCall) -> ApprovalAnswered:
        """Say no to one, or take back what was said."""

    async def withdraw_approval(self, call: ApprovalCall) -> ApprovalAnswered:
        """Take back a request of the caller's."""

    async def approval_page(self, call: ApprovalPageCall) -> ApprovalPage:
        """Return the next page of the caller's approvals as they change."""

    async def list_drifted(self, call: ListDriftedCall) -> DriftedList:
        """Return a page of the drifted tasks that wait for the caller."""

    async def key_set(self, call: ReadCall) -> KeySet:
        """Return the public keys."""

    async def list_keys(self, call: ReadCall) -> KeyList:
        """Return the keys with their states and times."""

    async def rotate_keys(self, call: RotateKeysCall) -> KeysChanged:
        """Let the next key follow, or take one away at once."""

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
