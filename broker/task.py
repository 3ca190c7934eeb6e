"""Task: the piece of work that credentials belong to and die with."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A begun task.

    Attributes:
        id: task_ and a UUIDv7.
        agent: SPIFFE ID of the agent whose task it is.
        begun_by: SPIFFE ID of who began it; the agent itself for now.
        tenant: the tenant it is pinned to.
        purpose: registered for the agent; every intent of the task names it.
        conversation: the agent's name for the conversation; opaque, may be empty.
        begun_at: UTC.
        deadline: UTC; from this instant on the task is over.
        ended_at: UTC; None while it lives.

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
