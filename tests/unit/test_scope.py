"""Scopes: never wider than what was asked, never wider than the limits (threat A2)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.intent import Resource
from broker.scope import OneOf, Range, Scope, constraint_from_json

ORDER = Resource(type="order", id="1234")


def scope(**constraints: Any) -> Scope:
    return Scope(
        actions=frozenset({"order.refund"}),
        resource=ORDER,
        constraints={name: constraint_from_json(value) for name, value in constraints.items()},
        audience="spiffe://example.org/service/orders",
    )


COVERED = [
    pytest.param({"amount": 40}, True, id="exact"),
    pytest.param({"amount": 41}, False, id="other-value"),
    pytest.param({"amount": "40"}, False, id="B1-text-instead-of-number"),
    pytest.param({}, False, id="missing"),
    pytest.param({"amount": 40, "note": "x"}, False, id="B1-extra-field"),
]


@pytest.mark.parametrize(("parameters", "covered"), COVERED)
def test_a_call_is_covered_exactly(parameters: dict[str, Any], covered: bool) -> None:
    assert scope(amount=[40]).covers("order.refund", ORDER, parameters) is covered


def test_true_is_not_one() -> None:
    assert scope(amount=[1]).covers("order.refund", ORDER, {"amount": 1})
    assert not scope(amount=[1]).covers("order.refund", ORDER, {"amount": True})
    assert not scope(amount={"max": 1}).covers("order.refund", ORDER, {"amount": True})


@pytest.mark.parametrize("value", [[], {}, {"max": 1.5}, {"max": True}, {"most": 1}, {"max": 2**53}, "x", None, 7])
def test_other_constraints_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="constraint"):
        constraint_from_json(value)


def test_a_limit_on_what_the_call_does_not_carry_leaves_nothing() -> None:
    assert scope(amount=[40]).narrow({"amount": Range(maximum=50)}) == scope(amount=[40])
    assert scope(amount=[40]).narrow({"currency": OneOf(values=("eur",))}) is None
    assert scope(amount=[60]).narrow({"amount": Range(maximum=50)}) is None


values: st.SearchStrategy[Any] = st.integers(-5, 5) | st.sampled_from(["1", "eur", True, False])
constraints = st.lists(values, min_size=1, max_size=4).map(lambda listed: OneOf(values=tuple(listed))) | st.builds(
    Range, minimum=st.none() | st.integers(-5, 5), maximum=st.none() | st.integers(-5, 5)
)


@given(constraints, constraints, values)
def test_narrowed_is_what_both_admit(one: Any, other: Any, value: Any) -> None:
    wide = Scope(actions=frozenset({"a"}), resource=ORDER, constraints={"p": one}, audience="x")
    narrow = wide.narrow({"p": other})
    admitted = narrow is not None and narrow.constraints["p"].admits(value)
    assert admitted == (one.admits(value) and other.admits(value))
    if narrow is not None:
        assert wide.includes(narrow)


@given(constraints, constraints)
def test_inclusion_means_that_nothing_more_is_admitted(one: Any, other: Any) -> None:
    wide = Scope(actions=frozenset({"a"}), resource=ORDER, constraints={"p": one}, audience="x")
    narrow = Scope(actions=frozenset({"a"}), resource=ORDER, constraints={"p": other}, audience="x")
    if wide.includes(narrow):
        for value in [*range(-7, 8), "1", "eur", True, False]:
            assert one.admits(value) or not other.admits(value)
