"""Approvals as a session hands them out: held requests, and what people decide on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.intent import Intent, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """Who has to say yes.

    Attributes:
        kind: "user" (the person that the task is for), "authentication" (the same, freshly signed in) or "group".
        group: the group.
        escalated_to: groups that may answer as well, because it was left unanswered.
        quorum: how many different persons.
        approvals: how many have said yes.
        owners_excluded: the agent's owners do not count.
        max_age: how old an authentication may be.
        good_for: how long an approval of it may be used.
        bypass: the longest bypass that may be given with it; None: none.

    """

    kind: str
    group: str
    escalated_to: tuple[str, ...]
    quorum: int
    approvals: int
    owners_excluded: bool
    max_age: timedelta | None
    good_for: timedelta
    bypass: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One yes: whose, when, whether by an identity token, and for how long it would let the kind pass unasked."""

    person: str = field(repr=False)
    at: datetime
    by_token: bool
    bypass: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDetails:
    """What an approver decides on. Its texts are what an agent wrote: `broker.visible` shows them safely.

    Attributes:
        digest: what `approve` has to name.
        intent: in full.
        authorization_details: what would be granted, RFC 9396.
        lifetime: for how long at most.
        policy_ids: of the policies that would permit it.
        business_owner: who answers for the agent in business.
        security_owner: who answers for its security.
        since: from when on what follows was counted.
        granted: how many credentials the agent was given.
        refused: how many of its intents were refused.
        approved: how many of its held requests were approved.
        denied: how many were denied.
        task_type: of the task that it asks in; empty without one.
        task_begun_at: None without a task.
        task_deadline: None without a task.
        person: for whom the task was begun, as its front end said; or empty.
        answers: who has said yes so far.

    """

    digest: str
    intent: Intent = field(repr=False)
    authorization_details: Sequence[Mapping[str, Json]] = field(repr=False)
    lifetime: timedelta
    policy_ids: tuple[str, ...]
    business_owner: str
    security_owner: str
    since: datetime
    granted: int
    refused: int
    approved: int
    denied: int
    task_type: str
    task_begun_at: datetime | None
    task_deadline: datetime | None
    person: str = field(repr=False)
    answers: tuple[Answered, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A held request, as its reader sees it.

    Attributes:
        id: appr_….
        state: "pending", "approved", "denied", "expired", "withdrawn" or "used"; of a later release perhaps "other".
        agent: SPIFFE ID of the agent that asked.
        tenant: its tenant.
        task: the task that it asked in, or empty.
        requested_at: when.
        pending_until: until when it may be answered.
        decided_at: when it was decided; None while it waits.
        usable_until: until when it may be used; None unless it was approved.
        intent_digest: of the intent.
        requirements: all of them have to be met.
        bypass_until: until when the agent need not ask again for this kind; None: it has to.
        reason: why it was denied or withdrawn, in words.
        details: all of it, for who may decide it; else None.

    """

    id: str
    state: str
    agent: str
    tenant: str
    task: str
    requested_at: datetime
    pending_until: datetime
    decided_at: datetime | None
    usable_until: datetime | None
    intent_digest: str
    requirements: tuple[Requirement, ...]
    bypass_until: datetime | None
    reason: str = field(repr=False)
    details: ApprovalDetails | None
