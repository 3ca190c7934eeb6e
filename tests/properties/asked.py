"""What is asked on a walk: most of it fits, the rest is wider than anything that is allowed."""

from typing import Any

from hypothesis import strategies as st

from broker.boundary import Boundary, boundary_from_json
from broker.intent import Level
from tests.operations.world import COURIER, ORDERS, SHARED, SUPPORT, WHOLESALE
from tests.properties.model import MAY, TYPES

agents = st.sampled_from([SUPPORT, SUPPORT, WHOLESALE, SHARED, COURIER])
actions = st.sampled_from([*MAY, "order.refund", "order.cancel"])
values: st.SearchStrategy[Any] = st.sampled_from([-1, 0, 1, 2, 50, 100, 101, 5000, 5001, True, "EUR", "USD", "1", ""])
fitting: dict[str, st.SearchStrategy[Any]] = {
    "order.list": st.fixed_dictionaries({"limit": st.sampled_from([1, 50, 100, 101])}),
    "order.refund": st.fixed_dictionaries(
        {"amount": st.sampled_from([1, 50, 4999, 5000, 5001]), "currency": st.sampled_from(["EUR", "EUR", "USD"])},
        optional={"note": st.just("n")},
    ),
    "customer.payout_change": st.just({"account": "DE1"}),
}
odd: st.SearchStrategy[Any] = st.dictionaries(
    st.sampled_from(["limit", "amount", "currency", "note"]), values, max_size=3
)
levels = st.sampled_from([None] * 9 + [Level.LOW, Level.HIGH])
often = st.sampled_from([True] * 7 + [False])
limits = st.dictionaries(
    st.sampled_from(["order.refund", "order.list"]),
    st.dictionaries(
        st.sampled_from(["amount", "limit", "currency"]),
        st.lists(values, min_size=1, max_size=3) | st.fixed_dictionaries({"max": st.sampled_from([0, 50, 5000, 9000])}),
        min_size=1,
        max_size=2,
    ),
    max_size=1,
)
extents = st.sampled_from([("order", "", ""), ("order", "1", ""), ("order", "2", ""), ("customer", "", "")])


def walls(who: str) -> Any:
    """Walls around a task of somebody's, most of which fit what its type allows."""
    names = st.sampled_from([*sorted(TYPES[who]), "order.read", *(sorted(MAY)[:1])])
    return st.fixed_dictionaries(
        {},
        optional={
            "actions": st.lists(names, min_size=2, max_size=5, unique=True),
            "resources": st.lists(extents, min_size=1, max_size=2, unique=True),
            "services": st.just([ORDERS]),
            "limits": limits,
        },
    )


def boundary_of(wall: dict[str, Any]) -> Boundary:
    """Return a wall as the broker reads it."""
    made = dict(wall)
    if "resources" in wall:
        made["resources"] = [
            {name: text for name, text in zip(("type", "id", "set"), each, strict=True) if text}
            for each in wall["resources"]
        ]
    return boundary_from_json(made)
