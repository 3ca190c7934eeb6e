"""Drift: a task that is refused again and again what lies outside it is reported, and by its type suspended.

A refusal is counted in the store before it is told to anybody, each one: neither a restart, nor the rate at which
refusals are written, nor asking over several streams at once hides one. When as many as the type names have come within
its time, there is one event, and the counting begins anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from broker.audit.event import Caller, Entry, TaskDrifted, TaskResumed
from broker.credential.revocation import Rule, RuleKind
from broker.errors import Reason, Refusal
from broker.operations.attempt import ActivePolicy, Attempt, Visit
from broker.operations.calls import Ended
from broker.operations.record import Recorder, commit, position_of, ranges_by_audience
from broker.operations.task import target_of
from broker.operations.task_calls import ResumeTaskCall
from broker.policy.decision import Target, TargetKind
from broker.policy.drift import Drift
from broker.store.interface import (
    CountDrift,
    Effects,
    ForgetDrift,
    Item,
    ResumeTask,
    SuspendTask,
    TaskOpen,
    TaskSuspended,
    Write,
)
from broker.task import Task

RESUME: Final = "broker.task.resume"
# What says that a task is asked for more than it is about.
OUTSIDE: Final = frozenset({Reason.TASK_BOUNDARY_EXCEEDED, Reason.DUTY_SEPARATED, Reason.SEQUENCE_REFUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Strayed:
    """A refusal of what lies outside a task."""

    task: Task
    caller: Caller
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchDrift:
    """Counts what was refused outside of tasks, and acts where a task type says so."""

    recorder: Recorder
    policy: ActivePolicy

    def __call__(self, strayed: Sequence[Strayed], now: datetime) -> None:
        """Count, durably; report and suspend what has drifted.

        Raises:
            Refusal: AUDIT_UNAVAILABLE; nothing was counted, and no answer may be given.

        """
        by_task: dict[str, list[Strayed]] = {}
        for each in strayed:
            by_task.setdefault(each.task.id, []).append(each)
        items = [item for group in by_task.values() for item in self._count(group, now)]
        if items:
            commit(self.recorder.store, items)

    def _count(self, strayed: Sequence[Strayed], now: datetime) -> list[Item]:
        task = strayed[0].task
        kind = self.policy().register.task_types.get(task.type)
        drift = kind.drift if kind else None
        if drift is None:
            return []
        items: list[Item] = []
        counted = [each.reason for each in self.recorder.store.drift(task.id) if each.at > now - drift.within]
        for each in strayed:
            reason = each.reason.name
            counted.append(reason)
            if len(counted) < drift.refusals:
                counting = CountDrift(task=task.id, at=now, reason=reason, keep=drift.refusals)
                items.append(Item(guards=(TaskOpen(task=task.id),), writes=(counting,)))
            else:
                items.append(self._drifted(each, drift, tuple(sorted(set(counted))), now))
                counted = []
        return items

    def _drifted(self, last: Strayed, drift: Drift, reasons: tuple[str, ...], now: datetime) -> Item:
        task = last.task
        writes: list[Write] = [ForgetDrift(task=task.id)]
        approvals: tuple[str, ...] = ()
        if drift.suspends:
            writes.append(SuspendTask(task=task.id, at=now))
            approvals = tuple(self.recorder.store.approvals_under(Rule(kind=RuleKind.TASK, name=task.id), now))

        def entry(revoked: Effects) -> Entry:
            event = TaskDrifted(
                at=now,
                caller=last.caller,
                tenant=task.tenant,
                task=task.id,
                agent=task.agent,
                task_type=task.type,
                reasons=reasons,
                refusals=drift.refusals,
                within=drift.within // timedelta(seconds=1),
                suspended=drift.suspends,
                revoked=len(revoked),
                status_indexes=ranges_by_audience(revoked),
                approvals=approvals,
            )
            return self.recorder.entry(event)

        return Item(guards=(TaskOpen(task=task.id),), writes=tuple(writes), accepted=entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeTaskOf:
    """Lets a suspended task go on, for an operator; what ended with the suspension stays ended."""

    attempt: Attempt

    def __call__(self, call: ResumeTaskCall) -> Ended:
        """Return where it is recorded, durable by then."""
        return self.attempt(call.context, "resume_task", lambda visit: self._resume(visit, call))

    def _resume(self, visit: Visit, call: ResumeTaskCall) -> Ended:
        task = self.attempt.recorder.store.task(call.task)
        # What is unknown belongs to no tenant, so only who may resume anything learns that it is unknown.
        target = target_of(task) if task else Target(kind=TargetKind.TASK, id=call.task)
        decided = self.attempt.allowed(visit, RESUME, target)
        if task is None:
            raise Refusal(Reason.TASK_UNKNOWN)
        event = TaskResumed(
            at=visit.now,
            caller=visit.caller,
            decided=decided,
            tenant=task.tenant,
            task=task.id,
            agent=task.agent,
            text=call.text,
        )
        entry = self.attempt.recorder.entry(event)
        item = Item(
            guards=(TaskSuspended(task=task.id, now=visit.now),),
            writes=(ResumeTask(task=task.id), ForgetDrift(task=task.id)),
            accepted=lambda _: entry,
        )
        return Ended(position=position_of(self.attempt.commit(item)), revoked=0)
