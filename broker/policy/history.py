"""What was granted before: duties that stay apart within one task, and sequences that a bundle names.

Both look at what was granted, whatever came of it: a grant whose charge was given back counts as any other. An action
that stands in either needs a task; outside of tasks nobody could tell what came before it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from broker.errors import Reason, Refusal
from broker.intent import Intent
from broker.policy.step_up import StepUp, step_up_from_json
from broker.policy.table import Table

if TYPE_CHECKING:
    from broker.policy.entities import Register


_AT_LEAST: Final = 2
_REFUSE: Final = "refuse"
_STEP_UP: Final = "step_up"


class Within(Enum):
    """Within what a sequence counts; a task without a conversation is one of its own."""

    TASK = "task"
    CONVERSATION = "conversation"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparateDuties:
    """Actions of which a task is granted one kind only."""

    name: str
    line: int | None
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedSequence:
    """Actions that must not follow one another, in this order, whatever stands between them.

    Attributes:
        name: as refusals name it.
        line: where it stands; None when it cannot be told.
        actions: different ones, in order.
        within: within what.
        step_up: who has to approve a grant that would complete it; None: it is refused.

    """

    name: str
    line: int | None
    actions: tuple[str, ...]
    within: Within
    step_up: StepUp | None

    @property
    def key(self) -> str:
        """Its actions as one text; what is remembered of a sequence holds for every one of the same actions."""
        return " ".join(self.actions)

    @property
    def last(self) -> int:
        """The place of its last action."""
        return len(self.actions) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An intent's place in a sequence.

    Attributes:
        sequence: which one.
        place: of the action in it, from 0.
        completes: granting it completes the sequence, as far as the history goes that was decided on.

    """

    sequence: WatchedSequence
    place: int
    completes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was granted before.

    Attributes:
        actions: in the task.
        steps: how many of a sequence's steps have been taken, by where it counts and its `key`.

    """

    actions: frozenset[str] = frozenset()
    steps: Mapping[tuple[Within, str], int] = field(default_factory=dict)

    @classmethod
    def after(cls, register: "Register", actions: Iterable[str]) -> "History":
        """Return the history of a task in which these actions were granted, one after another, and nothing else was."""
        actions = tuple(actions)
        steps: dict[tuple[Within, str], int] = {}
        for sequence in register.sequences.values():
            taken = 0
            for action in actions:
                taken += taken < sequence.last and sequence.actions[taken] == action
            steps[sequence.within, sequence.key] = taken
        return cls(actions=frozenset(actions), steps=steps)


def is_watched(register: "Register", action: str) -> bool:
    """Whether an action stands in separate duties or in a sequence."""
    duties = any(action in entry.actions for entry in register.duties.values())
    return duties or any(action in sequence.actions for sequence in register.sequences.values())


def told(register: "Register", action: str) -> Iterator[str]:
    """Yield what duties and sequences ask of an action, a line each."""
    for entry in register.duties.values():
        if action in entry.actions:
            others = ", ".join(other for other in entry.actions if other != action)
            yield f"separate duties {entry.name}: not in one task with {others}"
    for sequence in register.sequences.values():
        if action in sequence.actions:
            then = "held" if sequence.step_up else "refused"
            order = ", then ".join(sequence.actions)
            yield f"sequence {sequence.name}: {order} within one {sequence.within.value} is {then}"


def check_task_of_watched(register: "Register", intent: Intent) -> None:
    """Refuse an action that stands in duties or a sequence and names no task.

    Raises:
        Refusal: TASK_REQUIRED.

    """
    if not intent.task and is_watched(register, intent.action):
        raise Refusal(Reason.TASK_REQUIRED, "separate duties or a sequence name the action")


def held_to(register: "Register", action: str, history: History) -> tuple[frozenset[str], tuple[Step, ...]]:
    """Return the actions that stay apart from this one within a task, and the steps that granting it takes.

    Raises:
        Refusal: DUTY_SEPARATED, SEQUENCE_REFUSED, with the name of the entry that refuses it.

    """
    others: set[str] = set()
    for entry in register.duties.values():
        if action in entry.actions:
            apart = set(entry.actions) - {action}
            if not apart.isdisjoint(history.actions):
                raise Refusal(Reason.DUTY_SEPARATED, entry.name)
            others |= apart
    steps = tuple(_steps(register, action, history))
    for step in steps:
        if step.completes and step.sequence.step_up is None:
            raise Refusal(Reason.SEQUENCE_REFUSED, step.sequence.name)
    return frozenset(others), steps


def _steps(register: "Register", action: str, history: History) -> Iterator[Step]:
    for sequence in register.sequences.values():
        if action in sequence.actions:
            place = sequence.actions.index(action)
            taken = history.steps.get((sequence.within, sequence.key), 0)
            yield Step(sequence=sequence, place=place, completes=place == sequence.last and taken >= place)


def read_duties(tables: Iterable[Table]) -> dict[str, SeparateDuties]:
    """Read every [[separate_duties]]; what is wrong is noted. Whether their actions exist, `limit_checks` says."""
    found: dict[str, SeparateDuties] = {}
    for table in tables:
        entry = SeparateDuties(
            name=table.name("name"), line=table.line, actions=table.names("actions", at_least=_AT_LEAST)
        )
        table.done()
        _once(table, found, entry.name)
        found[entry.name] = entry
    return found


def read_sequences(tables: Iterable[Table]) -> dict[str, WatchedSequence]:
    """Read every [[sequence]], as `read_duties` does."""
    found: dict[str, WatchedSequence] = {}
    for table in tables:
        sequence = WatchedSequence(
            name=table.name("name"),
            line=table.line,
            actions=table.names("actions", at_least=_AT_LEAST),
            within=Within(table.one_of("within", [kind.value for kind in Within])),
            step_up=_step_up(table),
        )
        table.done()
        _once(table, found, sequence.name)
        found[sequence.name] = sequence
    return found


def _once(table: Table, found: Mapping[str, object], name: str) -> None:
    if name in found:
        table.problem(f"{name} stands in the bundle twice; keep one entry")


def _step_up(table: Table) -> StepUp | None:
    """Read `then`, and with "step_up" who has to approve."""
    then = table.one_of("then", (_REFUSE, _STEP_UP))
    if then == _REFUSE:
        return None
    value = table.value("step_up")
    try:
        return step_up_from_json(value if isinstance(value, dict) else {})
    except ValueError as problem:
        table.problem(f'step_up says who approves, as @step_up does, such as {{ kind = "user" }}: {problem}')
        return None
