"""Drift: a task that is refused again and again what lies outside it is reported, and by its type suspended.

A refusal is counted in the store before it is told to anybody, each one: neither a restart, nor the rate at which
refusals are written, nor asking over several streams at once hides one. When as many as the type names have come within
its time, there is one event, and the counting begins anew. Whom the type names is told in that same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from broker.audit.event import Caller, Entry, TaskDrifted
from broker.credential.revocation import Rule, RuleKind
from broker.drifted import Drifted
from broker.errors import Reason
from broker.operations.attempt import ActivePolicy
from broker.operations.record import Recorder, commit, ranges_by_audience
from broker.policy.approver_groups import escalations
from broker.policy.drift import Drift
from broker.store.drift_items import AddDrifted
from broker.store.interface import (
    CountDrift,
    Effects,
    ForgetDrift,
    Item,
    SuspendTask,
    TaskOpen,
    Write,
)
from broker.task import Task

# What says that a task is asked for more than it is about.
OUTSIDE: Final = frozenset({Reason.TASK_BOUNDARY_EXCEEDED, Reason.DUTY_SEPARATED, Reason.SEQUENCE_REFUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Strayed:
    """A refusal of what lies outside a task, and of which action."""

    task: Task
    caller: Caller
    reason: Reason
    action: str


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
        lately = self.recorder.store.drift(task.id)
        counted = [(each.reason, each.action) for each in lately if each.at > now - drift.within]
        for each in strayed:
            reason = each.reason.name
            counted.append((reason, each.action))
            if len(counted) < drift.refusals:
                counting = CountDrift(task=task.id, at=now, reason=reason, action=each.action, keep=drift.refusals)
                items.append(Item(guards=(TaskOpen(task=task.id),), writes=(counting,)))
            else:
                reasons, actions = ({one for one in each if one} for each in zip(*counted, strict=True))
                told = self._told(task, drift, now, reasons=sorted(reasons), actions=sorted(actions))
                items.append(self._drifted(each, drift, told))
                counted = []
        return items

    def _told(self, task: Task, drift: Drift, now: datetime, *, reasons: list[str], actions: list[str]) -> Drifted:
        groups = self.policy().register.approver_groups
        following = next(escalations(groups, drift.escalate_to, now), None)
        return Drifted(
            task=task.id,
            agent=task.agent,
            tenant=task.tenant,
            group=drift.escalate_to,
            since=now,
            at=now,
            refusals=drift.refusals,
            within=drift.within,
            reasons=tuple(reasons),
            actions=tuple(actions),
            escalate_at=following[0] if following else None,
        )

    def _drifted(self, last: Strayed, drift: Drift, told: Drifted) -> Item:
        task, now = last.task, told.at
        writes: list[Write] = [ForgetDrift(task=task.id)]
        if told.group:
            writes.append(AddDrifted(drifted=told))
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
                reasons=told.reasons,
                refusals=drift.refusals,
                within=drift.within // timedelta(seconds=1),
                suspended=drift.suspends,
                revoked=len(revoked),
                status_indexes=ranges_by_audience(revoked),
                approvals=approvals,
                actions=told.actions,
                group=told.group,
            )
            return self.recorder.entry(event)

        return Item(guards=(TaskOpen(task=task.id),), writes=tuple(writes), accepted=entry)
