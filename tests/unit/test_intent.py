"""Intents: one meaning, one canonical form; everything else is refused with its reason (threats C1 to C4)."""

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import Reason, Refusal
from broker.intent import (
    MAX_INTEGER,
    MAX_PARAMETER_BYTES,
    MAX_PARAMETER_DEPTH,
    MAX_PARAMETER_MEMBERS,
    Intent,
    Level,
    Resource,
    canonical_json,
    parse_parameters,
)

AUDIENCE = "spiffe://example.org/service/orders"


def intent(**changes: Any) -> Intent:
    values: dict[str, Any] = {
        "action": "order.refund",
        "resource": Resource(type="order", id="1234"),
        "parameters": {"amount": 4000, "currency": "eur"},
        "purpose": "support",
        "audience": AUDIENCE,
    }
    return Intent(**values | changes)


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


ACCEPTED = [
    pytest.param("", {}, id="empty-means-no-parameters"),
    pytest.param("{}", {}, id="empty-object"),
    pytest.param(' { "a" : 1 } ', {"a": 1}, id="white-space"),
    pytest.param('{"a": -0.0e0}'.replace("-0.0e0", "0"), {"a": 0}, id="zero"),
    pytest.param(f'{{"a": {MAX_INTEGER}}}', {"a": MAX_INTEGER}, id="largest-integer"),
    pytest.param(f'{{"a": -{MAX_INTEGER}}}', {"a": -MAX_INTEGER}, id="smallest-integer"),
    pytest.param('{"a": "\\u00e9"}', {"a": "é"}, id="escape"),
    pytest.param('{"a": [true, {"b": "c"}]}', {"a": [True, {"b": "c"}]}, id="nested"),
    pytest.param(nested(MAX_PARAMETER_DEPTH), json.loads(nested(MAX_PARAMETER_DEPTH)), id="deepest"),
]

REFUSED = [
    pytest.param('{"a":1,"a":2}', Reason.INTENT_PARAMETERS_DUPLICATE, id="C1-duplicate-key"),
    pytest.param('{"a":{"b":1,"\\u0062":1}}', Reason.INTENT_PARAMETERS_DUPLICATE, id="C1-duplicate-key-by-escape"),
    pytest.param('{"a":NaN}', Reason.INTENT_PARAMETERS_NUMBER, id="C1-nan"),
    pytest.param('{"a":-Infinity}', Reason.INTENT_PARAMETERS_NUMBER, id="C1-infinity"),
    pytest.param('{"a":1e400}', Reason.INTENT_PARAMETERS_NUMBER, id="C1-1e400"),
    pytest.param('{"a":1e1}', Reason.INTENT_PARAMETERS_NUMBER, id="C1-exponent"),
    pytest.param('{"a":10.00}', Reason.INTENT_PARAMETERS_NUMBER, id="C1-float"),
    pytest.param('{"a":-0}', Reason.INTENT_PARAMETERS_NUMBER, id="C1-minus-zero"),
    pytest.param(f'{{"a":{2**53}}}', Reason.INTENT_PARAMETERS_NUMBER, id="C1-2^53"),
    pytest.param('{"a":' + "9" * 5000 + "}", Reason.INTENT_PARAMETERS_NUMBER, id="C1-5000-digits"),
    pytest.param('{"a":01}', Reason.INTENT_PARAMETERS_SYNTAX, id="C1-leading-zero"),
    pytest.param('{"a":null}', Reason.INTENT_PARAMETERS_NULL, id="C1-null"),
    pytest.param('{"a":[[null]]}', Reason.INTENT_PARAMETERS_NULL, id="C1-null-inside"),
    pytest.param('{"a":"\\ud800"}', Reason.INTENT_PARAMETERS_TEXT, id="C1-lone-surrogate"),
    pytest.param('{"\\udfff":1}', Reason.INTENT_PARAMETERS_TEXT, id="C1-lone-surrogate-key"),
    pytest.param('{"a":"\ud800"}', Reason.INTENT_PARAMETERS_TEXT, id="C1-raw-surrogate"),
    pytest.param(nested(MAX_PARAMETER_DEPTH + 1), Reason.INTENT_PARAMETERS_SIZE, id="C1-one-too-deep"),
    pytest.param("[" * 100_000, Reason.INTENT_PARAMETERS_SIZE, id="C1-depth-100000"),
    pytest.param("[" * 30_000, Reason.INTENT_PARAMETERS_SIZE, id="C1-depth-30000-within-size"),
    pytest.param('{"a":"' + "x" * MAX_PARAMETER_BYTES + '"}', Reason.INTENT_PARAMETERS_SIZE, id="C1-too-long"),
    pytest.param(json.dumps({str(n): 1 for n in range(MAX_PARAMETER_MEMBERS + 1)}), Reason.INTENT_PARAMETERS_SIZE,
                 id="C1-too-many-members"),
    pytest.param("[]", Reason.INTENT_PARAMETERS_SYNTAX, id="C3-array"),
    pytest.param('"{}"', Reason.INTENT_PARAMETERS_SYNTAX, id="C3-string"),
    pytest.param("{'a':1}", Reason.INTENT_PARAMETERS_SYNTAX, id="C3-single-quotes"),
    pytest.param('{"a":1}{"a":2}', Reason.INTENT_PARAMETERS_SYNTAX, id="C3-two-objects"),
    pytest.param('{"a":1,}', Reason.INTENT_PARAMETERS_SYNTAX, id="C3-trailing-comma"),
    pytest.param("\ufeff{}", Reason.INTENT_PARAMETERS_SYNTAX, id="C3-byte-order-mark"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ACCEPTED)
def test_parameters_with_one_meaning_are_accepted(text: str, expected: dict[str, Any]) -> None:
    assert parse_parameters(text) == expected


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_parameters_without_one_meaning_are_refused(text: str, reason: Reason) -> None:
    with pytest.raises(Refusal) as refused:
        parse_parameters(text)
    assert refused.value.reason is reason


NAMES = ["action", "purpose"]
BAD_NAMES = [
    pytest.param("", id="empty"),
    pytest.param("Order.read", id="upper-case"),
    pytest.param("order read", id="space"),
    pytest.param("order.*", id="C4-star"),
    pytest.param("order\n", id="C4-newline"),
    pytest.param("оrder", id="C2-cyrillic-o"),
    pytest.param("ﬁle", id="C2-ligature"),
    pytest.param("order\u200b", id="C2-zero-width"),
    pytest.param("ı", id="C2-dotless-i"),
    pytest.param("K", id="C2-kelvin"),
    pytest.param("a" * 129, id="too-long"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", BAD_NAMES)
def test_names_in_rule_positions_are_plain(name: str, text: str) -> None:
    intent(**{name: "order.read-1/x_y"})
    with pytest.raises(Refusal) as refused:
        intent(**{name: text})
    assert refused.value.reason is Reason.INTENT_NAME_INVALID


@pytest.mark.parametrize(
    "resource",
    [
        {"type": "order"},
        {"type": "order", "id": "1", "set": "all"},
        {"type": "order", "id": "1\n2"},
        {"type": "order", "id": "\u202e4321"},
        {"type": "order", "id": "\ud800"},
        {"type": "order", "id": "é" * 129},
    ],
    ids=["neither", "both", "C4-newline", "B5-right-to-left", "C1-surrogate", "too-long"],
)
def test_a_resource_is_one_or_a_set(resource: dict[str, str]) -> None:
    Resource(type="order", id="é*'\"/../ 1")
    with pytest.raises(Refusal) as refused:
        Resource(**resource)
    assert refused.value.reason is Reason.INTENT_RESOURCE_INVALID


@pytest.mark.parametrize(
    "audience",
    ["orders", "spiffe://example.org", "spiffe://EXAMPLE.org/a", "spiffe://example.org/a\n", "spiffe://example.org/*"],
)
def test_an_audience_is_a_service_by_its_spiffe_id(audience: str) -> None:
    with pytest.raises(Refusal):
        intent(audience=audience)


def test_the_canonical_form_does_not_depend_on_how_it_was_written() -> None:
    one = intent(parameters=parse_parameters('{"b": "\\u00e9", "a": 1}'))
    other = intent(parameters=parse_parameters('{"a":1,"b":"é"}'))
    assert one.digest() == other.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"action": "order.read"},
        {"resource": Resource(type="order", id="1235")},
        {"resource": Resource(type="order", set="1234")},
        {"parameters": {"amount": 4001, "currency": "eur"}},
        {"parameters": {"amount": "4000", "currency": "eur"}},
        {"parameters": {"amount": True, "currency": "eur"}},
        {"purpose": "sales"},
        {"audience": AUDIENCE + "2"},
        {"task": "task_0190a0a0-0000-7000-8000-000000000000"},
        {"on_behalf_of": "customer-7"},
        {"sensitivity": Level.HIGH},
        {"risk": Level.HIGH},
    ],
    ids="-".join,
)
def test_every_field_counts_in_the_digest(change: dict[str, Any]) -> None:
    assert intent(**change).digest() != intent().digest()


json_values = st.recursive(
    st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=10), json_values, max_size=5))
def test_what_is_written_is_what_is_read(parameters: dict[str, Any]) -> None:
    assert parse_parameters(json.dumps(parameters)) == parameters


@given(st.text())
def test_nothing_but_a_refusal_comes_of_any_text(text: str) -> None:
    try:
        parse_parameters(text)
    except Refusal as refusal:
        assert refusal.reason.name.startswith("INTENT_PARAMETERS")


@given(json_values)
def test_the_quick_canonical_form_is_that_of_rfc_8785(value: Any) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)
