"""What issuers publish: read strictly, and nothing that cannot verify safely is taken as a key."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from broker.person.issuer_keys import MAX_KEYS, read_discovery, read_issuer_keys
from tests.fakes.identity import ISSUER, IdentityKey, key_set, number

EC, RSA, ED = IdentityKey.make("e"), IdentityKey.make("r", "RS256"), IdentityKey.make("d", "EdDSA")


def test_keys_are_known_by_kid_with_what_they_verify() -> None:
    found = read_issuer_keys(key_set(EC, RSA, ED))
    assert {kid: sorted(key.algorithms) for kid, key in found.items()} == {
        "e": ["ES256"],
        "r": ["RS256"],
        "d": ["EdDSA"],
    }
    loose = read_issuer_keys(json.dumps({"keys": [RSA.jwk(alg=None, use=None)]}).encode())
    assert sorted(loose["r"].algorithms) == ["PS256", "RS256"]


def odd(key: IdentityKey, **changes: Any) -> dict[str, Any]:
    return key.jwk(**changes)


P384 = IdentityKey(kid="x", alg="ES256", key=ec.generate_private_key(ec.SECP384R1()))
SMALL = IdentityKey(kid="x", alg="RS256", key=rsa.generate_private_key(65537, 1024))  # noqa: S505 - to be left out
ODD: dict[str, dict[str, Any]] = {
    "no-kid": odd(EC, kid=None),
    "kid-number": odd(EC, kid=1),
    "kid-empty": odd(EC, kid=""),
    "kid-long": odd(EC, kid="k" * 257),
    "for-encryption": odd(RSA, use="enc"),
    "for-encryption-by-alg": odd(RSA, alg="RSA-OAEP-256", use=None),
    "key-ops": odd(EC, key_ops=["sign"]),
    "key-ops-text": odd(EC, key_ops="verify"),
    "alg-of-another-kind": odd(EC, alg="RS256"),
    "alg-none": odd(EC, alg="none"),
    "alg-hs256": odd(EC, alg="HS256"),
    "private": odd(EC, d="AAAA"),
    "symmetric": {"kty": "oct", "kid": "x", "k": "AAAA", "alg": "HS256"},
    "kty-unknown": odd(EC, kty="PQ"),
    "kty-absent": odd(EC, kty=None),
    "p384": P384.jwk(),
    "p384-called-p256": P384.jwk(crv="P-256"),
    "secp256k1": odd(EC, crv="secp256k1"),
    "x25519": odd(ED, crv="X25519"),
    "not-on-the-curve": odd(EC, x=number(5, 32)),
    "point-missing": odd(EC, y=None),
    "ed25519-short": odd(ED, x="AAAA"),
    "rsa-1024": SMALL.jwk(),
    "rsa-16384": odd(RSA, n=number((1 << 16383) + 1)),
    "rsa-exponent-1": odd(RSA, e=number(1)),
    "rsa-exponent-3": odd(RSA, e=number(3)),
    "rsa-exponent-even": odd(RSA, e=number(65536)),
    "rsa-exponent-large": odd(RSA, e=number((1 << 200) + 1)),
    "rsa-number": odd(RSA, n=5),
    "base64": odd(RSA, n="!!!!"),
    "only-a-certificate": {"kty": "RSA", "kid": "x", "x5c": ["MIIB"]},
}


@pytest.mark.parametrize("key", ODD.values(), ids=ODD)
def test_what_cannot_verify_is_left_out(key: dict[str, Any]) -> None:
    good = EC.jwk(kid="good")
    assert list(read_issuer_keys(json.dumps({"keys": [key, good]}).encode())) == ["good"]
    with pytest.raises(ValueError, match="none of the keys is fit"):
        read_issuer_keys(json.dumps({"keys": [key]}).encode())


def test_a_kid_that_stands_twice_names_nobody() -> None:
    again = IdentityKey.make("e")
    assert list(read_issuer_keys(key_set(EC, again, RSA))) == ["r"]
    weak = odd(EC, kid="r", kty="oct")
    assert list(read_issuer_keys(json.dumps({"keys": [EC.jwk(), RSA.jwk(), weak]}).encode())) == ["e"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"secret",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": ["secret"]}',
        b'{"keys": [], "keys": []}',
        b'{"keys": []}',
        json.dumps({"keys": [EC.jwk(kid=f"k{number}") for number in range(MAX_KEYS + 1)]}).encode(),
        b'{"keys": ' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"keys": [{"x": 1.5}]}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_key_set_is_refused_without_quoting_it(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(not one JSON|keys is not a list|none of the keys)") as refused:
        read_issuer_keys(content)
    assert "secret" not in str(refused.value)


def document(**changes: Any) -> bytes:
    return json.dumps(
        {"issuer": ISSUER, "jwks_uri": "https://keys.example.org/jwks?p=1", "x": [True, None]} | changes
    ).encode()


def test_a_discovery_document_says_where_the_keys_are() -> None:
    assert read_discovery(document(), ISSUER) == "https://keys.example.org/jwks?p=1"


@pytest.mark.parametrize("issuer", [ISSUER + "/", ISSUER.upper(), "https://evil.example", "", None, [ISSUER]])
def test_a_document_of_another_issuer_is_refused(issuer: object) -> None:
    with pytest.raises(ValueError, match="another issuer's"):
        read_discovery(document(issuer=issuer), ISSUER)


@pytest.mark.parametrize(
    "where",
    [
        "http://keys.example.org/jwks",
        "HTTPS://keys.example.org/jwks",
        "file:///etc/passwd",
        "https://user:secret@keys.example.org/",
        "https:///jwks",
        "https://keys.example.org:no/",
        "https://keys.example.org/a b",
        "https://keys.example.org/\r\nX: y",
        "https://keys.example.org/" + "a" * 2048,
        "/jwks",
        "",
        None,
        1,
    ],
)
def test_keys_come_over_tls_or_not_at_all(where: object) -> None:
    with pytest.raises(ValueError, match="jwks_uri is not an https URL"):
        read_discovery(document(jwks_uri=where), ISSUER)
