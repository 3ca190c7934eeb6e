"""Step-up: what a person has to do before a held intent may go on. One requirement; a policy's @step_up states one.

It is written as one JSON object, in an annotation as text or in entities.toml as a table:
{"kind": "group", "group": "refund-approvers", "quorum": 2, "pending_for": "PT15M", "good_for": "PT5M",
 "owners": "excluded", "bypass": "PT30M"}.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final

from broker.errors import Refusal
from broker.intent import Json, require_name
from broker.policy.durations import MAXIMUM, duration_from

PENDING_FOR: Final = timedelta(minutes=15)
GOOD_FOR: Final = timedelta(minutes=5)
MAX_AGE: Final = timedelta(minutes=5)
MAX_QUORUM: Final = 16

_ANY: Final = frozenset({"kind", "pending_for", "good_for", "bypass"})


class StepUpKind(Enum):
    """Who has to say yes, and how."""

    USER = "user"
    AUTHENTICATION = "authentication"
    GROUP = "group"


# What a requirement of each kind may say of itself.
_MEMBERS: Final = {
    StepUpKind.USER: _ANY,
    StepUpKind.AUTHENTICATION: _ANY | {"max_age"},
    StepUpKind.GROUP: _ANY | {"group", "quorum", "owners"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUp:
    """One requirement.

    Attributes:
        kind: the person that the task was begun for confirms; the same with a fresh authentication; or a group does.
        group: whose members approve; only of a group.
        quorum: how many different ones of them.
        pending_for: how long a request may wait for an answer.
        good_for: how long an approval may be used.
        owners_excluded: the agent's owners do not approve what it asks.
        bypass: the longest time for which an approver may let this kind pass without asking again; None: never.
        max_age: how old the person's authentication may be when they approve; only of an authentication.

    """

    kind: StepUpKind
    group: str = ""
    quorum: int = 1
    pending_for: timedelta = PENDING_FOR
    good_for: timedelta = GOOD_FOR
    owners_excluded: bool = False
    bypass: timedelta | None = None
    max_age: timedelta | None = None

    def covers(self, other: "StepUp") -> bool:
        """Whether who met this has met the other: of the same kind and group, and in nothing less strict."""
        return (
            (self.kind, self.group) == (other.kind, other.group)
            and self.quorum >= other.quorum
            and (self.owners_excluded or not other.owners_excluded)
            and (other.max_age is None or (self.max_age is not None and self.max_age <= other.max_age))
        )

    def told(self) -> str:
        """Return it as people read it."""
        match self.kind:
            case StepUpKind.USER:
                who = "the person that the task is for"
            case StepUpKind.AUTHENTICATION:
                who = f"the person that the task is for, signed in within {self.max_age}"
            case StepUpKind.GROUP:
                count = "one" if self.quorum == 1 else str(self.quorum)
                who = f"{count} of group {self.group}{', not the owners' if self.owners_excluded else ''}"
        return f"{who}; within {self.pending_for}, then good for {self.good_for}"

    def to_json(self) -> dict[str, Json]:
        """Return it as it is written; what is not said is left out."""
        durations = {
            "pending_for": self.pending_for,
            "good_for": self.good_for,
            "bypass": self.bypass,
            "max_age": self.max_age,
        }
        members: dict[str, Json] = {"kind": self.kind.value}
        if self.kind is StepUpKind.GROUP:
            members |= {"group": self.group, "quorum": self.quorum}
        if self.owners_excluded:
            members["owners"] = "excluded"
        return members | {name: _iso(value) for name, value in durations.items() if value is not None}


def step_up_from_json(members: Mapping[str, object]) -> StepUp:
    """Return the requirement that these members state.

    Raises:
        ValueError: they state none; says what would.

    """
    kinds = {kind.value: kind for kind in StepUpKind}
    kind = kinds.get(str(members.get("kind")))
    if kind is None:
        raise ValueError(f'"kind" is one of {", ".join(kinds)}')
    for name in sorted(members.keys() - _MEMBERS[kind]):
        raise ValueError(
            f'"{name}" has no meaning for kind "{kind.value}"; it knows {", ".join(sorted(_MEMBERS[kind]))}'
        )
    if members.get("owners", "excluded") != "excluded":
        raise ValueError('"owners" is "excluded", or left out')
    age = MAX_AGE if kind is StepUpKind.AUTHENTICATION else None
    return StepUp(
        kind=kind,
        group=_group(members) if kind is StepUpKind.GROUP else "",
        quorum=_quorum(members),
        pending_for=_duration(members, "pending_for", PENDING_FOR),
        good_for=_duration(members, "good_for", GOOD_FOR),
        owners_excluded="owners" in members,
        bypass=_duration(members, "bypass", MAXIMUM) if "bypass" in members else None,
        max_age=None if age is None else _duration(members, "max_age", age),
    )


def _group(members: Mapping[str, object]) -> str:
    name = members.get("group")
    try:
        return require_name(name if isinstance(name, str) else "", "group")
    except Refusal as problem:
        raise ValueError('"group" names the group that approves') from problem


def _quorum(members: Mapping[str, object]) -> int:
    quorum = members.get("quorum", 1)
    if not isinstance(quorum, int) or isinstance(quorum, bool) or not 1 <= quorum <= MAX_QUORUM:
        raise ValueError(f'"quorum" is how many persons of the group approve, 1 to {MAX_QUORUM}')
    return quorum


def _duration(members: Mapping[str, object], name: str, otherwise: timedelta) -> timedelta:
    if name not in members:
        return otherwise
    text = members[name]
    found = duration_from(text) if isinstance(text, str) else None
    if found is None or found > MAXIMUM:
        raise ValueError(f'"{name}" is a duration such as "PT5M", more than nothing and at most PT24H')
    return found


def _iso(duration: timedelta) -> str:
    """Return ISO 8601 in hours, minutes and seconds; `duration_from` reads the same back."""
    seconds = duration // timedelta(seconds=1)
    parts = ((seconds // 3600, "H"), (seconds // 60 % 60, "M"), (seconds % 60, "S"))
    return "PT" + "".join(f"{count}{unit}" for count, unit in parts if count)
