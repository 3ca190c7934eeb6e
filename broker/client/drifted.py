"""Drifted tasks as a session hands them out: what waits for a person to look at."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from broker.client.decode import time_of
from broker.v1 import approval_pb2

_STATES: Final = {
    approval_pb2.DRIFT_STATE_OPEN: "open",
    approval_pb2.DRIFT_STATE_RESUMED: "resumed",
    approval_pb2.DRIFT_STATE_ENDED: "ended",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftedTask:
    """A task that was refused too often what lies outside it. `broker.visible` shows its texts safely.

    Attributes:
        task: its id.
        state: "open" while it waits, "resumed" or "ended"; of a later release perhaps "other".
        agent: SPIFFE ID of its agent.
        tenant: its tenant.
        business_owner: who answers for the agent in business.
        security_owner: who answers for its security.
        task_type: its type.
        purpose: its purpose.
        person: for whom it was begun, as its front end said; or empty.
        begun_at: when.
        deadline: when it ends by itself.
        suspended: nothing is given in it until it is resumed.
        since: when it drifted first, of the times that nobody has answered.
        drifted_at: when it drifted last.
        times: how often since then.
        refusals: the last time, so many refusals,
        within: within this time.
        reasons: for these reasons, sorted.
        actions: of these actions, sorted.
        group: the group that was told, as its type said the last time.
        escalated_to: groups that were told as well, because nobody answered or since the type named them before.

    """

    task: str
    state: str
    agent: str
    tenant: str
    business_owner: str
    security_owner: str
    task_type: str
    purpose: str
    person: str = field(repr=False)
    begun_at: datetime
    deadline: datetime
    suspended: bool
    since: datetime
    drifted_at: datetime
    times: int
    refusals: int
    within: timedelta
    reasons: tuple[str, ...]
    actions: tuple[str, ...]
    group: str
    escalated_to: tuple[str, ...]


def drifted_task_of(message: approval_pb2.DriftedTask) -> DriftedTask:
    """Return a drifted task."""
    task = message.task
    return DriftedTask(
        task=message.task_id,
        state=_STATES.get(message.state, "other"),
        agent=message.agent,
        tenant=message.tenant,
        business_owner=message.business_owner,
        security_owner=message.security_owner,
        task_type=task.type,
        purpose=task.purpose,
        person=task.person,
        begun_at=time_of(task.begun_at),
        deadline=time_of(task.deadline),
        suspended=message.suspended,
        since=time_of(message.since),
        drifted_at=time_of(message.drifted_at),
        times=message.times,
        refusals=message.refusals,
        within=message.within.ToTimedelta(),
        reasons=tuple(message.reasons),
        actions=tuple(message.actions),
        group=message.group,
        escalated_to=tuple(message.escalated_to),
    )
