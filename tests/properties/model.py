"""What the example bundle gives, as its author would say it: written by hand from its files, not by its code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tests.operations.world import COURIER, SHARED, SUPPORT, WHOLESALE

Parameters = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that an agent may do.

    Attributes:
        agents: who.
        tenants: for which tenants.
        resource: type of the one resource, or "set" and its name.
        longest: the longest that its credential may live.
        purpose: the only one.
        write: whether it needs a task and is not for what the agent calls risky.
        low: whether it is for low sensitivity and risk only.
        admits: which parameters.

    """

    agents: frozenset[str]
    tenants: frozenset[str]
    resource: str
    longest: timedelta
    purpose: str = "customer-support"
    write: bool = False
    low: bool = False
    admits: Callable[[Parameters], bool]


def _whole(value: Any) -> bool:
    return type(value) is int


def _none(parameters: Parameters) -> bool:
    return not parameters


def _limit(parameters: Parameters) -> bool:
    return parameters.keys() == {"limit"} and _whole(parameters["limit"]) and 1 <= parameters["limit"] <= 100


def _refund(parameters: Parameters) -> bool:
    amount: Any = parameters.get("amount")
    return (
        {"amount", "currency"} <= parameters.keys() <= {"amount", "currency", "note"}
        and _whole(amount)
        and 1 <= amount <= 5000
        and parameters["currency"] == "EUR"
        and isinstance(parameters.get("note", ""), str)
    )


RETAIL, WHOLE = frozenset({"retail"}), frozenset({"wholesale"})
TENANTS: Final = {
    SUPPORT: ("retail",),
    WHOLESALE: ("wholesale",),
    SHARED: ("retail", "wholesale"),
    COURIER: ("retail",),
}


def _may(*agents: str, of: frozenset[str], resource: str, minutes: int, **more: Any) -> Row:
    given = {"admits": _none} | more
    return Row(agents=frozenset(agents), tenants=of, resource=resource, longest=timedelta(minutes=minutes), **given)


MAY: Final[Mapping[str, tuple[Row, ...]]] = {
    "order.read": (
        _may(SUPPORT, WHOLESALE, SHARED, of=RETAIL | WHOLE, resource="order", minutes=5, low=True),
        _may(COURIER, of=RETAIL, resource="order", minutes=1, purpose="delivery"),
    ),
    "order.list": (_may(SUPPORT, SHARED, of=RETAIL, resource="set open-orders", minutes=5, low=True, admits=_limit),),
    "customer.read": (_may(SUPPORT, SHARED, of=RETAIL, resource="customer", minutes=2),),
    "order.refund": (_may(SUPPORT, of=RETAIL, resource="order", minutes=2, write=True, admits=_refund),),
    "order.cancel": (
        _may(SUPPORT, of=RETAIL, resource="order", minutes=2, write=True),
        _may(WHOLESALE, SHARED, of=WHOLE, resource="order", minutes=2, write=True),
    ),
    "customer.payout_change": (),  # waits for a person, always
}
# What a task of each agent may ever touch, by its task type.
TYPES: Final = {
    SUPPORT: frozenset(MAY),
    WHOLESALE: frozenset({"order.read", "order.cancel", "order.refund"}),
    SHARED: frozenset(MAY),
    COURIER: frozenset({"order.read"}),
}


@dataclass(kw_only=True)
class Piece:
    """A task as its agent knows it: what it was begun for, and every boundary that was ever put around it.

    Attributes:
        walls: each a mapping of what it restricts; all of them hold.

    """

    id: str
    agent: str
    tenant: str
    purpose: str
    deadline: datetime
    walls: list[Mapping[str, Any]]
    over: bool = False

    def admits(self, action: str, resource: tuple[str, str, str], audience: str, parameters: Parameters) -> bool:
        """Whether a call lies within every one of its walls."""
        return action in TYPES[self.agent] and all(
            _within(wall, action, resource, audience, parameters) for wall in self.walls
        )


def _within(
    wall: Mapping[str, Any], action: str, resource: tuple[str, str, str], audience: str, parameters: Parameters
) -> bool:
    if wall.get("actions") and action not in wall["actions"]:
        return False
    if wall.get("services") and audience not in wall["services"]:
        return False
    named = wall.get("resources")
    if named and not any(kind == resource[0] and one in ("", resource[1]) and not many for kind, one, many in named):
        return False
    limits = wall.get("limits", {}).get(action, {})
    return all(name in parameters and _allowed(limit, parameters[name]) for name, limit in limits.items())


def _allowed(limit: Any, value: Any) -> bool:
    if isinstance(limit, list):
        return any(type(each) is type(value) and each == value for each in limit)
    return _whole(value) and limit.get("min", value) <= value <= limit.get("max", value)
