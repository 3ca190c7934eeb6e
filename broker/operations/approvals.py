"""Approve, Deny, WithdrawApproval: what people say of held requests."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from broker.approval import OPEN, Approval, ApprovalState, Yes, why_unusable, withdrawn
from broker.audit.approval_events import (
    ApprovalApproved,
    ApprovalBypass,
    ApprovalDenied,
    ApprovalWithdrawn,
)
from broker.audit.event import Decided, Event
from broker.errors import Reason, Refusal
from broker.operations.approval_calls import ApprovalAnswered, ApprovalCall, ApproveCall
from broker.operations.approval_views import Reader, Views, said_by, target_of
from broker.operations.attempt import Visit
from broker.operations.record import Recorder, commit, position_of
from broker.operations.requirements import Asked
from broker.store.approval_items import ApprovalOpen, ChangeApproval
from broker.store.interface import Committed, Item

# To whoever decides; the reason's own sentence is the agent's.
_LOOK_AGAIN: Final = "This is not what you were shown. Please look at it again."


def changing(recorder: Recorder, before: Approval, after: Approval, event: Event) -> Item:
    """Return what is committed when an approval changes, if nobody has changed it meanwhile."""
    entry = recorder.entry(event)
    return Item(
        guards=(ApprovalOpen(approval=before.id, revision=before.revision),),
        writes=(ChangeApproval(approval=after),),
        accepted=lambda _: entry,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deciding:
    """A person about to decide about an approval."""

    reader: Reader
    asked: Asked
    said: Yes
    decided: Decided


def _deciding(views: Views, visit: Visit, call: ApproveCall | ApprovalCall) -> _Deciding:
    """Return who decides about what.

    Raises:
        Refusal: APPROVAL_UNKNOWN, APPROVER_REFUSED, AUTHENTICATION_STALE, and what policy says.

    """
    reader = views.reader(visit, call.context)
    asked = views.find(reader, call.approval)
    if reader.approver is None:
        raise Refusal(Reason.APPROVER_REFUSED)
    decided = views.attempt.allowed(visit, reader.decides, target_of(asked))
    reason = views.why_not(reader, asked)
    if reason is not None:
        raise Refusal(reason)
    return _Deciding(reader=reader, asked=asked, said=said_by(reader.approver, visit), decided=decided)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """Takes a yes; the one that makes all requirements met gives the approval."""

    views: Views

    def __call__(self, call: ApproveCall) -> ApprovalAnswered:
        """Return the approval as it is then, durable by then."""
        return self.views.attempt(call.context, "approve", lambda visit: self._approve(visit, call))

    def _approve(self, visit: Visit, call: ApproveCall) -> ApprovalAnswered:
        deciding = _deciding(self.views, visit, call)
        asked, approval = deciding.asked, deciding.asked.approval
        if call.digest != approval.digest():
            raise Refusal(Reason.APPROVAL_MISMATCH, sentence=_LOOK_AGAIN)
        with_it = asked.with_yes(replace(deciding.said, bypass=call.bypass))
        if _is_said(asked, with_it, deciding.said.person, visit.now):
            return ApprovalAnswered(shown=self.views.show(deciding.reader, asked), position=None)
        _require_pending(approval, visit.now)
        _check_bypass(approval, call.bypass)
        after = _with(with_it, visit.now)
        recorder = self.views.attempt.recorder
        items = [changing(recorder, approval, after, _approved(visit, deciding, after))]
        if after.bypass_until is not None:
            given = recorder.entry(_bypass(visit, deciding, after, after.bypass_until))
            items.append(
                Item(guards=(ApprovalOpen(approval=after.id, revision=after.revision + 1),), accepted=lambda _: given)
            )
        answer = commit(recorder.store, items)[0]
        if not isinstance(answer, Committed):
            raise Refusal(answer.reason)
        shown = self.views.show(deciding.reader, replace(asked, approval=after))
        return ApprovalAnswered(shown=shown, position=position_of(answer))


def _is_said(asked: Asked, with_it: Asked, person: str, now: datetime) -> bool:
    """Whether a person has said yes already, and again adds nothing: no newer sign-in that counts for more."""
    state = asked.approval.state_at(now)
    adds = state is ApprovalState.PENDING and with_it.counts_beyond(asked)
    return state in OPEN and asked.has_said(person) and not adds


def _require_pending(approval: Approval, now: datetime) -> None:
    state = approval.state_at(now)
    if state is not ApprovalState.PENDING:
        raise Refusal(why_unusable(state) or Reason.APPROVAL_USED, "it is decided already")


def _check_bypass(approval: Approval, bypass: timedelta | None) -> None:
    """Refuse a bypass that a requirement does not allow, or that no task would end."""
    if bypass is None:
        return
    longest = [each.bypass for each in approval.requirements]
    if not approval.intent.task or any(each is None or bypass > each for each in longest):
        raise Refusal(Reason.BYPASS_REFUSED)


def _with(asked: Asked, now: datetime) -> Approval:
    """Return an approval with a further yes: given, once everything is met."""
    approval = asked.approval
    if not asked.all_met():
        following = asked.next_escalation()
        return replace(approval, escalate_at=following[0] if following else None)
    until = now + min(each.good_for for each in approval.requirements)
    wanted = [each.bypass for each in approval.answers]
    # Each of them has to want it, and none of them for less.
    bypass = min((each for each in wanted if each is not None), default=None) if None not in wanted else None
    return replace(
        approval,
        state=ApprovalState.APPROVED,
        decided_at=now,
        usable_until=min(until, asked.task.deadline) if asked.task else until,
        escalate_at=None,
        bypass_until=None if bypass is None else now + bypass,
    )


def _approved(visit: Visit, deciding: _Deciding, after: Approval) -> ApprovalApproved:
    return ApprovalApproved(
        at=visit.now,
        caller=visit.caller,
        decided=deciding.decided,
        tenant=after.tenant,
        task=after.intent.task,
        agent=after.agent,
        approval=after.id,
        person=deciding.said.person,
        by_token=deciding.said.by_token,
        approvals=len(after.answers),
        complete=after.state is ApprovalState.APPROVED,
        usable_until=after.usable_until,
    )


def _bypass(visit: Visit, deciding: _Deciding, after: Approval, until: datetime) -> ApprovalBypass:
    return ApprovalBypass(
        at=visit.now,
        caller=visit.caller,
        decided=deciding.decided,
        tenant=after.tenant,
        task=after.intent.task,
        agent=after.agent,
        approval=after.id,
        person=deciding.said.person,
        action=after.intent.action,
        resource_type=after.intent.resource.type,
        audience=after.intent.audience,
        until=until,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """Takes a no; it also takes back a yes that was not used, and ends a bypass."""

    views: Views

    def __call__(self, call: ApprovalCall) -> ApprovalAnswered:
        """Return the approval as it is then, durable by then."""
        return self.views.attempt(call.context, "deny", lambda visit: self._deny(visit, call))

    def _deny(self, visit: Visit, call: ApprovalCall) -> ApprovalAnswered:
        deciding = _deciding(self.views, visit, call)
        approval = deciding.asked.approval
        after = _ended(approval, ApprovalState.DENIED, visit.now, call.text)
        event = ApprovalDenied(
            at=visit.now,
            caller=visit.caller,
            decided=deciding.decided,
            tenant=approval.tenant,
            task=approval.intent.task,
            agent=approval.agent,
            approval=approval.id,
            person=deciding.said.person,
            was=approval.state.value,
            text=call.text,
        )
        return _answered(self.views, deciding.reader, deciding.asked, after, event)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawApproval:
    """Takes back a request of the caller's, and ends its bypass."""

    views: Views

    def __call__(self, call: ApprovalCall) -> ApprovalAnswered:
        """Return the approval as it is then, durable by then."""
        return self.views.attempt(call.context, "withdraw_approval", lambda visit: self._withdraw(visit, call))

    def _withdraw(self, visit: Visit, call: ApprovalCall) -> ApprovalAnswered:
        reader = self.views.reader(visit, call.context)
        asked = self.views.find(reader, call.approval)
        if reader.approver is not None:
            raise Refusal(Reason.APPROVAL_UNKNOWN, "who may decide it denies it instead")
        approval = asked.approval
        after = _ended(approval, ApprovalState.WITHDRAWN, visit.now, call.text)
        event = ApprovalWithdrawn(
            at=visit.now,
            caller=visit.caller,
            tenant=approval.tenant,
            task=approval.intent.task,
            agent=approval.agent,
            approval=approval.id,
            was=approval.state.value,
            text=call.text,
        )
        return _answered(self.views, reader, asked, after, event)


def _ended(approval: Approval, state: ApprovalState, now: datetime, text: str) -> Approval:
    """Return an approval that somebody has ended.

    Raises:
        Refusal: there is nothing left of it to end; says what became of it.

    """
    bypassed = approval.bypass_until is not None and now < approval.bypass_until
    was = approval.state_at(now)
    if was not in OPEN and not bypassed:
        raise Refusal(why_unusable(was) or Reason.APPROVAL_USED, "it is over already")
    return replace(withdrawn(approval, now, text), state=state if was in OPEN else was)


def _answered(views: Views, reader: Reader, asked: Asked, after: Approval, event: Event) -> ApprovalAnswered:
    answer = views.attempt.commit(changing(views.attempt.recorder, asked.approval, after, event))
    shown = views.show(reader, replace(asked, approval=after))
    return ApprovalAnswered(shown=shown, position=position_of(answer))
