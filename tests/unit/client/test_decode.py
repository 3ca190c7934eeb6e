"""Intents onto the wire, answers off it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.client.decode import credential_of, intent_message, plain_parameters
from broker.client.errors import BrokerError
from broker.errors import Refusal
from broker.intent import Intent, Json, Level, Resource
from broker.server import convert
from broker.v1 import types_pb2

INTENT = Intent(
    action="order.refund",
    resource=Resource(type="order", id="1"),
    purpose="support",
    audience="spiffe://example.org/orders",
)

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._/-]{0,20}", fullmatch=True)
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
JSON: st.SearchStrategy[Json] = st.recursive(
    st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(
    parameters=st.dictionaries(TEXTS, JSON, max_size=4),
    purpose=NAMES,
    sensitivity=st.none() | st.sampled_from(Level),
    risk=st.none() | st.sampled_from(Level),
    is_set=st.booleans(),
)
def test_the_broker_reads_the_intent_that_was_meant(
    *, parameters: dict[str, Json], purpose: str, sensitivity: Level | None, risk: Level | None, is_set: bool
) -> None:
    resource = Resource(type="order", set="open") if is_set else Resource(type="order", id="Ä 1")
    intent = Intent(
        action="order.read",
        resource=resource,
        parameters=plain_parameters(parameters),
        purpose=purpose,
        audience="spiffe://example.org/orders",
        on_behalf_of="ann",
        sensitivity=sensitivity,
        risk=risk,
    )
    read = convert.intent(types_pb2.Intent.FromString(intent_message(intent).SerializeToString()))
    assert read.digest() == intent.digest()
    assert (read.resource, read.sensitivity, read.risk) == (resource, sensitivity, risk)


@pytest.mark.parametrize("value", [1.0, None, float("inf"), b"x", {1, 2}, 2**53, object], ids=repr)
def test_parameters_without_one_meaning_are_refused(value: object) -> None:
    with pytest.raises(Refusal):
        plain_parameters({"a": value})  # type: ignore[dict-item]  # as a caller without types would


def test_parameters_that_contain_themselves_are_refused() -> None:
    loop: dict[str, Json] = {}
    loop["a"] = loop
    with pytest.raises(Refusal):
        plain_parameters(loop)


def answer(**changes: str) -> types_pb2.Credential:
    fields: dict[str, Any] = {
        "token": "t",
        "credential_id": "c",
        "authorization_details": "[]",
        "intent_digest": INTENT.digest(),
    }
    return types_pb2.Credential(**(fields | changes))


def test_a_credential_is_for_the_intent_that_was_asked() -> None:
    assert credential_of(answer(), INTENT, "thumb").id == "c"
    with pytest.raises(BrokerError, match="another intent"):
        credential_of(answer(intent_digest="sha-256:x"), INTENT, "thumb")


def test_details_that_are_not_json_are_no_credential() -> None:
    with pytest.raises(BrokerError, match="not JSON"):
        credential_of(answer(authorization_details="{"), INTENT, "thumb")
