"""Heartbeat and NarrowTask: a task that goes on keeps only the credentials that it would be given now."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from broker.approval import Approval, withdrawn
from broker.audit.event import Decided, Entry, TaskJudged, TaskNarrowed
from broker.boundary import Boundary
from broker.credential.revocation import Rule, RuleKind
from broker.errors import Reason, Refusal
from broker.operations.attempt import Attempt, Visit
from broker.operations.judged import intent_of, would_refuse
from broker.operations.record import ranges_by_audience
from broker.operations.task import callers_task, target_of
from broker.operations.task_calls import Continued, HeartbeatCall, NarrowTaskCall
from broker.store.approval_items import ChangeApproval
from broker.store.interface import (
    Effects,
    EndCredentials,
    Guard,
    HearTask,
    HeldGrant,
    Item,
    NarrowTask,
    NotRevoked,
    Store,
    TaskAlive,
    Write,
)
from broker.task import Task, silent_at


@dataclass(frozen=True, slots=True, kw_only=True)
class HearTaskOf:
    """Takes a heartbeat, and judges by the policy in force what was given under another."""

    attempt: Attempt

    def __call__(self, call: HeartbeatCall) -> Continued:
        """Return the task as it is now, durable by then."""
        return self.attempt(call.context, "heartbeat_task", lambda visit: self._hear(visit, call))

    def _hear(self, visit: Visit, call: HeartbeatCall) -> Continued:
        policy = self.attempt.policy()
        task = callers_task(self.attempt, visit, call.task)
        store = self.attempt.recorder.store
        refused = {
            held.grant.credential_id: reason.name
            for held in store.held(task.id, visit.now, unless_under=policy.digest)
            if (reason := would_refuse(policy, task, held, visit.now, approved=_approved(store, held))) is not None
        }
        due = silent_at(visit.now, task.heartbeat)
        writes: list[Write] = [HearTask(task=task.id, silent_at=due)] if due else []
        if refused:
            writes.append(EndCredentials(credentials=tuple(refused), at=visit.now))

        def entry(revoked: Effects) -> Entry:
            event = TaskJudged(
                at=visit.now,
                caller=visit.caller,
                tenant=task.tenant,
                task=task.id,
                agent=task.agent,
                bundle=policy.digest,
                reasons=tuple(sorted(set(refused.values()))),
                revoked=len(revoked),
                status_indexes=ranges_by_audience(revoked),
            )
            return self.attempt.recorder.entry(event)

        item = Item(guards=_going(task, visit), writes=tuple(writes), accepted=entry if refused else None)
        answer = self.attempt.commit(item)
        return Continued(task=replace(task, silent_at=due), revoked=len(answer.revoked))


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrowTaskOf:
    """Gives a task a narrower boundary, and ends what no longer fits in the same transaction."""

    attempt: Attempt

    def __call__(self, call: NarrowTaskCall) -> Continued:
        """Return the task as it is now, durable by then."""
        return self.attempt(call.context, "narrow_task", lambda visit: self._narrow(visit, call))

    def _narrow(self, visit: Visit, call: NarrowTaskCall) -> Continued:
        task = callers_task(self.attempt, visit, call.task)
        # Who may end all of it may end a part.
        decided = self.attempt.allowed(visit, "broker.task.end", target_of(task))
        if call.boundary == Boundary():
            raise Refusal(Reason.REQUEST_INVALID, "boundary: names nothing")
        narrower = replace(task, boundary=task.boundary.narrowed(call.boundary), revision=task.revision + 1)
        store = self.attempt.recorder.store
        unfit = tuple(
            held.grant.credential_id
            for held in store.held(task.id, visit.now)
            if narrower.boundary.outside(intent_of(task, held))
        )
        pending = _pending_outside(store, narrower, visit.now)
        writes: list[Write] = [NarrowTask(task=task.id, boundary=narrower.boundary)]
        writes += [ChangeApproval(approval=each) for each in pending]
        if unfit:
            writes.append(EndCredentials(credentials=unfit, at=visit.now))
        narrowed = _Narrowed(
            decided=decided, task=narrower, text=call.text, approvals=tuple(each.id for each in pending)
        )
        item = Item(
            guards=_going(task, visit),
            writes=tuple(writes),
            accepted=lambda revoked: self._entry(visit, narrowed, revoked),
        )
        return Continued(task=narrower, revoked=len(self.attempt.commit(item).revoked))

    def _entry(self, visit: Visit, narrowed: "_Narrowed", revoked: Effects) -> Entry:
        task = narrowed.task
        event = TaskNarrowed(
            at=visit.now,
            caller=visit.caller,
            decided=narrowed.decided,
            tenant=task.tenant,
            task=task.id,
            agent=task.agent,
            boundary=task.boundary.to_json(),
            text=narrowed.text,
            revoked=len(revoked),
            status_indexes=ranges_by_audience(revoked),
            approvals=narrowed.approvals,
        )
        return self.attempt.recorder.entry(event)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Narrowed:
    """What an event says of a task that goes on within less."""

    decided: Decided
    task: Task
    text: str
    approvals: tuple[str, ...]


def _approved(store: Store, held: HeldGrant) -> Approval | None:
    return store.approval(held.approval) if held.approval else None


def _pending_outside(store: Store, task: Task, now: datetime) -> Sequence[Approval]:
    """Return the open approvals of a task that lie outside its boundary, as they are once they are withdrawn."""
    ids = store.approvals_under(Rule(kind=RuleKind.TASK, name=task.id), now)
    found = [approval for each in ids if (approval := store.approval(each)) is not None]
    return [withdrawn(each, now) for each in found if task.boundary.outside(each.intent)]


def _going(task: Task, visit: Visit) -> tuple[Guard, ...]:
    """What must still hold inside the transaction for a task to go on."""
    return (
        NotRevoked(agent=task.agent, tenant=task.tenant, task=task.id, policy_ids=()),
        # A suspended task is heard of, and may be narrowed: that gives nothing.
        TaskAlive(task=task.id, agent=task.agent, now=visit.now, revision=task.revision, even_suspended=True),
    )
