"""Items of drifted tasks that wait for a person. What is counted of them before is among `outcome_items`."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from broker.drifted import Drifted


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftOpen:
    """The drift of a task still waits for a person. Refused with TASK_NOT_SUSPENDED."""

    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddDrifted:
    """Remember that a task drifted. One that waits already stays one: it is told as often, and longer.

    A group that its type did not name before is told besides.
    """

    drifted: Drifted


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalateDrifted:
    """Let a further group answer for a drifted task, or none by now; and say when the next one may."""

    task: str
    group: str
    escalate_at: datetime | None


DriftWrite: TypeAlias = AddDrifted | EscalateDrifted
