"""A boundary becomes narrower and never wider, and reads back as it was written."""

import pytest
from hypothesis import given

from broker.boundary import Boundary, Extent, boundary_from_json
from broker.errors import Reason, Refusal
from broker.scope import Constraint, OneOf, Range
from tests.issuer.nouns import boundaries, intents


def limited(limit: Constraint) -> Boundary:
    return Boundary(limits={"order.refund": {"amount": limit}})


@pytest.mark.parametrize(
    ("own", "asked", "fits"),
    [
        (Range(maximum=5000), Range(maximum=5000), True),
        (Range(maximum=5000), Range(minimum=1, maximum=100), True),
        (Range(maximum=5000), OneOf(values=(4200,)), True),
        (Range(maximum=5000), Range(maximum=5001), False),
        (Range(maximum=5000), Range(minimum=1), False),
        (Range(maximum=5000), OneOf(values=(4200, 5001)), False),
        (Range(maximum=5000), OneOf(values=("4200",)), False),
        (OneOf(values=("EUR", "USD")), OneOf(values=("EUR",)), True),
        (OneOf(values=("EUR",)), OneOf(values=("EUR", "USD")), False),
    ],
)
def test_a_limit_is_tightened_or_refused(own: Constraint, asked: Constraint, fits: bool) -> None:
    if fits:
        assert limited(own).narrowed(limited(asked)) == limited(asked)
        return
    with pytest.raises(Refusal) as refusal:
        limited(own).narrowed(limited(asked))
    assert refusal.value.reason is Reason.TASK_BOUNDARY_WIDER


def test_a_set_covers_its_own_name_and_a_type_covers_all() -> None:
    whole, one, several = Extent(type="order"), Extent(type="order", id="1"), Extent(type="order", set="open")
    assert whole.covers(one)
    assert whole.covers(several)
    assert not one.covers(whole)
    assert not several.covers(one)
    assert not whole.covers(Extent(type="customer"))


@given(boundaries, boundaries, intents)
def test_what_lies_outside_lies_outside_of_everything_narrower(own: Boundary, asked: Boundary, intent: object) -> None:
    try:
        narrower = own.narrowed(asked)
    except Refusal as refusal:
        assert refusal.reason is Reason.TASK_BOUNDARY_WIDER
        return
    if own.outside(intent) or asked.outside(intent):  # type: ignore[arg-type]
        assert narrower.outside(intent)  # type: ignore[arg-type]


@given(boundaries)
def test_it_reads_back_as_it_was_written(boundary: Boundary) -> None:
    assert boundary_from_json(boundary.to_json()) == boundary


@pytest.mark.parametrize("value", [None, [], {"more": 1}, {"actions": "x"}, {"resources": [1]}, {"resources": [{}]}])
def test_what_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not a boundary"):
        boundary_from_json(value)


@pytest.mark.parametrize("limits", [1, {"a": 1}, {"a": {"b": {}}}, {"a": {"b": []}}, {"A B": {"b": [1]}}])
def test_limits_without_a_meaning_are_refused(limits: object) -> None:
    with pytest.raises(Refusal):
        boundary_from_json({"limits": limits})
