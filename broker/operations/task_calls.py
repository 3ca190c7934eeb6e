"""Calls and answers about a task that goes on."""

from dataclasses import dataclass

from broker.boundary import Boundary
from broker.operations.calls import Context
from broker.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatCall:
    """A task that is still worked on."""

    context: Context
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrowTaskCall:
    """A task to go on within less, and why."""

    context: Context
    task: str
    boundary: Boundary
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeTaskCall:
    """A suspended task that is to go on, and why."""

    context: Context
    task: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """A task that goes on, as it is now, and how many of its live credentials have ended."""

    task: Task
    revoked: int
