"""Task: the piece of work that credentials belong to and die with."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from broker.boundary import Boundary
from broker.errors import Reason

MISSED_HEARTBEATS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A begun task.

    Attributes:
        id: task_ and a UUIDv7.
        agent: SPIFFE ID of the agent whose task it is.
        begun_by: SPIFFE ID of who began it: the agent itself, or a front end.
        tenant: the tenant it is pinned to.
        purpose: registered for the agent; every intent of the task names it.
        conversation: a name for the conversation; opaque, may be empty.
        begun_at: UTC.
        deadline: UTC; from this instant on the task is over.
        ended_at: UTC; None while it lives.
        type: its type in the bundle; empty where the bundle declared none.
        boundary: its type's, narrowed; every intent of the task lies within.
        heartbeat: how often it must be heard of; None: never.
        silent_at: UTC; from this instant on three heartbeats are missed, and the task is over. None: it owes none.
        revision: how often it was narrowed.
        person: for whom it was begun, as a front end said; personal, may be empty.
        asked: digest of what that person asked; personal, may be empty.
        suspended_at: UTC; since when nothing is given in it, until it is resumed. None: it is not suspended.

    """

    id: str
    agent: str
    begun_by: str
    tenant: str
    purpose: str
    conversation: str
    begun_at: datetime
    deadline: datetime
    ended_at: datetime | None = None
    type: str = ""
    boundary: Boundary = field(default_factory=Boundary)
    heartbeat: timedelta | None = None
    silent_at: datetime | None = None
    revision: int = 0
    person: str = field(default="", repr=False)
    asked: str = field(default="", repr=False)
    suspended_at: datetime | None = None

    def over(self, now: datetime) -> Reason | None:
        """Return why nothing is given under it any more; None while it lives.

        A task that ended by itself, at its deadline or in silence, says so, not that somebody ended it.
        """
        return why_over(
            now,
            deadline=self.deadline,
            silent_at=self.silent_at,
            ended_at=self.ended_at,
            suspended_at=self.suspended_at,
        )


def why_over(
    now: datetime,
    *,
    deadline: datetime,
    silent_at: datetime | None,
    ended_at: datetime | None,
    suspended_at: datetime | None = None,
) -> Reason | None:
    """Return what `Task.over` returns."""
    at = now if ended_at is None else ended_at
    if at >= deadline:
        return Reason.TASK_DEADLINE_PASSED
    if silent_at is not None and at >= silent_at:
        return Reason.TASK_HEARTBEAT_MISSED
    if ended_at is not None:
        return Reason.TASK_ENDED
    return None if suspended_at is None else Reason.TASK_SUSPENDED


def silent_at(heard_at: datetime, heartbeat: timedelta | None) -> datetime | None:
    """Return when three heartbeats will have been missed, if none comes."""
    return None if heartbeat is None else heard_at + MISSED_HEARTBEATS * heartbeat
