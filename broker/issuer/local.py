"""The issuer in this process: the port's methods, each run on the worker thread."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from broker.errors import Refusal
from broker.issuer.batch import Worker
from broker.issuer.changes import Changes
from broker.issuer.port import (
    ApprovalAnswered,
    ApprovalCall,
    ApprovalList,
    ApprovalPage,
    ApprovalPageCall,
    ApproveCall,
    AuditPage,
    AuditPageCall,
    BeginTaskCall,
    Change,
    Context,
    Continued,
    DriftedList,
    Ended,
    EndTaskCall,
    ExchangeAnswer,
    ExchangeCall,
    HeartbeatCall,
    ImposeCall,
    KeyList,
    KeysChanged,
    KeySet,
    LiftCall,
    LiftOverrideCall,
    ListApprovalsCall,
    ListDriftedCall,
    NarrowTaskCall,
    Overridden,
    OverrideList,
    ReadCall,
    RedeemCall,
    Redeemed,
    RefusedCall,
    ReportCall,
    Reported,
    ResumeTaskCall,
    RevocationPage,
    RevocationPageCall,
    RevokeCall,
    RotateKeysCall,
    ShownApproval,
    SignedCheckpoint,
    State,
    Task,
)
from broker.operations.approval_reads import GetApproval, ListApprovals, ReadApprovals
from broker.operations.approvals import Approve, Deny, WithdrawApproval
from broker.operations.attempt import Attempt
from broker.operations.checkpoint import ReadCheckpoint
from broker.operations.drifted import ListDrifted, ResumeTaskOf
from broker.operations.exchange import Exchange
from broker.operations.outcome import ReportOutcomes
from broker.operations.override import Impose, LiftOverrides, ListOverrides
from broker.operations.redeem import Redeem
from broker.operations.revoke import Lift, Revoke
from broker.operations.rotate import ListKeys, ReadKeySet, RotateKeys
from broker.operations.subscribe import ReadAudit, ReadRevocations
from broker.operations.task import BeginTask, FinishTask
from broker.operations.task_going import HearTaskOf, NarrowTaskOf
from broker.person.source import IdentityIssuers

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verbs:
    """Every operation."""

    attempt: Attempt
    exchange: Exchange
    redeem: Redeem
    begin_task: BeginTask
    finish_task: FinishTask
    hear_task: HearTaskOf
    narrow_task: NarrowTaskOf
    resume_task: ResumeTaskOf
    report: ReportOutcomes
    revoke: Revoke
    lift: Lift
    impose_override: Impose
    lift_override: LiftOverrides
    list_overrides: ListOverrides
    list_approvals: ListApprovals
    get_approval: GetApproval
    approve: Approve
    deny: Deny
    withdraw_approval: WithdrawApproval
    read_approvals: ReadApprovals
    list_drifted: ListDrifted
    key_set: ReadKeySet
    list_keys: ListKeys
    rotate_keys: RotateKeys
    checkpoint: ReadCheckpoint
    revocations: ReadRevocations
    audit: ReadAudit


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalIssuer:
    """Implements the port over the worker.

    Attributes:
        worker: runs the operations, one after the other.
        verbs: the operations.
        feed: tells of changes.
        identities: verifies identity tokens; a verb that takes one waits for its keys here, before the worker.
        current_state: says what the issuer stands on.

    """

    worker: Worker
    verbs: Verbs
    feed: Changes
    identities: IdentityIssuers
    current_state: Callable[[], State]

    async def exchange(self, calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        """Decide intents; each is authenticated, decided and recorded on its own."""
        return await self.worker.together(self.verbs.exchange, calls)

    async def begin_task(self, call: BeginTaskCall) -> Task:
        """Begin a task."""
        return await self.worker.run(lambda: self.verbs.begin_task(call))

    async def end_task(self, call: EndTaskCall) -> Ended:
        """End a task and its credentials."""
        return await self.worker.run(lambda: self.verbs.finish_task(call))

    async def heartbeat_task(self, call: HeartbeatCall) -> Continued:
        """Hear that a task is still worked on."""
        return await self.worker.run(lambda: self.verbs.hear_task(call))

    async def narrow_task(self, call: NarrowTaskCall) -> Continued:
        """Give a task a narrower boundary, and end what no longer fits."""
        return await self.worker.run(lambda: self.verbs.narrow_task(call))

    async def resume_task(self, call: ResumeTaskCall) -> Ended:
        """Let a suspended task go on."""
        return await self._by_person(call.context, lambda: self.verbs.resume_task(call))

    async def report(self, call: ReportCall) -> Reported:
        """Take what a service reports of its credentials."""
        return await self.worker.run(lambda: self.verbs.report(call))

    async def revoke(self, call: RevokeCall) -> Ended:
        """Put a rule in force."""
        return await self.worker.run(lambda: self.verbs.revoke(call))

    async def lift(self, call: LiftCall) -> Ended:
        """Take a rule out of force."""
        return await self.worker.run(lambda: self.verbs.lift(call))

    async def redeem(self, call: RedeemCall) -> Redeemed:
        """Spend a credential that is good once."""
        (answer,) = await self.worker.together(self.verbs.redeem, [call])
        if isinstance(answer, Refusal):
            raise answer
        return answer

    async def impose_override(self, call: ImposeCall) -> Overridden:
        """Stop something, at once."""
        return await self.worker.run_first(lambda: self.verbs.impose_override(call))

    async def lift_override(self, call: LiftOverrideCall) -> Overridden:
        """Lift an override that somebody else imposed."""
        return await self.worker.run_first(lambda: self.verbs.lift_override(call))

    async def list_overrides(self, call: ReadCall) -> OverrideList:
        """Return the overrides in force that concern the caller's tenants."""
        return await self.worker.run_first(lambda: self.verbs.list_overrides(call))

    async def list_approvals(self, call: ListApprovalsCall) -> ApprovalList:
        """Return a page of the caller's approvals."""
        return await self._by_person(call.context, lambda: self.verbs.list_approvals(call))

    async def get_approval(self, call: ApprovalCall) -> ShownApproval:
        """Return one of them."""
        return await self._by_person(call.context, lambda: self.verbs.get_approval(call))

    async def approve(self, call: ApproveCall) -> ApprovalAnswered:
        """Say yes to one."""
        return await self._by_person(call.context, lambda: self.verbs.approve(call))

    async def deny(self, call: ApprovalCall) -> ApprovalAnswered:
        """Say no to one, or take back what was said."""
        return await self._by_person(call.context, lambda: self.verbs.deny(call))

    async def withdraw_approval(self, call: ApprovalCall) -> ApprovalAnswered:
        """Take back a request of the caller's."""
        return await self._by_person(call.context, lambda: self.verbs.withdraw_approval(call))

    async def approval_page(self, call: ApprovalPageCall) -> ApprovalPage:
        """Return the next page of the caller's approvals as they change."""
        return await self._by_person(call.context, lambda: self.verbs.read_approvals(call))

    async def list_drifted(self, call: ListDriftedCall) -> DriftedList:
        """Return a page of the drifted tasks that wait for the caller."""
        return await self._by_person(call.context, lambda: self.verbs.list_drifted(call))

    async def _by_person(self, context: Context, work: Callable[[], Answer]) -> Answer:
        """Run what a person may be behind, once the keys of the token that says so are fetched, or cannot be."""
        await self.identities.prepare(context.identity_token)
        return await self.worker.run(work)

    async def key_set(self, call: ReadCall) -> KeySet:
        """Return the public keys."""
        return await self.worker.run(lambda: self.verbs.key_set(call))

    async def list_keys(self, call: ReadCall) -> KeyList:
        """Return the keys with their states and times."""
        return await self.worker.run(lambda: self.verbs.list_keys(call))

    async def rotate_keys(self, call: RotateKeysCall) -> KeysChanged:
        """Let the next key follow, or take one away at once."""
        return await self.worker.run(lambda: self.verbs.rotate_keys(call))

    async def checkpoint(self, call: ReadCall) -> SignedCheckpoint:
        """Return the newest checkpoint, of everything committed before the call."""
        return await self.worker.run(lambda: self.verbs.checkpoint(call))

    async def refuse(self, call: RefusedCall) -> Refusal:
        """Authenticate, record and return the refusal to give: the authentication's own when that fails."""
        return await self.worker.run(lambda: self.verbs.attempt.refuse(call))

    async def authenticate(self, call: ReadCall) -> datetime:
        """Check who calls, nothing else; return when the caller's SVID ends."""
        return await self.worker.run(lambda: self.verbs.attempt.authenticate(call.context))

    async def revocation_page(self, call: RevocationPageCall) -> RevocationPage:
        """Return the next page of a reader's revocations."""
        return await self.worker.run(lambda: self.verbs.revocations(call))

    async def audit_page(self, call: AuditPageCall) -> AuditPage:
        """Return the next page of the audit log."""
        return await self.worker.run(lambda: self.verbs.audit(call))

    def changes(self) -> AsyncIterator[Change]:
        """Yield the newest state at once, then each change."""
        return self.feed.follow()

    async def state(self) -> State:
        """Return what the issuer stands on."""
        return await self.worker.run(self.current_state)
