"""BeginTask, EndTask, and the end by deadline."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.audit.event import Caller, Decided, Entry, TaskBegun, TaskEnded
from broker.errors import Reason, Refusal
from broker.operations.attempt import Attempt, Clock, Visit
from broker.operations.calls import BeginTaskCall, Ended, EndTaskCall
from broker.operations.record import Recorder, commit, position_of, ranges_by_audience
from broker.policy.decide import resolve_tenant
from broker.policy.decision import Target, TargetKind
from broker.store.interface import AddTask, Effects, EndTask, Guard, Item, NotRevoked, TaskAlive, TaskOpen
from broker.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginTask:
    """Begins a task of the calling agent, pinned to one tenant."""

    attempt: Attempt
    default_lifetime: timedelta
    maximum_lifetime: timedelta

    def __call__(self, call: BeginTaskCall) -> Task:
        """Return the begun task, durable by then."""
        return self.attempt(call.context, "begin_task", lambda visit: self._begin(visit, call))

    def _begin(self, visit: Visit, call: BeginTaskCall) -> Task:
        agent_id = str(visit.principal.spiffe_id)
        agent = self.attempt.policy().agent(agent_id)
        if agent is None:
            raise Refusal(Reason.PRINCIPAL_UNKNOWN)
        if not agent.owned:
            raise Refusal(Reason.AGENT_WITHOUT_OWNER)
        if call.purpose not in agent.purposes:
            raise Refusal(Reason.PURPOSE_REFUSED)
        tenant = resolve_tenant(agent, call.tenant)
        decided = self.attempt.allowed(
            visit, "broker.task.begin", Target(kind=TargetKind.AGENT, id=agent_id, tenant=tenant)
        )
        lifetime = call.lifetime or self.default_lifetime
        if lifetime > self.maximum_lifetime:
            raise Refusal(Reason.TASK_DEADLINE_REFUSED, f"at most {self.maximum_lifetime}")
        task = Task(
            id=self.attempt.new_id("task"),
            agent=agent_id,
            begun_by=agent_id,
            tenant=tenant,
            purpose=call.purpose,
            conversation=call.conversation,
            begun_at=visit.now,
            deadline=visit.now + lifetime,
        )
        event = TaskBegun(
            at=visit.now,
            caller=visit.caller,
            decided=decided,
            tenant=tenant,
            task=task.id,
            purpose=task.purpose,
            conversation=task.conversation,
            deadline=task.deadline,
        )
        entry = self.attempt.recorder.entry(event)
        guard = NotRevoked(agent=agent_id, tenant=tenant, task="", policy_ids=decided.policies)
        self.attempt.commit(Item(guards=(guard,), writes=(AddTask(task=task),), accepted=lambda _: entry))
        return task


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTask:
    """Ends a task of the calling agent, and its credentials in the same transaction."""

    attempt: Attempt

    def __call__(self, call: EndTaskCall) -> Ended:
        """Return what it ended, durable by then."""
        return self.attempt(call.context, "end_task", lambda visit: self._finish(visit, call))

    def _finish(self, visit: Visit, call: EndTaskCall) -> Ended:
        agent = str(visit.principal.spiffe_id)
        task = self.attempt.recorder.store.task(call.task)
        if task is None or task.agent != agent:
            raise Refusal(Reason.TASK_UNKNOWN)
        decided = self.attempt.allowed(
            visit, "broker.task.end", Target(kind=TargetKind.TASK, id=task.id, tenant=task.tenant)
        )
        guard = TaskAlive(task=task.id, agent=agent, now=visit.now)
        item = _ending(self.attempt.recorder, task, visit.caller, "ended", visit.now, guard, decided=decided)
        answer = self.attempt.commit(item)
        return Ended(position=position_of(answer), revoked=len(answer.revoked))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireTasks:
    """Ends the tasks whose deadline has passed, and their credentials in the same transaction."""

    recorder: Recorder
    clock: Clock

    def __call__(self) -> int:
        """Return how many tasks ended.

        Raises:
            Refusal: AUDIT_UNAVAILABLE; they stay due, and no exchange passes under them meanwhile.

        """
        now = self.clock()
        due = self.recorder.store.tasks_due(now)
        if due:
            commit(
                self.recorder.store,
                [_ending(self.recorder, task, Caller(), "deadline", now, TaskOpen(task=task.id)) for task in due],
            )
        return len(due)


def _ending(
    recorder: Recorder,
    task: Task,
    caller: Caller,
    cause: str,
    now: datetime,
    *guards: Guard,
    decided: Decided | None = None,
) -> Item:
    def entry(revoked: Effects) -> Entry:
        event = TaskEnded(
            at=now,
            caller=caller,
            decided=decided,
            tenant=task.tenant,
            task=task.id,
            agent=task.agent,
            cause=cause,
            revoked=len(revoked),
            status_indexes=ranges_by_audience(revoked),
        )
        return recorder.entry(event)

    return Item(guards=guards, writes=(EndTask(task=task.id, at=now),), accepted=entry)
