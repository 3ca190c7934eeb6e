"""Call: what one call touches, and whether a scope covers it, prepared once a token."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from broker.intent import MAX_INTEGER, Json, Resource
from broker.scope import Constraint, OneOf, Scope

_Limit: TypeAlias = tuple[frozenset[str], frozenset[int], int, int]
_NOTHING: Final = (1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one call touches, as the service sees it.

    Attributes:
        action: the action's name in the policy bundle.
        resource: the one resource that is touched.
        tenant: the tenant that owns the resource.
        parameters: those of the intent, with the values that this call has; personal, so not shown.

    """

    action: str
    resource: Resource
    tenant: str
    parameters: Mapping[str, Json] = field(default_factory=dict, repr=False)


class Prepared:
    """A scope, prepared for the calls that are usual: one resource, parameters that are text or integers.

    It says yes only where `Scope.covers` does, of parameters that a token can name; its no means: ask the scope.
    """

    __slots__ = ("_actions", "_id", "_limits", "_type")

    def __init__(self, scope: Scope) -> None:
        self._actions = scope.actions
        self._type = scope.resource.type
        self._id = scope.resource.id
        self._limits = {name: _limit(constraint) for name, constraint in scope.constraints.items()}

    def covers(self, call: Call) -> bool:
        """Whether it is certain, at once, that the call is covered."""
        resource, parameters, limits = call.resource, call.parameters, self._limits
        if resource.id != self._id or resource.type != self._type or resource.set or call.action not in self._actions:
            return False
        if len(parameters) != len(limits):
            return False
        for name, value in parameters.items():
            limit = limits.get(name)
            if limit is None:
                return False
            kind = type(value)  # exactly: True is not 1
            if kind is str:
                if value not in limit[0]:
                    return False
            elif kind is not int or not (value in limit[1] or limit[2] <= value <= limit[3]):  # type: ignore[operator]  # mypy does not follow `kind`
                return False
        return True


def _limit(constraint: Constraint) -> _Limit:
    """Return the texts, the integers, and the range of integers that a constraint admits."""
    if isinstance(constraint, OneOf):
        texts = frozenset(value for value in constraint.values if type(value) is str)
        return texts, frozenset(value for value in constraint.values if type(value) is int), *_NOTHING
    low = -MAX_INTEGER if constraint.minimum is None else max(constraint.minimum, -MAX_INTEGER)
    high = MAX_INTEGER if constraint.maximum is None else min(constraint.maximum, MAX_INTEGER)
    return frozenset(), frozenset(), low, high
