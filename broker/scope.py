"""Scope: what a credential covers. It can be compared and narrowed, never widened."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from broker.intent import MAX_INTEGER, Intent, Json, Resource, call_digest, canonical_json


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """A parameter must equal one of these values, type and all."""

    values: tuple[Json, ...]

    def admits(self, value: Json) -> bool:
        """Whether the value is one of them; 1 is not true, "1" is not 1."""
        if isinstance(value, str | int):
            return any(type(allowed) is type(value) and allowed == value for allowed in self.values)
        return canonical_json(value) in {canonical_json(allowed) for allowed in self.values}

    def to_json(self) -> Json:
        """Return the form that @scope and authorization_details use."""
        return list(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A parameter must be an integer within these bounds, both inclusive; None is open."""

    minimum: int | None = None
    maximum: int | None = None

    def admits(self, value: Json) -> bool:
        """Whether the value is an integer within the bounds; a boolean is not an integer."""
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return (self.minimum is None or self.minimum <= value) and (self.maximum is None or value <= self.maximum)

    def to_json(self) -> Json:
        """Return the form that @scope and authorization_details use."""
        bounds = {"min": self.minimum, "max": self.maximum}
        return {name: bound for name, bound in bounds.items() if bound is not None}


Constraint: TypeAlias = OneOf | Range


def constraint_from_json(value: object) -> Constraint:
    """Read a constraint: a list of allowed values, or an object with "min", "max" or both.

    Raises:
        ValueError: it is neither.

    """
    if isinstance(value, list) and value:
        return OneOf(values=tuple(value))
    if isinstance(value, dict) and value and value.keys() <= {"min", "max"} and all(map(_is_bound, value.values())):
        return Range(minimum=value.get("min"), maximum=value.get("max"))
    message = 'a constraint is a non-empty list of values, or {"min": n}, {"max": n} or both'
    raise ValueError(message)


def is_within(inner: Constraint, outer: Constraint) -> bool:
    """Whether one admits nothing that the other does not."""
    both = _both(inner, outer)
    return both is not None and _same(both, inner)


def _is_bound(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER


def _both(one: Constraint, other: Constraint) -> Constraint | None:
    """Return what both admit, or None when that is nothing."""
    if isinstance(one, OneOf):
        values = tuple(value for value in one.values if other.admits(value))
        return OneOf(values=values) if values else None
    if isinstance(other, OneOf):
        return _both(other, one)
    lows = [bound for bound in (one.minimum, other.minimum) if bound is not None]
    highs = [bound for bound in (one.maximum, other.maximum) if bound is not None]
    low, high = max(lows, default=None), min(highs, default=None)
    return None if low is not None and high is not None and low > high else Range(minimum=low, maximum=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a credential covers: actions, one resource or declared set, constraints on parameters, one audience.

    A call is covered when its parameters are exactly those that are constrained, each within its constraint.
    """

    actions: frozenset[str]
    resource: Resource
    constraints: Mapping[str, Constraint]
    audience: str

    @classmethod
    def of(cls, intent: Intent) -> "Scope":
        """Return the scope that covers this intent and nothing else."""
        return cls(
            actions=frozenset({intent.action}),
            resource=intent.resource,
            constraints={name: OneOf(values=(value,)) for name, value in intent.parameters.items()},
            audience=intent.audience,
        )

    def covers(self, action: str, resource: Resource, parameters: Mapping[str, Json]) -> bool:
        """Whether one call lies within this scope; a set covers its own name only."""
        return (
            action in self.actions
            and resource == self.resource
            and parameters.keys() == self.constraints.keys()
            and all(self.constraints[name].admits(value) for name, value in parameters.items())
        )

    def only_call(self, tenant: str) -> str | None:
        """Return the digest of the one call that this scope covers in a tenant; None when it covers several."""
        fixed = {
            name: limit.values[0]
            for name, limit in self.constraints.items()
            if isinstance(limit, OneOf) and len(limit.values) == 1
        }
        if len(self.actions) != 1 or not self.resource.id or fixed.keys() != self.constraints.keys():
            return None
        (action,) = self.actions
        return call_digest(action=action, resource=self.resource, tenant=tenant, parameters=fixed)

    def includes(self, other: "Scope") -> bool:
        """Whether everything that `other` covers is covered here too."""
        narrowed = self.narrow(other.constraints)
        return (
            other.actions <= self.actions
            and other.resource == self.resource
            and other.audience == self.audience
            and other.constraints.keys() == self.constraints.keys()
            and narrowed is not None
            and all(_same(narrowed.constraints[name], limit) for name, limit in other.constraints.items())
        )

    def narrow(self, limits: Mapping[str, Constraint]) -> "Scope | None":
        """Return this scope with further limits on its parameters, or None when nothing is left.

        A limit on a parameter that this scope does not have leaves nothing: the call would not carry it.
        """
        narrowed = dict(self.constraints)
        for name, limit in limits.items():
            both = _both(narrowed[name], limit) if name in narrowed else None
            if both is None:
                return None
            narrowed[name] = both
        return Scope(actions=self.actions, resource=self.resource, constraints=narrowed, audience=self.audience)


def _same(one: Constraint, other: Constraint) -> bool:
    return canonical_json(one.to_json()) == canonical_json(other.to_json())
