"""The nearest questions that are permitted: found by changing as little as possible, each one really decided.

Values are taken from the register, the schema and what the policies compare with; which part of a question is changed
follows from the reason of the refusal. A search that finds nothing proves nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Final, TypeAlias, cast

from broker.errors import Reason, Refusal
from broker.intent import Intent, Json, Level, Resource
from broker.policy.compiled import CompiledPolicy
from broker.policy.decide import decide
from broker.policy.decision import Deny, Hold, Permit, Question

# A part of a question: ("purpose",), or a member of the parameters: ("parameters", "amount").
Place: TypeAlias = tuple[str, ...]
# What can stand there; None leaves a member out.
Value: TypeAlias = "Json | Level | Resource | None"
Values: TypeAlias = Mapping[Place, tuple[Value, ...]]

_POLICY: Final = ("purpose", "resource", "tenant", "task", "on_behalf_of", "sensitivity", "risk", "parameters")
# Where a change can help, by what the decision says.
_RELEVANT: Final[Mapping[Reason, tuple[str, ...]]] = {
    Reason.PRINCIPAL_UNKNOWN: ("principal",),
    Reason.ACTION_UNKNOWN: ("action",),
    Reason.AUDIENCE_UNKNOWN: ("audience",),
    Reason.RESOURCE_TYPE_UNKNOWN: ("resource", "audience"),
    Reason.RESOURCE_SET_UNKNOWN: ("resource", "audience", "tenant"),
    Reason.RESOURCE_SET_REFUSED: ("resource", "sensitivity", "risk"),
    Reason.PURPOSE_REFUSED: ("purpose",),
    Reason.TENANT_REQUIRED: ("tenant",),
    Reason.TENANT_REFUSED: ("tenant", "audience"),
    Reason.TASK_REQUIRED: ("task",),
    Reason.PARAMETERS_REFUSED: ("parameters",),
    Reason.POLICY_FORBIDDEN: _POLICY,
    Reason.POLICY_NOT_PERMITTED: (*_POLICY, "audience"),
    Reason.POLICY_ERROR: ("parameters",),
    Reason.SCOPE_EMPTY: ("parameters",),
    Reason.LIMIT_REACHED: ("parameters",),
    Reason.LIMIT_AMOUNT_REFUSED: ("parameters",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One part of a question, as it was and as it would be."""

    place: Place
    before: Value
    after: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A question that is permitted or held, and how it differs from the one asked."""

    question: Question
    decision: Permit | Hold
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How far a search may go.

    Attributes:
        changes: at most so many parts of the question differ.
        decisions: at most so many questions are decided.

    """

    changes: int = 3
    decisions: int = 3000


_Candidate: TypeAlias = tuple[Question, frozenset[Place]]


def nearest(policy: CompiledPolicy, question: Question, values: Values, effort: Effort) -> Iterator[Found]:
    """Yield what is permitted with the fewest changes; nothing with more once something was found.

    A question that is permitted as it stands is the only one found.
    """
    frontier: list[_Candidate] = [(question, frozenset())]
    left, seen = effort.decisions, {_key(question)}
    for _ in range(effort.changes + 1):
        refused: list[tuple[Question, frozenset[Place], Deny]] = []
        found = False
        for candidate, places in frontier:
            if not left:
                return
            left -= 1
            decision = decide(policy, candidate)
            if isinstance(decision, Deny):
                refused.append((candidate, places, decision))
                continue
            found = True
            changes = differences(question, candidate, places)
            yield Found(question=candidate, decision=decision, changes=changes)
        if found:
            return
        further = chain.from_iterable(_further(*entry, values) for entry in refused)
        frontier = list(islice(_unseen(further, seen), left))


def _unseen(candidates: Iterable[_Candidate], seen: set[tuple[object, ...]]) -> Iterator[_Candidate]:
    for candidate in candidates:
        key = _key(candidate[0])
        if key not in seen:
            seen.add(key)
            yield candidate


def _further(question: Question, places: frozenset[Place], decision: Deny, values: Values) -> Iterator[_Candidate]:
    """Yield the questions that differ in one more place, where this refusal says that a change can help."""
    relevant = _RELEVANT.get(decision.reason, ())
    for place, options in values.items():
        # What was changed already is not changed again, nor is a whole that it is a part of.
        if place[0] not in relevant or any(taken[: len(place)] == place for taken in places):
            continue
        before = value_at(question, place)
        for after in options:
            changed = None if _same(before, after) else with_value(question, place, after)
            if changed is not None:
                yield changed, places | {place}


def differences(before: Question, after: Question, places: Iterable[Place]) -> tuple[Change, ...]:
    """Return how two questions differ in the places given; parameters member by member."""
    found: list[Change] = []
    for place in sorted(places):
        old, new = value_at(before, place), value_at(after, place)
        found.extend(_member_changes(place, old, new))
    return tuple({change.place: change for change in found}.values())


def _member_changes(place: Place, old: Value, new: Value) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted(old.keys() | new.keys()):
            yield from _member_changes((*place, name), old.get(name), new.get(name))
    elif not _same(old, new):
        yield Change(place=place, before=old, after=new)


def value_at(question: Question, place: Place) -> Value:
    """Return what stands in a place."""
    match place:
        case ("principal",) | ("tenant",):
            return cast(Value, getattr(question, place[0]))
        case ("parameters", *members):
            value: Value = question.intent.parameters
            for member in members:
                value = value.get(member) if isinstance(value, Mapping) else None
            return value
        case _:
            return cast(Value, getattr(question.intent, place[0]))


def with_value(question: Question, place: Place, value: Value) -> Question | None:
    """Return the question with another value in a place; None when that is no question."""
    try:
        match place:
            case ("principal",) | ("tenant",):
                return replace(question, **{place[0]: value})  # type: ignore[arg-type]  # text, by how values are made
            case ("parameters", *members):
                parameters = _with_member(question.intent.parameters, tuple(members), value)
                return replace(question, intent=_intent(question.intent, "parameters", parameters))
            case _:
                return replace(question, intent=_intent(question.intent, place[0], value))
    except Refusal:
        return None


def _intent(intent: Intent, name: str, value: object) -> Intent:
    return replace(intent, **{name: value})  # type: ignore[arg-type]  # by how values are made


def _with_member(record: Mapping[str, Json], members: Iterable[str], value: Value) -> Json:
    first, *rest = members or ("",)
    if not first:
        return cast(Json, value)
    changed = dict(record)
    inner = record.get(first)
    if rest:
        changed[first] = _with_member(inner if isinstance(inner, Mapping) else {}, tuple(rest), value)
    elif value is None:
        changed.pop(first, None)
    else:
        changed[first] = cast(Json, value)
    return changed


def _same(one: Value, other: Value) -> bool:
    return type(one) is type(other) and one == other


def _key(question: Question) -> tuple[object, ...]:
    return question.principal, question.tenant, question.intent.digest()
