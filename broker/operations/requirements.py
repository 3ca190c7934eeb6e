"""Requirements: whose yes counts towards what, by the bundle as it is now. Asked at each answer, and at each use."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from broker.approval import Approval, Yes
from broker.errors import Reason
from broker.policy.approver_groups import escalations
from broker.policy.entities import Register
from broker.policy.persons import Person, person_named
from broker.policy.step_up import StepUp, StepUpKind
from broker.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A held request as it is judged: with its task, if it has one, by what the active bundle declares."""

    register: Register
    approval: Approval
    task: Task | None

    def counting(self, required: StepUp) -> frozenset[str]:
        """Return the persons whose yes counts towards a requirement; one that has two names by now counts once."""
        said = ((self._person(yes.person), yes) for yes in self.approval.answers)
        found = [(who, yes) for who, yes in said if who is not None and self.why_not(required, who, yes) is None]
        # An operator that no person claims is none more beside those who sign in over its connection.
        tools = {yes.over for _, yes in found if yes.by_token}
        return frozenset(who.name for who, _ in found if who.name not in tools)

    def met(self, required: StepUp) -> bool:
        """Whether enough people have said yes."""
        return len(self.counting(required)) >= required.quorum

    def with_yes(self, yes: Yes) -> "Asked":
        """Return it with a further yes, which takes the place of an earlier one of the same person."""
        others = (each for each in self.approval.answers if not self.is_of(each, yes.person))
        return replace(self, approval=replace(self.approval, answers=(*others, yes)))

    def counts_beyond(self, before: "Asked") -> bool:
        """Whether more is met than before, and nothing less."""
        counted = [(before.counting(each), self.counting(each)) for each in self.approval.requirements]
        return all(was <= now for was, now in counted) and any(was < now for was, now in counted)

    def has_said(self, name: str) -> bool:
        """Whether a person has said yes already, by whichever name."""
        return any(self.is_of(yes, name) for yes in self.approval.answers)

    def is_of(self, yes: Yes, name: str) -> bool:
        """Whether it was a person of that name who said yes, by whichever name."""
        person = self._person(yes.person)
        return person is not None and person.name == name

    def all_met(self) -> bool:
        """Whether nothing is missing; where nothing is required, nobody can approve."""
        required = self.approval.requirements
        return bool(required) and all(map(self.met, required))

    def why_none(self, person: Person, yes: Yes) -> Reason | None:
        """Return why a person's yes counts towards none of the requirements; None when it counts."""
        why = [self.why_not(required, person, yes) for required in self.approval.requirements]
        if not why or None in why:
            return None if why else Reason.APPROVER_REFUSED
        stale = Reason.AUTHENTICATION_STALE
        return stale if stale in why else Reason.APPROVER_REFUSED

    def why_not(self, required: StepUp, person: Person, yes: Yes) -> Reason | None:
        """Return why a person's yes does not count towards a requirement; None when it does."""
        if not (self._is_customers_own(yes) if yes.sign_in else person.speaks_for(self.approval.tenant)):
            return Reason.APPROVER_REFUSED
        if required.kind is StepUpKind.GROUP:
            counts = yes.sign_in is None and self._in_group(required, person)
            return None if counts else Reason.APPROVER_REFUSED
        # Whoever asked is known by name only where a front end said so; proven by a token, since an SVID is no user's.
        if not yes.by_token or self._requester not in person.names:
            return Reason.APPROVER_REFUSED
        return Reason.AUTHENTICATION_STALE if _stale(required, yes) else None

    def groups(self, required: StepUp) -> tuple[str, ...]:
        """Return the groups that may answer a requirement: its own, and those that it was escalated to."""
        return (required.group, *(group for _, group in self._path(required) if group in self.approval.escalated))

    def next_escalation(self) -> tuple[datetime, str] | None:
        """Return when which further group may answer as well; None when no more follow, or none is missing."""
        steps = [
            (at, group)
            for required in self.approval.requirements
            if required.kind is StepUpKind.GROUP and not self.met(required)
            for at, group in self._path(required)
            if group not in self.approval.escalated
        ]
        return min(steps, default=None)

    def _path(self, required: StepUp) -> Iterator[tuple[datetime, str]]:
        return escalations(self.register.approver_groups, required.group, self.approval.requested_at)

    def _is_customers_own(self, yes: Yes) -> bool:
        """Whether it is said over the front end that began the task, where the customers of its type sign in."""
        kind = self.register.task_types.get(self.task.type) if self.task else None
        return (
            self.task is not None
            and kind is not None
            and yes.sign_in in kind.customers
            and yes.over == self.task.begun_by
        )

    def _in_group(self, required: StepUp, person: Person) -> bool:
        owner = required.owners_excluded and person.name in self._owners
        return not self._is_for(person) and not owner and not set(self.groups(required)).isdisjoint(person.groups)

    @property
    def _requester(self) -> str:
        """The person on whose behalf a front end began the task; empty when nobody is known."""
        return self.task.person if self.task else ""

    def _is_for(self, person: Person) -> bool:
        """Whether the agent asks for this person, as the front end or it itself says, by whichever of its names."""
        return not person.known_as.isdisjoint({self._requester, self.approval.intent.on_behalf_of} - {""})

    @property
    def _owners(self) -> tuple[str, ...]:
        agent = self.register.agents.get(self.approval.agent)
        return (agent.business_owner, agent.security_owner) if agent else ()

    def _person(self, name: str) -> Person | None:
        return person_named(self.register, name)


def _stale(required: StepUp, yes: Yes) -> bool:
    if required.max_age is None:
        return False
    return yes.authenticated_at is None or yes.at - yes.authenticated_at > required.max_age
