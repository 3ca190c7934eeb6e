"""What parameters an action takes, as the type checker tells it."""

from typing import Final

import cedarpy
import pytest

from broker.intent import Json
from broker.policy.shape import Members, fits, parameters_of, repaired, sample

RECORD: Final = (
    '{ amount: Long, note?: String, tags: Set<String>, where: { "zip code": String, lines?: Set<Long> }, '
    "yes: Bool, from: ipaddr, at?: datetime }"
)


def schema_of(record: str) -> cedarpy.Schema:
    applies = f"principal: [Agent], resource: [Order], context: {{ parameters: {record} }}"
    return cedarpy.Schema.from_str(f'entity Agent, Order; action "act" appliesTo {{ {applies} }};')


def shape_of(record: str) -> Members:
    shape = parameters_of(schema_of(record), "act", "Order")
    assert shape is not None
    return shape


SHAPE: Final = shape_of(RECORD)
WHOLE: Final[dict[str, Json]] = {
    "amount": 5,
    "tags": ["a"],
    "where": {"zip code": "1", "lines": [1]},
    "yes": False,
    "from": "192.0.2.1",
}


def test_a_shape_as_text() -> None:
    assert str(SHAPE) == (
        "{ amount: Long, at?: datetime, from: ipaddr, note?: String, tags: Set<String>, "
        "where: { lines?: Set<Long>, zip code: String }, yes: Bool }"
    )
    assert str(shape_of("{}")) == "{}"


def test_a_sample_is_what_cedar_takes() -> None:
    made = sample(SHAPE)
    assert isinstance(made, dict)
    assert fits(SHAPE, made)
    assert made.keys() == SHAPE.required
    assert fits(SHAPE, WHOLE)


UNFIT: Final[dict[str, dict[str, Json]]] = {
    "a boolean for a number": {"amount": True},
    "text for a number": {"amount": "5"},
    "a number for a boolean": {"yes": 1},
    "text for a set": {"tags": "a"},
    "a set of something else": {"tags": [1]},
    "a record with a member too many": {"where": {"zip code": "1", "street": "x"}},
    "a record with a member missing": {"where": {}},
    "text for a record": {"where": "x"},
    "a member too many": {"colour": "red"},
}


@pytest.mark.parametrize("change", UNFIT.values(), ids=UNFIT)
def test_what_does_not_fit_is_repaired_and_the_rest_kept(change: dict[str, Json]) -> None:
    value = {**WHOLE, **change}
    assert not fits(SHAPE, value)
    mended = repaired(SHAPE, value)
    assert fits(SHAPE, mended)
    kept = WHOLE.keys() - change.keys()
    assert {name: mended[name] for name in kept} == {name: WHOLE[name] for name in kept}


def test_what_cannot_be_told_is_not_guessed() -> None:
    assert parameters_of(schema_of("{}"), "other", "Order") is None
    for name in ("a}", "a<b"):
        assert parameters_of(schema_of(f'{{ "{name}": {{ c: Long }} }}'), "act", "Order") is None
