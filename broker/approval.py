"""Approval: a held request, what people said of it, and whether it may be used."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from broker.errors import Held, Reason
from broker.intent import Intent, Json, Level, Resource, canonical_json, digest
from broker.policy.customers import CustomerSignIn
from broker.policy.step_up import StepUp, StepUpKind
from broker.scope import Scope


class ApprovalState(Enum):
    """Where an approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    USED = "used"


OPEN = (ApprovalState.PENDING, ApprovalState.APPROVED)
_UNUSABLE = {
    ApprovalState.PENDING: Reason.APPROVAL_PENDING,
    ApprovalState.DENIED: Reason.APPROVAL_DENIED,
    ApprovalState.EXPIRED: Reason.APPROVAL_EXPIRED,
    ApprovalState.WITHDRAWN: Reason.APPROVAL_WITHDRAWN,
    ApprovalState.USED: Reason.APPROVAL_USED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Yes:
    """What one person said.

    Attributes:
        person: the person's name in the bundle, the SPIFFE ID of an operator that is a person of its own, or the issuer
            and subject of a customer; personal.
        at: when, UTC.
        by_token: proven by an identity token, not by an operator's SVID.
        authenticated_at: when the person signed in, as the token has it; None when it does not say.
        bypass: for how long this person would let this kind pass without asking; None: not at all.
        over: SPIFFE ID of the connection that it was said over; empty when that was not noted.
        sign_in: where it was said by a customer; None: by nobody who came as one.

    """

    person: str = field(repr=False)
    at: datetime
    by_token: bool = False
    authenticated_at: datetime | None = None
    bypass: timedelta | None = None
    over: str = ""
    sign_in: CustomerSignIn | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A held request.

    Attributes:
        id: appr_ and a UUIDv7.
        agent: SPIFFE ID of who asked.
        tenant: the tenant that it was decided for.
        task_type: type of its task, or empty.
        intent: what was asked; its task is the approval's.
        action_class: of the intent's action.
        nonce: drawn when it was asked for.
        requirements: all of them must be met.
        policy_ids: of the policies that would permit it.
        scope: what would be granted.
        lifetime: for how long at most.
        requested_at: UTC.
        pending_until: UTC; from this instant on nobody can answer.
        state: as it was written last; `state_at` says where it stands.
        answers: what people said, the first first.
        decided_at: UTC; None while it waits.
        usable_until: UTC; None unless it was approved.
        escalated: the groups that may answer as well, the first first.
        escalate_at: UTC; when the next group may answer as well; None: no more follow.
        bypass_until: UTC; None: there is no bypass.
        text: why it was denied or withdrawn, in words; personal.
        revision: rises with each change; that it has not risen is a guard.

    """

    id: str
    agent: str
    tenant: str
    task_type: str
    intent: Intent = field(repr=False)
    action_class: str
    nonce: str
    requirements: tuple[StepUp, ...]
    policy_ids: tuple[str, ...]
    scope: Scope = field(repr=False)
    lifetime: timedelta
    requested_at: datetime
    pending_until: datetime
    state: ApprovalState = ApprovalState.PENDING
    answers: tuple[Yes, ...] = ()
    decided_at: datetime | None = None
    usable_until: datetime | None = None
    escalated: tuple[str, ...] = ()
    escalate_at: datetime | None = None
    bypass_until: datetime | None = None
    text: str = field(default="", repr=False)
    revision: int = 0

    def digest(self) -> str:
        """Return what an approver names: one changed byte of what it covers gives another."""
        members: dict[str, Json] = {
            "v": 1,
            "approval": self.id,
            "intent": self.intent.digest(),
            "agent": self.agent,
            "task": self.intent.task,
            "nonce": self.nonce,
            "requirements": [each.to_json() for each in self.requirements],
        }
        return digest(canonical_json(members))

    def state_at(self, now: datetime) -> ApprovalState:
        """Return where it stands: what was not answered, or not used, in time is expired, written so or not."""
        until = self.pending_until if self.state is ApprovalState.PENDING else self.usable_until
        if self.state in OPEN and until is not None and now >= until:
            return ApprovalState.EXPIRED
        return self.state

    def held(self) -> Held:
        """Return where the agent can wait."""
        return Held(approval=self.id, waits_for=tuple(map(waits_for, self.requirements)), until=self.pending_until)

    def covers(self, requirements: tuple[StepUp, ...]) -> bool:
        """Whether whoever meets what this one wants has met all of these."""
        return all(any(own.covers(each) for own in self.requirements) for each in requirements)

    def fits(self, intent: Intent, agent: str) -> bool:
        """Whether it is for this intent, byte for byte, of this agent."""
        return agent == self.agent and intent.task == self.intent.task and intent.digest() == self.intent.digest()


def withdrawn(approval: Approval, now: datetime, text: str = "") -> Approval:
    """Return an approval as it is once it was taken back: nothing more is given on it, nor let pass by its bypass."""
    taken_back = replace(approval, bypass_until=None, escalate_at=None)
    if approval.state not in OPEN:
        return taken_back
    return replace(taken_back, state=ApprovalState.WITHDRAWN, decided_at=now, text=text)


def waits_for(required: StepUp) -> str:
    """Return in one word who has to answer."""
    return f"group:{required.group}" if required.kind is StepUpKind.GROUP else required.kind.value


def why_unusable(state: ApprovalState) -> Reason | None:
    """Return why nothing is given on an approval in this state; None when it may be used."""
    return _UNUSABLE.get(state)


def intent_from(members: Mapping[str, Any]) -> Intent:
    """Return the intent whose canonical object this is."""
    return Intent(
        action=members["action"],
        resource=Resource(**members["resource"]),
        parameters=members.get("parameters", {}),
        purpose=members["purpose"],
        audience=members["audience"],
        task=members.get("task", ""),
        on_behalf_of=members.get("on_behalf_of", ""),
        sensitivity=_level(members, "sensitivity"),
        risk=_level(members, "risk"),
    )


def _level(members: Mapping[str, str], name: str) -> Level | None:
    return Level[members[name].upper()] if name in members else None
