"""Calls and answers about drifted tasks, in nouns."""

from dataclasses import dataclass

from broker.drifted import Drifted
from broker.operations.calls import Context
from broker.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDriftedCall:
    """The drifted tasks that wait for the caller: so many at most, from a token of the page before."""

    context: Context
    page_size: int = 0
    page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDrifted:
    """A drifted task as its reader sees it: what happened, the task as it is now, and who answers for its agent."""

    drifted: Drifted
    task: Task
    business_owner: str
    security_owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftedList:
    """Drifted tasks, the oldest first, and where the next page goes on; empty: nowhere."""

    drifted: tuple[ShownDrifted, ...]
    next_page_token: str = ""
