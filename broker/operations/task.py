"""BeginTask, EndTask, CancelTask, and the ends that come by themselves: at the deadline, and in silence."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from broker.audit.event import Caller, Decided, Entry, TaskBegun, TaskEnded
from broker.credential.revocation import Rule, RuleKind
from broker.errors import Reason, Refusal
from broker.operations.attempt import Attempt, Clock, Visit
from broker.operations.calls import BeginTaskCall, Ended, EndTaskCall
from broker.operations.record import Recorder, commit, position_of, ranges_by_audience
from broker.policy.decide import resolve_tenant
from broker.policy.decision import Target, TargetKind
from broker.policy.entities import Agent
from broker.policy.task_types import TaskType, task_type_of
from broker.store.interface import AddTask, Effects, EndTask, Guard, Item, NotRevoked, TaskAlive, TaskOpen
from broker.task import Task, silent_at

_DIGEST: Final = re.compile(r"sha-256:[A-Za-z0-9_-]{43}")
_CAUSES: Final = {Reason.TASK_DEADLINE_PASSED: "deadline", Reason.TASK_HEARTBEAT_MISSED: "heartbeat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginTask:
    """Begins a task of an agent, pinned to one tenant, within its type; for the agent itself, or for its front end."""

    attempt: Attempt
    default_lifetime: timedelta
    maximum_lifetime: timedelta

    def __call__(self, call: BeginTaskCall) -> Task:
        """Return the begun task, durable by then."""
        return self.attempt(call.context, "begin_task", lambda visit: self._begin(visit, call))

    def _begin(self, visit: Visit, call: BeginTaskCall) -> Task:
        who = str(visit.principal.spiffe_id)
        agent = self._agent(who, call)
        if call.purpose not in agent.purposes:
            raise Refusal(Reason.PURPOSE_REFUSED)
        tenant = resolve_tenant(agent, call.tenant)
        kind = task_type_of(
            self.attempt.policy().register,
            call.type,
            agent=agent.spiffe_id,
            purpose=call.purpose,
            tenant=tenant,
            begun_by=who,
        )
        target = Target(kind=TargetKind.AGENT, id=agent.spiffe_id, tenant=tenant)
        decided = self.attempt.allowed(visit, "broker.task.begin", target)
        heartbeat = _heartbeat(call.heartbeat, kind)
        task = Task(
            id=self.attempt.new_id("task"),
            agent=agent.spiffe_id,
            begun_by=who,
            tenant=tenant,
            purpose=call.purpose,
            conversation=call.conversation,
            begun_at=visit.now,
            deadline=visit.now + self._lifetime(call.lifetime, kind),
            type=kind.name if kind else "",
            boundary=kind.boundary.narrowed(call.boundary) if kind else call.boundary,
            heartbeat=heartbeat,
            silent_at=silent_at(visit.now, heartbeat),
            person=call.person,
            asked=call.asked,
        )
        entry = self.attempt.recorder.entry(_begun(visit, decided, task))
        guard = NotRevoked(agent=task.agent, tenant=tenant, task="", policy_ids=decided.policies)
        self.attempt.commit(Item(guards=(guard,), writes=(AddTask(task=task),), accepted=lambda _: entry))
        return task

    def _agent(self, who: str, call: BeginTaskCall) -> Agent:
        """Return whose task it will be: the caller's, or that of an agent which the caller is a front end of."""
        policy = self.attempt.policy()
        agent = policy.agent(call.agent or who)
        if call.agent not in {"", who}:
            # One answer for what is unknown and for what is another's: the difference would tell which agents exist.
            types = policy.register.task_types.values()
            if agent is None or not any(agent.spiffe_id in kind.agents and who in kind.begun_by for kind in types):
                raise Refusal(Reason.TASK_TYPE_REFUSED)
            if not call.person or not _DIGEST.fullmatch(call.asked):
                raise Refusal(Reason.REQUEST_INVALID, "person, asked_digest: a front end names both")
        elif call.person or call.asked:
            raise Refusal(Reason.REQUEST_INVALID, "person, asked_digest: for a front end to name")
        if agent is None:
            raise Refusal(Reason.PRINCIPAL_UNKNOWN)
        if not agent.owned:
            raise Refusal(Reason.AGENT_WITHOUT_OWNER)
        return agent

    def _lifetime(self, asked: timedelta | None, kind: TaskType | None) -> timedelta:
        maximum = min(self.maximum_lifetime, kind.maximum_age) if kind else self.maximum_lifetime
        if asked is not None and asked > maximum:
            raise Refusal(Reason.TASK_DEADLINE_REFUSED, f"at most {maximum}")
        return asked or min(self.default_lifetime, maximum)


def _heartbeat(asked: timedelta | None, kind: TaskType | None) -> timedelta | None:
    """Return how often a task must be heard of: the more often of what was asked and what its type says."""
    return min((each for each in (asked, kind.heartbeat if kind else None) if each is not None), default=None)


def _begun(visit: Visit, decided: Decided, task: Task) -> TaskBegun:
    return TaskBegun(
        at=visit.now,
        caller=visit.caller,
        decided=decided,
        tenant=task.tenant,
        task=task.id,
        purpose=task.purpose,
        conversation=task.conversation,
        deadline=task.deadline,
        agent=task.agent,
        task_type=task.type,
        boundary=task.boundary.to_json(),
        heartbeat=None if task.heartbeat is None else task.heartbeat // timedelta(seconds=1),
        person=task.person,
        asked=task.asked,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTask:
    """Ends or cancels a task of the caller, and its credentials in the same transaction."""

    attempt: Attempt

    def __call__(self, call: EndTaskCall) -> Ended:
        """Return what it ended, durable by then."""
        operation = "cancel_task" if call.cancelled else "end_task"
        return self.attempt(call.context, operation, lambda visit: self._finish(visit, call))

    def _finish(self, visit: Visit, call: EndTaskCall) -> Ended:
        task = callers_task(self.attempt, visit, call.task)
        decided = self.attempt.allowed(visit, "broker.task.end", target_of(task))
        guard = TaskAlive(task=task.id, agent=task.agent, now=visit.now, even_suspended=True)
        cause = "cancelled" if call.cancelled else "ended"
        end = _End(task=task, caller=visit.caller, cause=cause, at=visit.now, decided=decided, text=call.text)
        answer = self.attempt.commit(end.item(self.attempt.recorder, guard))
        return Ended(position=position_of(answer), revoked=len(answer.revoked))


def callers_task(attempt: Attempt, visit: Visit, name: str) -> Task:
    """Return a task of the caller's: its own, or one that it began for an agent.

    Raises:
        Refusal: TASK_UNKNOWN, the same for what is another's and for what is nobody's.

    """
    task = attempt.recorder.store.task(name)
    if task is None or str(visit.principal.spiffe_id) not in {task.agent, task.begun_by}:
        raise Refusal(Reason.TASK_UNKNOWN)
    return task


def target_of(task: Task) -> Target:
    """Return what policy is asked about."""
    return Target(kind=TargetKind.TASK, id=task.id, tenant=task.tenant)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireTasks:
    """Ends the tasks that are over by themselves, and their credentials in the same transaction."""

    recorder: Recorder
    clock: Clock

    def __call__(self) -> int:
        """Return how many tasks ended.

        Raises:
            Refusal: AUDIT_UNAVAILABLE; they stay due, and no exchange passes under them meanwhile.

        """
        now = self.clock()
        due = [(task, task.over(now)) for task in self.recorder.store.tasks_due(now)]
        ends = [_End(task=task, caller=Caller(), cause=_CAUSES[why], at=now) for task, why in due if why in _CAUSES]
        if ends:
            commit(self.recorder.store, [end.item(self.recorder, TaskOpen(task=end.task.id)) for end in ends])
        return len(ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """The end of a task."""

    task: Task
    caller: Caller
    cause: str
    at: datetime
    decided: Decided | None = None
    text: str = ""

    def item(self, recorder: Recorder, guard: Guard) -> Item:
        """Return what is committed."""
        approvals = tuple(recorder.store.approvals_under(Rule(kind=RuleKind.TASK, name=self.task.id), self.at))
        return Item(
            guards=(guard,),
            writes=(EndTask(task=self.task.id, at=self.at),),
            accepted=lambda revoked: self._entry(recorder, revoked, approvals),
        )

    def _entry(self, recorder: Recorder, revoked: Effects, approvals: tuple[str, ...]) -> Entry:
        event = TaskEnded(
            at=self.at,
            caller=self.caller,
            decided=self.decided,
            tenant=self.task.tenant,
            task=self.task.id,
            agent=self.task.agent,
            cause=self.cause,
            revoked=len(revoked),
            status_indexes=ranges_by_audience(revoked),
            text=self.text,
            approvals=approvals,
        )
        return recorder.entry(event)
