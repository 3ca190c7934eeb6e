"""What could stand in each place of a question: from the register, the schema, and what policies compare with."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from cedarpy import pst

from broker.errors import Refusal
from broker.intent import MAX_INTEGER, Json, Level, Resource
from broker.policy.compiled import CompiledPolicy
from broker.policy.decision import ActionClass, Question
from broker.policy.entities import Service
from broker.policy.nearest import Place, Value, Values
from broker.policy.resource_types import ResourceType
from broker.policy.rules import Rule
from broker.policy.shape import Members, Scalar, Several, Shape, repaired, sample
from broker.scope import OneOf, Range

# Stands for a task that lives, is the agent's own and pinned to the question's tenant.
LIVE_TASK: Final = "task_00000000-0000-7000-8000-000000000000"
_LEVELS: Final = (None, Level.MODERATE, Level.HIGH)
_COMPARISONS: Final = frozenset({"and", "or"})
_CLOSE: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Literals:
    """What rules compare each part of a question with."""

    at: Mapping[Place, tuple[Json, ...]]
    entities: frozenset[pst.EntityUid]

    def of(self, place: Place) -> tuple[Json, ...]:
        """Return the literals of a place."""
        return self.at.get(place, ())


def literals_of(rules: Iterable[Rule]) -> Literals:
    """Return what these rules compare with, in conditions, in @scope and in @limit."""
    at: dict[Place, dict[tuple[type, Json], Json]] = {}
    entities: set[pst.EntityUid] = set()
    for rule in rules:
        entities |= pst.entity_uids(rule.source)
        pairs = [pair for clause in rule.source.clauses for pair in _compared(clause.expr)]
        for place, value in (*pairs, *_limits(rule)):
            at.setdefault(place, {}).setdefault((type(value), value), value)
    return Literals(at={place: tuple(found.values()) for place, found in at.items()}, entities=frozenset(entities))


def unnamed_id(literals: Literals) -> str:
    """Return a resource id that no policy names: it stands for every such resource."""
    named = {entity.id for entity in literals.entities}
    name = "any"
    while any(name in entity for entity in named):
        name += "-other"
    return name


def values_for(policy: CompiledPolicy, question: Question, rules: Iterable[Rule], shape: Members | None) -> Values:
    """Return what could stand in each place of a question instead, nearest first.

    Args:
        policy: the bundle.
        question: the one asked.
        rules: those that could apply to it.
        shape: of the parameters, when it is known.

    """
    literals = literals_of(rules)
    register, intent, agent = policy.register, question.intent, policy.agent(question.principal)
    actions = [action.name for action in policy.actions.values() if action.action_class is not ActionClass.MANAGE]
    texts = tuple(value for value in literals.of(("on_behalf_of",)) if isinstance(value, str))
    values: dict[Place, tuple[Value, ...]] = {
        ("principal",): _misspelled(question.principal, register.agents),
        ("action",): _misspelled(intent.action, actions),
        ("audience",): tuple(sorted(register.services)),
        ("resource",): tuple(_resources(policy, question, literals)),
        ("purpose",): agent.purposes if agent else (),
        ("tenant",): agent.tenants if agent else (),
        ("task",): (LIVE_TASK, ""),
        ("on_behalf_of",): (*texts, "", "x"),
        ("sensitivity",): _LEVELS,
        ("risk",): _LEVELS,
    }
    if shape is not None:
        values["parameters",] = (repaired(shape, intent.parameters),)
        values.update(_members(("parameters",), shape, literals, intent.parameters))
    return values


def _misspelled(name: str, known: Collection[str]) -> tuple[str, ...]:
    """Return what a name that is not known may have been meant to be."""
    return () if name in known else tuple(get_close_matches(name, known, _CLOSE))


def _resources(policy: CompiledPolicy, question: Question, literals: Literals) -> Iterator[Resource]:
    """Yield other resources: of the same id first, then those that policies name, then sets."""
    service = policy.service(question.intent.audience)
    services = [service] if service else list(policy.register.services.values())
    kept = question.intent.resource.id or unnamed_id(literals)
    kinds = [(entry, kind) for entry in services for kind in entry.resource_types.values()]
    names = {kind.name: kind for _, kind in kinds}
    for kind in names.values():
        named = tuple(_named_ids(kind, question.tenant, literals))
        # Where policies tell single resources apart, one that none of them names is another case.
        for name in (kept, *((unnamed_id(literals),) if kept in named else ()), *named):
            try:
                yield Resource(type=kind.name, id=name)
            except Refusal:
                continue
    yield from _sets(policy, services)


def _named_ids(kind: ResourceType, tenant: str, literals: Literals) -> Iterator[str]:
    for entity in sorted(literals.entities, key=str):
        owner, _, name = entity.id.partition("/")
        if str(entity.type) == kind.cedar_type and name and tenant in {owner, ""}:
            yield name


def _sets(policy: CompiledPolicy, services: list[Service]) -> Iterator[Resource]:
    known = {service.spiffe_id for service in services}
    for entry in policy.register.sets.values():
        if entry.service in known:
            yield Resource(type=entry.resource_type, set=entry.name)


def _members(
    place: Place, shape: Members, literals: Literals, given: Mapping[str, Json]
) -> Iterator[tuple[Place, tuple[Value, ...]]]:
    """Yield every member of the parameters with what could stand there."""
    for name, kind in shape.types.items():
        within, now = (*place, name), given.get(name)
        optional: tuple[Value, ...] = () if name in shape.required else (None,)
        if isinstance(kind, Members):
            yield from _members(within, kind, literals, now if isinstance(now, Mapping) else {})
            if optional:
                yield within, (None, sample(kind))
        else:
            yield within, (*_of_kind(kind, literals.of(within), now), *optional)


def _of_kind(kind: Shape, literals: tuple[Json, ...], now: Value) -> tuple[Value, ...]:
    match kind:
        case Scalar(name="Long"):
            start = now if isinstance(now, int) else 0
            numbers = [value for value in literals if isinstance(value, int) and not isinstance(value, bool)]
            around = {value + step for value in numbers for step in (-1, 0, 1)} | {0, 1}
            bounded = (number for number in around if abs(number) <= MAX_INTEGER)
            return tuple(sorted(bounded, key=lambda number: (abs(number - start), number)))
        case Scalar(name="Bool"):
            return (True, False)
        case Several(element=Scalar(name=name)):
            fitting = tuple(value for value in literals if isinstance(value, int if name == "Long" else str))
            return (*([value] for value in fitting), list(fitting), [])
        case _:
            texts = tuple(value for value in literals if isinstance(value, str))
            return (*texts, *((extra,) if (extra := sample(kind)) is not None else ()))


def _limits(rule: Rule) -> Iterator[tuple[Place, Json]]:
    for name, limit in rule.limits.items():
        match limit:
            case OneOf(values=values):
                found: tuple[Json | None, ...] = values
            case Range(minimum=minimum, maximum=maximum):
                found = (minimum, maximum)
        for value in found:
            if isinstance(value, int | str):
                yield ("parameters", name), value
    for total in rule.totals:
        if total.parameter:
            yield ("parameters", total.parameter), total.maximum


def _compared(expression: pst.Expr) -> Iterator[tuple[Place, Json]]:
    """Yield each place of the context with the literals that stand in the same comparison."""
    match expression:
        case pst.BinaryOp(op=op, left=left, right=right) if op in _COMPARISONS:
            yield from _compared(left)
            yield from _compared(right)
        case pst.UnaryOp(op="not", arg=arg):
            yield from _compared(arg)
        case pst.IfThenElse(cond=cond, then_expr=then, else_expr=other):
            for branch in (cond, then, other):
                yield from _compared(branch)
        case _:
            literals = list(_literals(expression))
            for place in _places(expression):
                yield from ((place, value) for value in literals)


def _places(expression: pst.Expr) -> Iterator[Place]:
    """Yield the places of the context that an expression reads."""
    place = _place(expression)
    if place is not None:
        yield place
        return
    for inner in _inner(expression):
        yield from _places(inner)


def _place(expression: pst.Expr) -> Place | None:
    match expression:
        case pst.GetAttr(base=pst.Var(name="context"), attr=attr):
            return (attr,)
        case pst.GetAttr(base=base, attr=attr):
            within = _place(base)
            return (*within, attr) if within else None
        case _:
            return None


def _literals(expression: pst.Expr) -> Iterator[Json]:
    match expression:
        case pst.BoolLit(value=value) | pst.LongLit(value=value) | pst.StringLit(value=value):
            yield value
        case pst.Like(base=base, pattern=pattern):
            # Both ends of what a wildcard can stand for: nothing, and something.
            for filling in ("", "x"):
                yield "".join(part.value if isinstance(part, pst.Char) else filling for part in pattern)
            yield from _literals(base)
        case _:
            for inner in _inner(expression):
                yield from _literals(inner)


def _inner(expression: pst.Expr) -> tuple[pst.Expr, ...]:  # noqa: PLR0911  # one return a kind of expression
    match expression:
        case pst.BinaryOp(left=left, right=right):
            return left, right
        case pst.UnaryOp(arg=arg):
            return (arg,)
        case pst.GetAttr(base=base) | pst.HasAttr(base=base) | pst.Like(base=base):
            return (base,)
        case pst.Is(base=base, in_expr=inside):
            return (base,) if inside is None else (base, inside)
        case pst.IfThenElse(cond=cond, then_expr=then, else_expr=other):
            return cond, then, other
        case pst.Set(elements=elements):
            return elements
        case pst.Record(fields=members):
            return tuple(members.values())
        case _:
            return ()
