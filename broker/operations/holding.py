"""Holding: a held intent opens an approval, waits for one, or goes on with one. All is asked again when it is used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from broker.approval import Approval, ApprovalState, why_unusable, withdrawn
from broker.audit.approval_events import ApprovalRequested
from broker.errors import Reason, Refusal
from broker.operations.requirements import Asked
from broker.operations.work import Work, standing
from broker.policy.bundle import CompiledPolicy
from broker.policy.decision import Hold, Permit
from broker.policy.step_up import StepUp
from broker.store.approval_items import ApprovalUsable, BypassInForce, ChangeApproval, FewPending, OpenApproval
from broker.store.interface import (
    Guard,
    Store,
    Write,
)

# Of one agent. What it asks beyond is refused, so that what people see first is what was asked first.
MOST_PENDING: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Takes what a policy holds.

    Attributes:
        store: knows the approvals.
        nonce: gives fresh random bytes, as text.
        new_id: makes an id from its prefix.

    """

    store: Store
    nonce: Callable[[], str]
    new_id: Callable[[str], str]

    def present(self, work: Work) -> None:
        """Find the approval that an intent is asked with.

        Raises:
            Refusal: APPROVAL_*; what is another agent's is unknown.

        """
        if not work.call.approval:
            return
        approval = self.store.approval(work.call.approval)
        if approval is None or approval.agent != work.agent:
            raise Refusal(Reason.APPROVAL_UNKNOWN)
        if not approval.fits(work.intent, work.agent):
            raise Refusal(Reason.APPROVAL_MISMATCH)
        reason = why_unusable(approval.state_at(work.now))
        if reason is not None:
            raise Refusal(reason, held=approval.held() if reason is Reason.APPROVAL_PENDING else None)
        work.approval = approval

    def take(self, work: Work, hold: Hold, policy: CompiledPolicy) -> Permit:
        """Return what is permitted, because people have approved it.

        Raises:
            Refusal: STEP_UP_REQUIRED, with the approval to wait for; APPROVAL_DENIED, APPROVAL_EXPIRED.

        """
        permit = Permit(terms=hold.terms, policy_ids=hold.policy_ids, bundle_digest=hold.bundle_digest)
        if work.approval is not None:
            if _suffices(work.approval, hold.requirements, work, policy):
                _require_fresh(work.approval, hold.requirements, work.now)
                return permit
            work.approval = None  # more is required by now, or less of it is met: people are asked anew
        elif (bypass := self._bypass(work, hold.requirements, policy)) is not None:
            work.bypass = bypass
            return permit
        raise self._held(work, hold, policy)

    def _bypass(self, work: Work, requirements: tuple[StepUp, ...], policy: CompiledPolicy) -> Approval | None:
        """Return the approval that lets this kind pass, if the policy in force still lets it."""
        found = self.store.bypass_for(work.agent, work.intent, work.now)
        if found is None or any(each.bypass is None for each in requirements):
            return None
        return found if _suffices(found, requirements, work, policy) else None

    def _held(self, work: Work, hold: Hold, policy: CompiledPolicy) -> Refusal:
        refusal = Refusal(
            Reason.STEP_UP_REQUIRED, policy_ids=hold.policy_ids, decision_id=work.decided.id if work.decided else ""
        )
        if not hold.requirements:
            return refusal  # nobody can meet what is not said
        same = (work.agent, work.intent.task, work.intent.digest())
        work.as_opened = work.opened.get(same)  # a neighbour in this group has asked for it
        waiting = work.as_opened.opening if work.as_opened else None
        if waiting is None:
            waiting, work.replaced = self._waiting(work, hold.requirements, policy)
        if waiting is None:
            waiting = work.opening = self._opened(work, hold, policy)
            work.opened[same] = work
        refusal.held = waiting.held()
        return refusal

    def _waiting(
        self, work: Work, requirements: tuple[StepUp, ...], policy: CompiledPolicy
    ) -> tuple[Approval | None, Approval | None]:
        """Return the approval for the same intent that can be waited for, and one that no longer suffices.

        Raises:
            Refusal: APPROVAL_DENIED, a person has said no to this in this task: nobody is asked again.

        """
        for each in self.store.approvals_for(work.agent, work.intent):
            match each.state_at(work.now):
                case ApprovalState.PENDING:
                    return (each, None) if each.covers(requirements) else (None, each)
                case ApprovalState.APPROVED if _suffices(each, requirements, work, policy):
                    return each, None
                case ApprovalState.DENIED if work.intent.task:
                    raise Refusal(Reason.APPROVAL_DENIED)
                case _:
                    pass
        return None, None

    def _opened(self, work: Work, hold: Hold, policy: CompiledPolicy) -> Approval:
        until = work.now + min(each.pending_for for each in hold.requirements)
        approval = Approval(
            id=self.new_id("appr"),
            agent=work.agent,
            tenant=hold.terms.tenant,
            task_type=work.task.type if work.task else "",
            intent=work.intent,
            action_class=hold.terms.action_class.value,
            nonce=self.nonce(),
            requirements=hold.requirements,
            policy_ids=hold.policy_ids,
            scope=hold.terms.scope,
            lifetime=hold.terms.max_lifetime,
            requested_at=work.now,
            pending_until=min(until, work.task.deadline) if work.task else until,
        )
        following = Asked(register=policy.register, approval=approval, task=work.task).next_escalation()
        return replace(approval, escalate_at=following[0] if following else None)


def _suffices(approval: Approval, requirements: tuple[StepUp, ...], work: Work, policy: CompiledPolicy) -> bool:
    """Whether all that is required now was required then, and is met by people who count now."""
    asked = Asked(register=policy.register, approval=approval, task=work.task)
    return approval.covers(requirements) and all(map(asked.met, requirements))


def _require_fresh(approval: Approval, requirements: tuple[StepUp, ...], now: datetime) -> None:
    decided = approval.decided_at
    if decided is None or any(now >= decided + each.good_for for each in requirements):
        raise Refusal(Reason.APPROVAL_EXPIRED)


# --- what is written ----------------------------------------------------------------------------------------------


def opening_guards(work: Work, opening: Approval) -> Sequence[Guard]:
    """Return what must still hold inside the transaction for a request to be opened."""
    few = FewPending(agent=work.agent, most=MOST_PENDING, now=work.now)
    return (*standing(work, tenant=opening.tenant, policy_ids=opening.policy_ids), few)


def opening_writes(work: Work, opening: Approval) -> Sequence[Write]:
    """Return what opens a request, and closes the one that it takes the place of."""
    if work.replaced is None:
        return (OpenApproval(approval=opening),)
    closed = withdrawn(work.replaced, work.now)
    return (ChangeApproval(approval=closed), OpenApproval(approval=opening))


def requesting(work: Work, opening: Approval) -> ApprovalRequested:
    """Return the event of a request that is opened."""
    assert work.decided is not None  # noqa: S101
    return ApprovalRequested(
        at=work.now,
        caller=work.caller,
        intent=work.intent.canonical_object(),
        intent_digest=work.intent.digest(),
        decided=work.decided,
        tenant=opening.tenant,
        task=work.intent.task,
        transaction=work.transaction,
        approval=opening.id,
        requirements=tuple(each.to_json() for each in opening.requirements),
        pending_until=opening.pending_until,
        replaces=work.replaced.id if work.replaced else "",
        trail=work.call.trail.to_json(),
    )


def using_guards(work: Work) -> Sequence[Guard]:
    """Return what must hold for a credential that people have approved."""
    if work.approval is not None:
        return (ApprovalUsable(approval=work.approval.id, now=work.now),)
    return (BypassInForce(approval=work.bypass.id, now=work.now),) if work.bypass is not None else ()


def using_writes(work: Work) -> Sequence[Write]:
    """Return what makes an approval used."""
    if work.approval is None:
        return ()
    return (ChangeApproval(approval=replace(work.approval, state=ApprovalState.USED)),)
