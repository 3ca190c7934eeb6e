"""Claims: a closed list, each of one type."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.credential.claims import OPTIONAL, REQUIRED, RESERVED, from_claims, status_uri, to_claims
from broker.errors import Reason, Refusal
from broker.intent import MAX_INTEGER, Resource
from broker.scope import OneOf, Range, Scope
from tests.unit.credential.samples import AGENT, AUDIENCE, CREDENTIAL, ISSUER, LIFETIME, NOW, SCOPE, TASK, claims, grant


def test_a_grant_reads_back_as_it_was_given() -> None:
    given_grant = grant()
    read = from_claims(to_claims(given_grant, ISSUER))
    assert (read.issuer, read.agent, read.credential_id, read.task) == (ISSUER, AGENT, CREDENTIAL, TASK)
    assert (read.tenant, read.transaction_id) == (given_grant.tenant, given_grant.transaction_id)
    assert (read.scope, read.intent_digest, read.thumbprint) == (
        SCOPE,
        given_grant.intent_digest,
        given_grant.thumbprint,
    )
    assert (read.status_index, read.use) == (7, "many")
    assert (read.issued_at, read.not_before, read.expires_at) == (NOW, NOW, NOW + LIFETIME)


def test_the_list_is_closed_and_named() -> None:
    assert to_claims(grant(), ISSUER).keys() == REQUIRED | OPTIONAL
    assert to_claims(grant(task=""), ISSUER).keys() == REQUIRED
    assert not RESERVED & (REQUIRED | OPTIONAL)


def test_a_grant_without_task_has_no_task_claim() -> None:
    assert from_claims(to_claims(grant(task=""), ISSUER)).task == ""


def test_a_set_is_named_as_a_set() -> None:
    scope = Scope(
        actions=frozenset({"order.read"}),
        resource=Resource(type="order", set="open-orders"),
        constraints={},
        audience=AUDIENCE,
    )
    written = to_claims(grant(scope=scope), ISSUER)
    assert written["authorization_details"] == [
        {
            "type": "broker.v1.intent",
            "actions": ["order.read"],
            "locations": [AUDIENCE],
            "datatypes": ["order"],
            "set": "open-orders",
            "parameters": {},
        }
    ]
    assert from_claims(written).scope == scope


def test_each_audience_has_its_own_list() -> None:
    assert status_uri(ISSUER, AUDIENCE) != status_uri(ISSUER, AUDIENCE + "2")
    assert status_uri(ISSUER, AUDIENCE).startswith(ISSUER + "/status/")


def test_nothing_personal_is_shown() -> None:
    shown = repr(from_claims(claims()))
    assert "EUR" not in shown
    assert "sha-256" not in shown
    assert CREDENTIAL in shown


def _details(**changes: Any) -> dict[str, Any]:
    detail = claims()["authorization_details"][0] | changes
    return {"authorization_details": [{name: value for name, value in detail.items() if value is not None}]}


def _nested(*values: object) -> dict[str, Any]:
    return _details(parameters={"amount": list(values)})


BAD: dict[str, dict[str, Any]] = {
    "iss-empty": {"iss": ""},
    "iss-array": {"iss": [ISSUER]},
    "iss-blank": {"iss": ISSUER + " "},
    "iss-line-end": {"iss": ISSUER + "\nx"},
    "sub-empty": {"sub": "", "client_id": ""},
    "sub-bare-trust-domain": {"sub": "spiffe://example.org", "client_id": "spiffe://example.org"},
    "sub-dot-segment": {"sub": "spiffe://example.org/a/../b", "client_id": "spiffe://example.org/a/../b"},
    "sub-trailing-dot-segment": {"sub": "spiffe://example.org/a/..", "client_id": "spiffe://example.org/a/.."},
    "sub-too-long": {"sub": AGENT + "x" * 2048, "client_id": AGENT + "x" * 2048},
    "sub-is-somebody-else": {"sub": AGENT + "2"},
    "client-id-absent": {"client_id": None},
    "client-id-somebody-else": {"client_id": AGENT + "2"},
    "aud-array": {"aud": [AUDIENCE]},
    "aud-empty": {"aud": ""},
    "aud-empty-array": {"aud": []},
    "aud-nested": {"aud": {"aud": AUDIENCE}},
    "aud-not-its-detail": {"aud": AUDIENCE + "2"},
    "iat-string": {"iat": "1790000000"},
    "iat-true": {"iat": True},
    "iat-negative": {"iat": -1},
    "exp-string": {"exp": "1790000000"},
    "exp-float": {"exp": 1.9e9},
    "exp-true": {"exp": True},
    "exp-huge": {"exp": 10**30},
    "exp-year-10000": {"exp": 253402300800},
    "exp-negative": {"exp": -1},
    "exp-null": {"exp": None},
    "exp-before-iat": {"exp": 1},
    "nbf-after-exp": {"nbf": int((NOW + LIFETIME).timestamp())},
    "jti-of-another-kind": {"jti": TASK},
    "jti-not-an-id": {"jti": "cred_1"},
    "jti-upper-case": {"jti": CREDENTIAL.replace("a", "A")},
    "tenant-empty": {"tenant": ""},
    "tenant-number": {"tenant": 1},
    "tenant-upper-case": {"tenant": "Retail"},
    "tenant-array": {"tenant": ["retail"]},
    "task-empty": {"task": ""},
    "task-null": {"task": None},
    "txn-of-another-kind": {"txn": CREDENTIAL},
    "intent-other-hash": {"intent": "sha-512:" + "A" * 43},
    "use-unknown": {"use": "twice"},
    "use-number": {"use": 1},
    "cnf-empty": {"cnf": {}},
    "cnf-jkt": {"cnf": {"jkt": "A" * 43}},
    "cnf-both": {"cnf": {"x5t#S256": "A" * 43, "jkt": "A" * 43}},
    "cnf-short": {"cnf": {"x5t#S256": "A" * 42}},
    "cnf-text": {"cnf": "A" * 43},
    "status-empty": {"status": {}},
    "status-list-empty": {"status": {"status_list": {}}},
    "status-index-text": {"status": {"status_list": {"idx": "7", "uri": status_uri(ISSUER, AUDIENCE)}}},
    "status-index-true": {"status": {"status_list": {"idx": True, "uri": status_uri(ISSUER, AUDIENCE)}}},
    "status-index-negative": {"status": {"status_list": {"idx": -1, "uri": status_uri(ISSUER, AUDIENCE)}}},
    "status-index-beyond": {"status": {"status_list": {"idx": 2**32, "uri": status_uri(ISSUER, AUDIENCE)}}},
    "status-list-of-another": {"status": {"status_list": {"idx": 7, "uri": status_uri(ISSUER, AUDIENCE + "2")}}},
    "act": {"act": {"sub": AGENT}},
    "may-act": {"may_act": {"sub": AGENT}},
    "unknown-claim": {"scope": "everything"},
    "details-empty": {"authorization_details": []},
    "details-two": {"authorization_details": claims()["authorization_details"] * 2},
    "details-object": {"authorization_details": claims()["authorization_details"][0]},
    "details-text": {"authorization_details": "all"},
    "details-of-text": {"authorization_details": ["all"]},
    "detail-other-type": _details(type="broker.v2.intent"),
    "detail-unknown-member": _details(privileges=["admin"]),
    "detail-no-parameters": _details(parameters=None),
    "detail-no-actions": _details(actions=[]),
    "detail-actions-text": _details(actions="order.refund"),
    "detail-action-number": _details(actions=[1]),
    "detail-action-twice": _details(actions=["order.refund", "order.refund"]),
    "detail-actions-unsorted": _details(actions=["order.refund", "order.cancel"]),
    "detail-action-wildcard": _details(actions=["*"]),
    "detail-action-nested": _details(actions=[["order.refund"]]),
    "detail-other-location": _details(locations=[AUDIENCE + "2"]),
    "detail-more-locations": _details(locations=[AUDIENCE, AUDIENCE + "2"]),
    "detail-two-datatypes": _details(datatypes=["customer", "order"]),
    "detail-datatype-text": _details(datatypes="o"),
    "detail-datatype-number": _details(datatypes=[1]),
    "detail-identifier-empty": _details(identifier=""),
    "detail-identifier-number": _details(identifier=1234),
    "detail-identifier-array": _details(identifier=["1234"]),
    "detail-identifier-control": _details(identifier="12\n34"),
    "detail-identifier-surrogate": _details(identifier="\ud800"),
    "detail-identifier-and-set": _details(set="open-orders"),
    "detail-neither": _details(identifier=None),
    "detail-parameters-array": _details(parameters=[]),
    "constraint-empty-list": _details(parameters={"amount": []}),
    "constraint-empty-object": _details(parameters={"amount": {}}),
    "constraint-unknown": _details(parameters={"amount": {"max": 5, "step": 1}}),
    "constraint-bound-true": _details(parameters={"amount": {"max": True}}),
    "constraint-bound-text": _details(parameters={"amount": {"max": "5"}}),
    "constraint-bound-huge": _details(parameters={"amount": {"max": 10**20}}),
    "constraint-null": _nested(None),
    "constraint-float": _nested(1.5),
    "constraint-huge": _nested(MAX_INTEGER + 1),
    "constraint-surrogate": _nested("\ud800"),
    "constraint-surrogate-name": _details(parameters={"\ud800": [1]}),
}


def test_the_bad_ones_start_from_a_good_one() -> None:
    assert from_claims(claims()).scope == SCOPE
    assert from_claims(claims(**_details())).scope == SCOPE
    values: tuple[Any, ...] = (1, "x", True, [], {"a": [1]})
    assert from_claims(claims(**_nested(*values))).scope.constraints["amount"] == OneOf(values=values)


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD.keys())
def test_a_claim_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        from_claims(claims(**changes))
    assert refused.value.reason is Reason.TOKEN_CLAIMS_REFUSED


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_a_claim_that_is_missing_is_refused_by_its_name(name: str) -> None:
    held = claims()
    del held[name]
    with pytest.raises(Refusal, match=name) as refused:
        from_claims(held)
    assert refused.value.reason is Reason.TOKEN_CLAIMS_REFUSED


ANYTHING: Callable[[], st.SearchStrategy[Any]] = lambda: st.recursive(  # noqa: E731 - a strategy
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@given(name=st.sampled_from(sorted(REQUIRED | OPTIONAL)), value=ANYTHING())
def test_any_value_in_any_claim_is_read_or_refused(name: str, value: object) -> None:
    try:
        from_claims(claims(**{name: value}))
    except Refusal as refusal:
        assert refusal.reason is Reason.TOKEN_CLAIMS_REFUSED


@given(
    minimum=st.integers(-MAX_INTEGER, MAX_INTEGER),
    values=st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.integers(0, 9), min_size=1),
    lifetime=st.integers(1, 86400),
    index=st.integers(0, 2**32 - 1),
)
def test_every_grant_reads_back(minimum: int, values: list[int | str], lifetime: int, index: int) -> None:
    scope = Scope(
        actions=frozenset({"a", "b"}),
        resource=Resource(type="order", id="ü 漢字 \U0001f600"),
        constraints={"n": Range(minimum=minimum), "v": OneOf(values=tuple(values))},
        audience=AUDIENCE,
    )
    end = NOW + timedelta(seconds=lifetime)
    read = from_claims(to_claims(grant(scope=scope, expires_at=end, status_index=index), ISSUER))
    assert (read.scope, read.expires_at, read.status_index) == (scope, end, index)
