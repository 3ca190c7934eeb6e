"""What happens to tasks. The union of all events is in `event`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from broker.audit.entry import Caller, Decided
from broker.intent import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBegun:
    """A task of `agent` began. `heartbeat` is in seconds; a front end names a person and what they asked."""

    TYPE: ClassVar = "task.begun"
    at: datetime
    caller: Caller
    decided: Decided
    tenant: str
    task: str
    purpose: str
    conversation: str
    deadline: datetime
    agent: str = ""
    task_type: str = ""
    boundary: Mapping[str, Json] = field(default_factory=dict)
    heartbeat: int | None = None
    person: str = ""
    asked: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNarrowed:
    """A task goes on within less, and those of its live credentials that no longer fit ended.

    `revoked` counts them; `status_indexes` names them, as inclusive ranges by audience. `approvals` were withdrawn.
    """

    TYPE: ClassVar = "task.narrowed"
    at: datetime
    caller: Caller
    decided: Decided
    tenant: str
    task: str
    agent: str
    boundary: Mapping[str, Json]
    text: str
    revoked: int
    status_indexes: Mapping[str, tuple[tuple[int, int], ...]]
    approvals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskJudged:
    """At a heartbeat, live credentials of a task ended that the policy in force would no longer give.

    `reasons` are why, sorted; `revoked` counts them; `status_indexes` names them, as inclusive ranges by audience. A
    heartbeat that ends nothing has no event.
    """

    TYPE: ClassVar = "task.judged"
    at: datetime
    caller: Caller
    tenant: str
    task: str
    agent: str
    bundle: str
    reasons: tuple[str, ...]
    revoked: int
    status_indexes: Mapping[str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnded:
    """A task ended, and its live credentials with it. `cause` is "ended", "cancelled", "deadline" or "heartbeat".

    `revoked` counts them; `status_indexes` names them, as inclusive ranges by audience. `approvals` were withdrawn.
    """

    TYPE: ClassVar = "task.ended"
    at: datetime
    caller: Caller
    decided: Decided | None
    tenant: str
    task: str
    agent: str
    cause: str
    revoked: int
    status_indexes: Mapping[str, tuple[tuple[int, int], ...]]
    text: str = ""
    approvals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDrifted:
    """A task was refused so many times, within so many seconds, what lies outside it. `reasons` are why, sorted.

    `actions` are which ones were refused, sorted; `group` is who is told, or empty.

    With `suspended` nothing is given in it until it is resumed, and its live credentials ended: `revoked` counts them;
    `status_indexes` names them, as inclusive ranges by audience. `approvals` were withdrawn.
    """

    TYPE: ClassVar = "task.drifted"
    at: datetime
    caller: Caller
    tenant: str
    task: str
    agent: str
    task_type: str
    reasons: tuple[str, ...]
    refusals: int
    within: int
    suspended: bool
    revoked: int
    status_indexes: Mapping[str, tuple[tuple[int, int], ...]]
    approvals: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEscalated:
    """Nobody answered for a task that drifted: from now on `group` is told of it as well, and may let it go on."""

    TYPE: ClassVar = "task.escalated"
    at: datetime
    tenant: str
    task: str
    agent: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResumed:
    """A person has looked at a task that drifted, and lets it go on; what ended with its suspension stays ended.

    `person` is who, when known by an identity token; without one the caller is who it was.
    """

    TYPE: ClassVar = "task.resumed"
    at: datetime
    caller: Caller
    decided: Decided
    tenant: str
    task: str
    agent: str
    text: str
    person: str = ""
