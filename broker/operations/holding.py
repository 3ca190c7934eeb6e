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
from broker.policy.step_up import StepUp, StepUpKind
from broker.store.approval_items import ApprovalUsable, BypassInForce, ChangeApproval, FewPending, OpenApproval
from broker.store.interface import (
    Guard,
    Store,
    Write,
)

# Of one agent; of what waits for the task's person alone, of one agent and person. What is asked beyond is refused, so
# that what people see first is what was asked first.
MOST_PENDING: Final = 32
# Of those that could still be waiting: many short tasks may end with theirs, but nobody asks and takes back in a loop.
MOST_WITHDRAWN: Final = 32 * MOST_PENDING
# For a user whose own word is all that is missing.
_OWN_YES: Final = "This needs your own yes first."


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
        work.presented = approval.id
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
        earlier = self.store.approvals_for(work.agent, work.intent)
        _require_not_denied(work, earlier)
        if work.approval is not None:
            if _is_shown(work.approval, hold) and _suffices(work.approval, hold, work, policy):
                _require_fresh(work.approval, hold.requirements, work.now)
                return _permit(hold, work.approval)
            work.approval = None  # more is required by now, or less of it is met: people are asked anew
        elif (bypass := self._bypass(work, hold, policy)) is not None:
            work.bypass = bypass
            return _permit(hold, bypass)
        raise self._held(work, hold, policy, earlier)

    def _bypass(self, work: Work, hold: Hold, policy: CompiledPolicy) -> Approval | None:
        """Return the approval that lets this kind pass, if the policy in force still lets it, and for so long."""
        found = self.store.bypass_for(work.agent, work.intent, work.now)
        if found is None or found.decided_at is None:
            return None
        age = work.now - found.decided_at
        if any(each.bypass is None or age >= each.bypass for each in hold.requirements):
            return None
        return found if _suffices(found, hold, work, policy) else None

    def _held(self, work: Work, hold: Hold, policy: CompiledPolicy, earlier: Sequence[Approval]) -> Refusal:
        refusal = Refusal(
            Reason.STEP_UP_REQUIRED, policy_ids=hold.policy_ids, decision_id=work.decided.id if work.decided else ""
        )
        if not hold.requirements:
            return refusal  # nobody can meet what is not said
        same = (work.agent, work.intent.task, work.intent.digest())
        work.as_opened = work.opened.get(same)  # a neighbour in this group has asked for it
        waiting = work.as_opened.opening if work.as_opened else None
        if waiting is None:
            waiting, work.replaced = _waiting(earlier, work, hold, policy)
        if waiting is None:
            waiting = work.opening = self._opened(work, hold, policy)
            work.opened[same] = work
        refusal.held = waiting.held()
        if not any(each.kind is StepUpKind.GROUP for each in waiting.requirements):
            refusal.sentence = _OWN_YES
        return refusal

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


def _require_not_denied(work: Work, earlier: Sequence[Approval]) -> None:
    """Refuse what a person has said no to in this task: nobody is asked again, and nothing else lets it pass."""
    if work.intent.task and any(each.state is ApprovalState.DENIED for each in earlier):
        raise Refusal(Reason.APPROVAL_DENIED)


def _waiting(
    earlier: Sequence[Approval], work: Work, hold: Hold, policy: CompiledPolicy
) -> tuple[Approval | None, Approval | None]:
    """Return the approval for the same intent that can be waited for, and one that no longer suffices."""
    for each in earlier:
        match each.state_at(work.now):
            case ApprovalState.PENDING:
                same = each.tenant == hold.terms.tenant and each.covers(hold.requirements) and _is_shown(each, hold)
                return (each, None) if same else (None, each)
            case ApprovalState.APPROVED if _is_shown(each, hold) and _suffices(each, hold, work, policy):
                return each, None
            case _:
                pass
    return None, None


def _suffices(approval: Approval, hold: Hold, work: Work, policy: CompiledPolicy) -> bool:
    """Whether all that is required now was required then, for the same tenant, and is met by people who count now."""
    required, asked = hold.requirements, Asked(register=policy.register, approval=approval, task=work.task)
    same_tenant = approval.tenant == hold.terms.tenant
    return bool(required) and same_tenant and approval.covers(required) and all(map(asked.met, required))


def _is_shown(approval: Approval, hold: Hold) -> bool:
    """Whether people were shown all that would be granted now."""
    return approval.scope.includes(hold.terms.scope)


def _permit(hold: Hold, approval: Approval) -> Permit:
    """Return what is permitted: for no longer than those who approved were shown."""
    terms = replace(hold.terms, max_lifetime=min(hold.terms.max_lifetime, approval.lifetime))
    return Permit(terms=terms, policy_ids=hold.policy_ids, bundle_digest=hold.bundle_digest)


def _require_fresh(approval: Approval, requirements: tuple[StepUp, ...], now: datetime) -> None:
    decided = approval.decided_at
    if decided is None or any(now >= decided + each.good_for for each in requirements):
        raise Refusal(Reason.APPROVAL_EXPIRED)


# --- what is written ----------------------------------------------------------------------------------------------


def opening_guards(work: Work, opening: Approval) -> Sequence[Guard]:
    """Return what must still hold inside the transaction for a request to be opened."""
    # One that takes the place of another is none more.
    most = MOST_PENDING + (work.replaced is not None)
    few = FewPending(
        agent=work.agent, most=most, most_withdrawn=MOST_WITHDRAWN, now=work.now, person=_waited_for(work, opening)
    )
    return (*standing(work, tenant=opening.tenant, policy_ids=opening.policy_ids), few)


def _waited_for(work: Work, opening: Approval) -> str:
    """Return whom a request waits for, where that is nobody but the person of its task; else nothing."""
    group = any(each.kind is StepUpKind.GROUP for each in opening.requirements)
    return work.task.person if work.task and not group else ""


def opening_writes(work: Work, opening: Approval) -> Sequence[Write]:
    """Return what opens a request, and closes the one that it takes the place of."""
    opened = OpenApproval(approval=opening, person=_waited_for(work, opening))
    if work.replaced is None:
        return (opened,)
    closed = withdrawn(work.replaced, work.now)
    return (ChangeApproval(approval=closed), opened)


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
