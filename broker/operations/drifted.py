"""Drifted tasks and the people who are told of them: who sees which, who lets one go on, and who is told next.

They go the way of held requests: to a group of the bundle, and along its `escalate_to` while nobody answers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.audit.cursor import Place, seal, unseal
from broker.audit.event import TaskEscalated, TaskResumed
from broker.drifted import Drifted, DriftState
from broker.errors import Reason, Refusal
from broker.intent import digest
from broker.operations.approval_views import DECIDE, READ, Reader, Views
from broker.operations.attempt import ActivePolicy, Attempt, Clock, Visit
from broker.operations.calls import Ended
from broker.operations.drift_calls import DriftedList, ListDriftedCall, ShownDrifted
from broker.operations.record import Recorder, commit, position_of
from broker.operations.task import target_of
from broker.operations.task_calls import ResumeTaskCall
from broker.policy.approver_groups import ApproverGroup, escalations
from broker.policy.decision import Target, TargetKind
from broker.store.drift_items import DriftOpen, EscalateDrifted
from broker.store.interface import ForgetDrift, Item, ResumeTask, TaskSuspended
from broker.task import Task

RESUME: Final = "broker.task.resume"
DRIFTED_A_PAGE: Final = 50
# How many are looked at for one page: most of a tenant's may be for others.
SCANNED_A_PAGE: Final = 500
_NEVER: Final = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftViews:
    """Shows drifted tasks: to members of the groups that were told, and to operators who may resume them anyway."""

    views: Views

    @property
    def attempt(self) -> Attempt:
        """The way in."""
        return self.views.attempt

    def shown(self, reader: Reader, drifted: Drifted) -> ShownDrifted | None:
        """Return what a reader sees of a drifted task; None: nothing."""
        task = self.attempt.recorder.store.task(drifted.task)
        if task is None or not (self.answers(reader, drifted, task, READ) or self._resumes(reader, task)):
            return None
        agent = self.attempt.policy().register.agents.get(task.agent)
        return ShownDrifted(
            drifted=drifted,
            task=task,
            business_owner=agent.business_owner if agent else "",
            security_owner=agent.security_owner if agent else "",
        )

    def answers(self, reader: Reader, drifted: Drifted, task: Task, action: str) -> bool:
        """Whether a reader is of a group that was told, is no part of it, and policy lets the connection do this.

        Whoever signed in as a customer is heard about tasks of their own alone, whatever else they are.
        """
        if reader.approver is None or reader.is_customer or takes_part(reader, task):
            return False
        of_group = not set(drifted.groups).isdisjoint(reader.approver.person.groups)
        return of_group and self.views.may(reader, action, target_of(task))

    def _resumes(self, reader: Reader, task: Task) -> bool:
        # A tool that may do this for itself shows nothing of it to whoever has a token.
        own = reader.approver is not None and reader.approver.identity is None
        return own and not takes_part(reader, task) and self.views.may(reader, RESUME, target_of(task))


def takes_part(reader: Reader, task: Task) -> bool:
    """Whether a caller is the agent, or who began the task, or the person for whom it was begun, by whichever name."""
    if str(reader.visit.principal.spiffe_id) in {task.agent, task.begun_by}:
        return True
    return reader.approver is not None and bool(task.person) and task.person in reader.approver.person.known_as


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDrifted:
    """The drifted tasks that wait for the caller, the oldest first."""

    drift: DriftViews

    def __call__(self, call: ListDriftedCall) -> DriftedList:
        """Return a page of them; it may be short, or empty, and not the last."""
        return self.drift.attempt(call.context, "list_drifted_tasks", lambda visit: self._list(visit, call))

    def _list(self, visit: Visit, call: ListDriftedCall) -> DriftedList:
        reader, store = self.drift.views.reader(visit, call.context), self.drift.attempt.recorder.store
        place = Place(log=store.log_id, stream="drifted", reader=reader.name, view=digest(b"open"))
        number = unseal(call.page_token, place, store.cursor_key, _NEVER, lambda _: "") if call.page_token else 0
        if reader.approver is None or reader.is_customer:
            return DriftedList(drifted=())
        found = store.drifted_after(number, reader.view.tenants, SCANNED_A_PAGE)
        size = min(call.page_size, DRIFTED_A_PAGE) if call.page_size > 0 else DRIFTED_A_PAGE
        shown: list[ShownDrifted] = []
        for scanned, (at, each) in enumerate(found, start=1):
            if (seen := self.drift.shown(reader, each)) is not None:
                shown.append(seen)
            if len(shown) == size and scanned < len(found):
                return DriftedList(drifted=tuple(shown), next_page_token=seal(place, at, "", store.cursor_key))
        if len(found) < SCANNED_A_PAGE:
            return DriftedList(drifted=tuple(shown))
        return DriftedList(drifted=tuple(shown), next_page_token=seal(place, found[-1][0], "", store.cursor_key))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeTaskOf:
    """Lets a drifted task go on, for who was told of it or an operator; what ended with its suspension stays ended."""

    drift: DriftViews

    def __call__(self, call: ResumeTaskCall) -> Ended:
        """Return where it is recorded, durable by then."""
        return self.drift.attempt(call.context, "resume_task", lambda visit: self._resume(visit, call))

    def _resume(self, visit: Visit, call: ResumeTaskCall) -> Ended:
        attempt = self.drift.attempt
        reader = self.drift.views.reader(visit, call.context)
        task = attempt.recorder.store.task(call.task)
        # What is unknown belongs to no tenant, so only who may resume anything learns that it is unknown.
        target = target_of(task) if task else Target(kind=TargetKind.TASK, id=call.task)
        answers = task is not None and self._answers(reader, task)
        decided = attempt.allowed(visit, DECIDE if answers else RESUME, target)
        by_token = reader.approver is not None and reader.approver.identity is not None
        if by_token and not answers:  # what the connection may do for itself is no right of whoever has a token
            raise Refusal(Reason.APPROVER_REFUSED, "who signs in lets go on what they were told of")
        if task is None:
            raise Refusal(Reason.TASK_UNKNOWN)
        if takes_part(reader, task):
            raise Refusal(Reason.APPROVER_REFUSED, "whose task it is, and who began it, do not let it go on")
        event = TaskResumed(
            at=visit.now,
            caller=visit.caller,
            decided=decided,
            tenant=task.tenant,
            task=task.id,
            agent=task.agent,
            text=call.text,
            person=reader.approver.person.name if reader.approver and by_token else "",
        )
        entry = attempt.recorder.entry(event)
        item = Item(
            guards=(TaskSuspended(task=task.id, now=visit.now),),
            writes=(ResumeTask(task=task.id), ForgetDrift(task=task.id)),
            accepted=lambda _: entry,
        )
        return Ended(position=position_of(attempt.commit(item)), revoked=0)

    def _answers(self, reader: Reader, task: Task) -> bool:
        drifted = self.drift.attempt.recorder.store.drifted(task.id)
        open_now = drifted is not None and drifted.state is DriftState.OPEN
        return drifted is not None and open_now and self.drift.answers(reader, drifted, task, DECIDE)


# --- what comes by itself -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TendDrifted:
    """Takes drifted tasks that nobody answered for to the next group."""

    recorder: Recorder
    policy: ActivePolicy
    clock: Clock

    def __call__(self) -> int:
        """Return how many changed.

        Raises:
            Refusal: AUDIT_UNAVAILABLE; they stay due.

        """
        now = self.clock()
        due = self.recorder.store.drifted_due(now)
        if not due:
            return 0
        try:
            groups = self.policy().register.approver_groups
        except Refusal:  # who follows whom is not known just now
            return 0
        commit(self.recorder.store, [self._item(each, groups, now) for each in due])
        return len(due)

    def _item(self, drifted: Drifted, groups: Mapping[str, ApproverGroup], now: datetime) -> Item:
        guards = (DriftOpen(task=drifted.task),)
        at, group = next(_left(drifted, groups), (None, ""))
        if at is None or at > now:  # the bundle has changed meanwhile
            later = EscalateDrifted(task=drifted.task, group="", escalate_at=at)
            return Item(guards=guards, writes=(later,))
        following = next(_left(drifted, groups, beyond=group), None)
        told = EscalateDrifted(task=drifted.task, group=group, escalate_at=following[0] if following else None)
        event = TaskEscalated(at=now, tenant=drifted.tenant, task=drifted.task, agent=drifted.agent, group=group)
        entry = self.recorder.entry(event)
        return Item(guards=guards, writes=(told,), accepted=lambda _: entry)


def _left(drifted: Drifted, groups: Mapping[str, ApproverGroup], beyond: str = "") -> Iterator[tuple[datetime, str]]:
    """Yield when which groups are told that were not yet."""
    path = escalations(groups, drifted.group, drifted.since)
    return ((at, group) for at, group in path if group not in {*drifted.groups, beyond})
