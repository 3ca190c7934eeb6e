"""Items of limits, separate duties and sequences: what a grant is charged, and what is remembered of it.

Policy says what counts; here it is plain values, so that what was written outlives the bundle that asked for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from broker.errors import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """What adds up under one limit for one subject.

    Attributes:
        policy: id of the policy whose limit it is.
        place: of the limit among the policy's own, from 0.
        per: "task", "conversation", "agent" or "day".
        parameter: what is added up; empty: grants.
        subject: the task, conversation, agent, or agent and day that it counts for.
        ends: UTC; when it is forgotten at the earliest. None: with its task, or with its policy.

    """

    policy: str
    place: int
    per: str
    parameter: str
    subject: str
    ends: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WithinLimit:
    """Adding `amount`, at least 0, leaves the counter at `maximum` or below.

    Refused with LIMIT_REACHED; the detail names policy and period.
    """

    counter: Counter
    amount: int
    maximum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotGranted:
    """None of these actions was granted in the task. Refused with DUTY_SEPARATED."""

    task: str
    actions: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsOpen:
    """The subject has not taken as many steps of the sequence. Refused with `reason`."""

    subject: str
    sequence: str
    steps: int
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Add to counters what one grant is charged; guard each with WithinLimit."""

    credential: str
    at: datetime
    amounts: tuple[tuple[Counter, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """Take from the counters what a grant was charged, once however often it is written, and end its credential.

    What was given back must not be used any more: a live credential is revoked. What has been forgotten is not given
    back: charges are a week after they were made, counters when their period is over. With `unused` it is given back
    only when nothing came of any use that was reported, up to here in this transaction.
    """

    credential: str
    at: datetime
    unused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One action of a sequence, as somebody is about to take it.

    Attributes:
        subject: the task or conversation within which the sequence counts.
        sequence: its actions in their order, joined by spaces.
        place: of the action in it, from 0.
        ends: UTC; when the sequence is forgotten at the earliest. None: with its task.

    """

    subject: str
    sequence: str
    place: int
    ends: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteGranted:
    """Remember that an action was granted in a task, and each step that it is: one out of turn is none.

    `action` is empty when no duty asks for it. The last step of a sequence is not counted, so that taking it again
    completes the sequence again.
    """

    task: str
    action: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What is remembered of the grants of a task and of its conversation.

    Attributes:
        actions: those granted in the task that a duty asked for.
        steps: how many have been taken, by subject and sequence.

    """

    actions: frozenset[str] = frozenset()
    steps: Mapping[tuple[str, str], int] = field(default_factory=dict)
