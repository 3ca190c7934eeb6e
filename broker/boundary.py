"""Boundary: what a task may ever touch. It can be narrowed, never widened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from broker.errors import Reason, Refusal
from broker.intent import Intent, Json, Resource, require_name
from broker.scope import Constraint, Scope, constraint_from_json, is_within

MEMBERS: Final = frozenset({"actions", "resources", "services", "limits"})

Limits: TypeAlias = Mapping[str, Mapping[str, Constraint]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Resources of one type: all of them, one by its id, or one declared set."""

    type: str
    id: str = ""
    set: str = ""

    def __post_init__(self) -> None:
        """Refuse what no intent could name."""
        require_name(self.type, "resource.type")
        if self.id or self.set:
            Resource(type=self.type, id=self.id, set=self.set)

    def covers(self, other: "Extent | Resource") -> bool:
        """Whether everything of the other is here too; a set covers its own name only."""
        whole = not self.id and not self.set
        return self.type == other.type and (whole or (self.id, self.set) == (other.id, other.set))

    def to_json(self) -> dict[str, Json]:
        """Return the members that are set."""
        members = {"type": self.type, "id": self.id, "set": self.set}
        return {name: value for name, value in members.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """What lies within: what each member allows, all of them together. None does not restrict.

    Attributes:
        actions: the only actions.
        resources: the only resources.
        services: the only audiences.
        limits: by action, on parameters; a call that lacks a limited parameter lies outside.

    """

    actions: frozenset[str] | None = None
    resources: frozenset[Extent] | None = None
    services: frozenset[str] | None = None
    limits: Limits = field(default_factory=dict)

    def outside(self, intent: Intent) -> str:
        """Return which member of an intent lies outside; empty when all of it is within."""
        if self.actions is not None and intent.action not in self.actions:
            return "action"
        if self.resources is not None and not any(extent.covers(intent.resource) for extent in self.resources):
            return "resource"
        if self.services is not None and intent.audience not in self.services:
            return "audience"
        return "" if Scope.of(intent).narrow(self.limits.get(intent.action, {})) else "parameters"

    def narrowed(self, asked: "Boundary") -> "Boundary":
        """Return what was asked for, where it was asked for; this, where it was not.

        Raises:
            Refusal: TASK_BOUNDARY_WIDER, with the member: something was asked for that lies outside.

        """
        actions = _subset(self.actions, asked.actions, "actions")
        services = _subset(self.services, asked.services, "services")
        if asked.resources is not None and self.resources is not None:
            for extent in asked.resources:
                if not any(own.covers(extent) for own in self.resources):
                    raise Refusal(Reason.TASK_BOUNDARY_WIDER, "resources")
        return Boundary(
            actions=actions,
            resources=self.resources if asked.resources is None else asked.resources,
            services=services,
            limits=self._limited(asked.limits, actions),
        )

    def _limited(self, asked: Limits, actions: frozenset[str] | None) -> Limits:
        limits = {action: dict(own) for action, own in self.limits.items()}
        for action, wanted in asked.items():
            if actions is not None and action not in actions:
                raise Refusal(Reason.TASK_BOUNDARY_WIDER, "limits")
            own = limits.setdefault(action, {})
            for name, limit in wanted.items():
                if name in own and not is_within(limit, own[name]):
                    raise Refusal(Reason.TASK_BOUNDARY_WIDER, "limits")
                own[name] = limit
        return limits

    def to_json(self) -> dict[str, Json]:
        """Return the form that is stored, recorded and read back by `boundary_from_json`; what is open is left out."""
        members: dict[str, Json] = {}
        if self.actions is not None:
            members["actions"] = sorted(self.actions)
        if self.resources is not None:
            ordered = sorted(self.resources, key=lambda extent: (extent.type, extent.id, extent.set))
            members["resources"] = [extent.to_json() for extent in ordered]
        if self.services is not None:
            members["services"] = sorted(self.services)
        if self.limits:
            members["limits"] = limits_to_json(self.limits)
        return members


def boundary_from_json(value: object) -> Boundary:
    """Read what `Boundary.to_json` wrote.

    Raises:
        ValueError: it is none.
        Refusal: a name in it is none, or a limit has no meaning.

    """
    if not isinstance(value, dict) or not value.keys() <= MEMBERS:
        raise ValueError("not a boundary")
    extents = value.get("resources")
    if extents is not None and not (isinstance(extents, list) and all(isinstance(each, dict) for each in extents)):
        raise ValueError("not a boundary")
    try:
        resources = None if extents is None else frozenset(Extent(**each) for each in extents)
    except TypeError as problem:
        raise ValueError("not a boundary") from problem
    return Boundary(
        actions=_names(value.get("actions")),
        resources=resources,
        services=_names(value.get("services")),
        limits=limits_from_json(value.get("limits", {})),
    )


def limits_from_json(value: object) -> Limits:
    """Read limits: action to parameter to a list of allowed values, or {"min": n, "max": n}.

    Raises:
        Refusal: REQUEST_INVALID, they are not such.

    """
    if not isinstance(value, dict) or not all(isinstance(own, dict) for own in value.values()):
        raise Refusal(Reason.REQUEST_INVALID, "limits")
    try:
        return {
            require_name(action, "limits"): {name: constraint_from_json(each) for name, each in own.items()}
            for action, own in value.items()
        }
    except ValueError as problem:
        raise Refusal(Reason.REQUEST_INVALID, "limits") from problem


def limits_to_json(limits: Limits) -> dict[str, Json]:
    """Return the form that `limits_from_json` reads."""
    return {action: {name: each.to_json() for name, each in own.items()} for action, own in limits.items()}


def _subset(own: frozenset[str] | None, asked: frozenset[str] | None, member: str) -> frozenset[str] | None:
    if asked is None:
        return own
    if own is not None and not asked <= own:
        raise Refusal(Reason.TASK_BOUNDARY_WIDER, member)
    return asked


def _names(value: object) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("not a boundary")
    return frozenset(value)
