"""Drifted: a task that was refused too often what lies outside it, and that waits for a person to look at it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum


class DriftState(Enum):
    """Where a drifted task stands."""

    OPEN = "open"
    RESUMED = "resumed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """A task that drifted; there is one of a task, however often it drifts. Who it is for, its task says.

    Attributes:
        task: the task's id.
        agent: SPIFFE ID of the agent whose task it is.
        tenant: the tenant that it is pinned to.
        group: who was told, as its type in the bundle said when it drifted last.
        since: when it drifted first, of the times that nobody has answered; UTC.
        at: when it drifted last; UTC.
        times: how often since then.
        refusals: how many refusals made up the last of them.
        within: in how long a time its type counts so many.
        reasons: why they were refused, sorted.
        actions: which ones were refused, sorted.
        state: open until the task is resumed, ended or revoked.
        escalated: the groups that were told as well, because nobody answered or since the type named them before.
        escalate_at: when the next group is told; None: no more follow. UTC.

    """

    task: str
    agent: str
    tenant: str
    group: str
    since: datetime
    at: datetime
    refusals: int
    within: timedelta
    reasons: tuple[str, ...]
    actions: tuple[str, ...]
    times: int = 1
    state: DriftState = DriftState.OPEN
    escalated: tuple[str, ...] = ()
    escalate_at: datetime | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """Everybody who was told."""
        return (self.group, *self.escalated)
