"""Who sees which approval, and what of it. What a caller does not see is to them as if it were not there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from broker.approval import Approval, Yes
from broker.errors import Reason, Refusal
from broker.operations.approval_calls import Details, History, Progress, ShownApproval
from broker.operations.approver import Approver
from broker.operations.attempt import Attempt, Visit
from broker.operations.calls import Context
from broker.operations.history import RecentActs
from broker.operations.requirements import Asked
from broker.policy.decide import decide_manage
from broker.policy.decision import Allowed, ManageQuestion, Target, TargetKind
from broker.policy.entities import Agent, Service
from broker.store.approval_items import ApprovalView

READ = "broker.approval.read"
DECIDE = "broker.approval.decide"
# What a front end needs to bring its customers' word, and to show them what waits for it.
CONFIRM = "broker.approval.confirm"

FindApprover: TypeAlias = Callable[[Visit, Context], Approver]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who looks: an agent at its own, a front end at those of its tasks, a person at those to decide."""

    visit: Visit
    view: ApprovalView
    approver: Approver | None = None

    @property
    def is_customer(self) -> bool:
        """Whether it is somebody who is heard about tasks that are theirs alone."""
        return self.approver is not None and self.approver.sign_in is not None

    @property
    def decides(self) -> str:
        """Return the action that the connection has to be permitted to bring this person's word."""
        return CONFIRM if self.is_customer else DECIDE

    @property
    def name(self) -> str:
        """Whose page it is: of the connection, and of the person behind it."""
        who = str(self.visit.principal.spiffe_id)
        return f"{who} {self.approver.person.name}" if self.approver else who


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """Shows approvals.

    Attributes:
        attempt: store and policy.
        approver: says which person is behind a call.
        acts: what agents did of late.

    """

    attempt: Attempt
    approver: FindApprover
    acts: RecentActs

    def reader(self, visit: Visit, context: Context) -> Reader:
        """Return how a caller looks at approvals.

        Raises:
            Refusal: whatever says that there is no person behind the call.

        """
        asking = self.asker(visit)
        if asking is not None and (asking.view.agent or not _presents_person(context)):
            return asking
        approver = self.approver(visit, context)
        if approver.sign_in is not None:
            view = ApprovalView(begun_by=approver.spiffe_id, persons=approver.person.names)
            return Reader(visit=visit, view=view, approver=approver)
        tenants = None if approver.person.all_tenants else approver.person.tenants
        return Reader(visit=visit, view=ApprovalView(tenants=tenants), approver=approver)

    def asker(self, visit: Visit) -> Reader | None:
        """Return how an agent or a front end looks at what it asked for; None for everybody else."""
        who = str(visit.principal.spiffe_id)
        match self.attempt.policy().register.principal(who):
            case Agent():
                return Reader(visit=visit, view=ApprovalView(agent=who))
            case Service():
                return Reader(visit=visit, view=ApprovalView(begun_by=who))
            case _:
                return None

    def find(self, reader: Reader, approval_id: str) -> Asked:
        """Return an approval that a reader may see.

        Raises:
            Refusal: APPROVAL_UNKNOWN, the same for what is another's and for what is nobody's.

        """
        approval = self.attempt.recorder.store.approval(approval_id)
        if approval is None or not self.sees(reader, asked := self.asked(approval)):
            raise Refusal(Reason.APPROVAL_UNKNOWN)
        return asked

    def asked(self, approval: Approval) -> Asked:
        """Return an approval as it is judged."""
        store, task = self.attempt.recorder.store, approval.intent.task
        return Asked(
            register=self.attempt.policy().register, approval=approval, task=store.task(task) if task else None
        )

    def sees(self, reader: Reader, asked: Asked) -> bool:
        """Whether a reader may see an approval at all."""
        view, approval = reader.view, asked.approval
        if view.agent:
            return approval.agent == view.agent
        if reader.is_customer:
            return self.is_for(reader, asked) and self.may(reader, CONFIRM, target_of(asked))
        if view.begun_by:
            return asked.task is not None and asked.task.begun_by == view.begun_by
        return self.may(reader, READ, target_of(asked))

    def is_for(self, reader: Reader, asked: Asked) -> bool:
        """Whether an approval that a reader may see is theirs to follow, or to decide: those are listed."""
        return reader.approver is None or self.why_not(reader, asked) is not Reason.APPROVER_REFUSED

    def may(self, reader: Reader, action: str, target: Target) -> bool:
        """Whether policy lets the connection do this about a task, and the person speaks for its tenant."""
        if reader.approver is None:
            return False
        if not reader.is_customer and not reader.approver.person.speaks_for(target.tenant):
            return False
        question = ManageQuestion(
            principal=reader.approver.spiffe_id,
            login=reader.visit.principal.login,
            action=action,
            target=target,
        )
        return isinstance(decide_manage(self.attempt.policy(), question), Allowed)

    def why_not(self, reader: Reader, asked: Asked) -> Reason | None:
        """Return why a reader's yes would not count; None when it would."""
        if reader.approver is None:
            return Reason.APPROVER_REFUSED
        return asked.why_none(reader.approver.person, said_by(reader.approver, reader.visit))

    def show(self, reader: Reader, asked: Asked, *, details: bool = True) -> ShownApproval:
        """Return what a reader sees of an approval."""
        approval = asked.approval
        whole = details and reader.approver is not None and self.is_for(reader, asked)
        return ShownApproval(
            id=approval.id,
            state=approval.state_at(reader.visit.now),
            agent=approval.agent,
            tenant=approval.tenant,
            task=approval.intent.task,
            requested_at=approval.requested_at,
            pending_until=approval.pending_until,
            intent_digest=approval.intent.digest(),
            requirements=tuple(
                Progress(required=each, escalated_to=asked.groups(each)[1:], approvals=len(asked.counting(each)))
                for each in approval.requirements
            ),
            decided_at=approval.decided_at,
            usable_until=approval.usable_until,
            bypass_until=approval.bypass_until,
            text=approval.text,
            details=self._details(reader, asked) if whole else None,
        )

    def _details(self, reader: Reader, asked: Asked) -> Details:
        approval = asked.approval
        agent = asked.register.agents.get(approval.agent)
        since, granted, refused = self.acts.of(approval.agent, reader.visit.now)
        approved, denied = self.attempt.recorder.store.approval_counts(approval.agent)
        return Details(
            digest=approval.digest(),
            nonce=approval.nonce,
            intent=approval.intent,
            scope=approval.scope,
            lifetime=approval.lifetime,
            policy_ids=approval.policy_ids,
            business_owner=agent.business_owner if agent else "",
            security_owner=agent.security_owner if agent else "",
            history=History(since=since, granted=granted, refused=refused, approved=approved, denied=denied),
            task=asked.task,
            answers=_answers_for(reader, asked),
        )


def _answers_for(reader: Reader, asked: Asked) -> tuple[Yes, ...]:
    """Return who has said yes so far: for a customer nobody else, since those are people of the house."""
    answers = asked.approval.answers
    if reader.approver is None or not reader.is_customer:
        return answers
    return tuple(each for each in answers if asked.is_of(each, reader.approver.person.name))


def target_of(asked: Asked) -> Target:
    """Return what policy is asked about: the task; where there is none, nothing but the tenant is known."""
    return Target(kind=TargetKind.TASK, id=asked.approval.intent.task, tenant=asked.approval.tenant)


def said_by(approver: Approver, visit: Visit) -> Yes:
    """Return what an approver's yes would be, now."""
    return Yes(
        person=approver.person.name,
        at=visit.now,
        by_token=approver.identity is not None,
        authenticated_at=approver.authenticated_at,
        over=approver.spiffe_id,
        sign_in=approver.sign_in,
    )


def _presents_person(context: Context) -> bool:
    return context.identity_token is not None
