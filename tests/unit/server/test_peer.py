"""What a connection presents."""

from collections.abc import Mapping

import pytest

from broker.errors import Reason, Refusal
from broker.person.identity_token import MAX_TOKEN_LENGTH
from broker.server.peer import evidence_of, identity_token_of


class Connection:
    """A connection that presents what it is told to."""

    def __init__(self, presented: Mapping[str, list[bytes]]) -> None:
        self._presented = presented

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return self._presented

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"


FULL = {
    "x509_pem_cert": [b"leaf"],
    "x509_pem_cert_chain": [b"chain"],
    "ssl_tls_version": [b"TLSv1.3"],
    "ssl_session_reused": [b"true"],
    "peer_spiffe_id": [b"spiffe://example.org/admin"],
}


def test_leaf_chain_version_and_resumption_are_lifted() -> None:
    evidence = evidence_of(Connection(FULL))
    assert (evidence.leaf, evidence.chain, evidence.tls_version) == (b"leaf", b"chain", "TLSv1.3")
    assert evidence.session_reused
    assert evidence.source == "ipv4:127.0.0.1:1"
    assert b"admin" not in repr(evidence).encode()  # what gRPC makes of the certificate is not taken over


def test_nothing_presented_is_empty() -> None:
    evidence = evidence_of(Connection({}))
    assert (evidence.leaf, evidence.chain, evidence.tls_version, evidence.session_reused) == (b"", b"", "", False)


def test_an_empty_list_is_nothing() -> None:
    assert evidence_of(Connection(FULL | {"x509_pem_cert": []})).leaf == b""


def test_a_version_that_is_not_ascii_is_no_exception() -> None:
    assert evidence_of(Connection(FULL | {"ssl_tls_version": [b"\xff"]})).tls_version == "\ufffd"


def test_an_overlong_chain_is_not_passed_on() -> None:
    evidence = evidence_of(Connection(FULL | {"x509_pem_cert_chain": [b"c" * 70_000]}))
    assert b"CERTIFICATE" not in evidence.leaf
    assert evidence.leaf  # malformed, and not absent
    assert len(evidence.leaf) + len(evidence.chain) < 100


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_an_identity_token_is_taken_up_and_not_shown(scheme: str) -> None:
    token = identity_token_of([("traceparent", "x"), ("authorization", scheme + "a.b-_.c")])
    assert token is not None
    assert token.reveal() == "a.b-_.c"
    assert "a.b" not in f"{token} {token!r}"
    assert identity_token_of([("traceparent", "x"), ("authorization-x", "Bearer a")]) is None


@pytest.mark.parametrize(
    "values",
    [
        ["Basic YTpi"],
        ["Bearer"],
        ["Bearer "],
        ["a.b.c"],
        ["Bearer a b"],
        ["Bearer a.b.c "],
        [" Bearer a.b.c"],
        ["Bearer a.b.c\n"],
        ["Bearer \u00e9"],
        ["DPoP a.b.c"],
        ["Bearer a", "Bearer a"],
        ["Bearer a", "Bearer b"],
        [b"Bearer a"],
        ["Bearer " + "a" * (MAX_TOKEN_LENGTH + 1)],
        [""],
    ],
)
def test_what_is_not_one_bearer_token_is_refused(values: list[str | bytes]) -> None:
    with pytest.raises(Refusal) as refused:
        identity_token_of([("authorization", value) for value in values])
    assert refused.value.reason is Reason.IDENTITY_TOKEN_REFUSED
