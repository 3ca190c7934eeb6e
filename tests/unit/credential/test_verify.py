"""Verify: a token that this broker minted for this service, now; nothing else."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from hypothesis import assume, given
from hypothesis import strategies as st

from broker.credential.keys import public_jwk
from broker.credential.verify import LEEWAY, MAX_TOKEN_LENGTH, verify
from broker.errors import Reason, Refusal
from tests.unit.credential.samples import (
    AGENT,
    AUDIENCE,
    CREDENTIAL,
    ISSUER,
    KEYS,
    LIFETIME,
    NOW,
    OTHER_SIGNER,
    SIGNER,
    base64url,
    claims,
    header,
    signed,
    token,
)

PUBLIC = KEYS[SIGNER.kid]
SECOND = timedelta(seconds=1)


def refusal(text: str, now: datetime = NOW, audience: str = AUDIENCE, issuer: str = ISSUER) -> Reason | None:
    """Return why a token is refused, None when it is not."""
    try:
        verify(text, keys=KEYS, issuer=issuer, audience=audience, now=now)
    except Refusal as refused:
        return refused.reason
    return None


def test_a_minted_token_verifies() -> None:
    verified = verify(token(), keys=KEYS, issuer=ISSUER, audience=AUDIENCE, now=NOW)
    assert (verified.credential_id, verified.agent) == (CREDENTIAL, AGENT)


def test_the_forgers_tool_can_make_a_good_one() -> None:
    assert refusal(signed(header(), claims())) is None
    assert refusal(signed(json.dumps(header(), indent=1).replace("\n", "").encode(), claims())) is None


# --- E1: algorithms -------------------------------------------------------------------------------------------------


def hs256(secret: bytes, head: dict[str, Any]) -> str:
    """Sign with HMAC, the public key in some form as the secret."""
    signing_input = b".".join(base64url(json.dumps(part).encode()) for part in (head, claims()))
    return (signing_input + b"." + base64url(hmac.digest(secret, signing_input, hashlib.sha256))).decode()


def raw_signed(head: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """Sign with any algorithm."""
    signing_input = b".".join(base64url(json.dumps(part).encode()) for part in (head, claims()))
    return (signing_input + b"." + base64url(sign(signing_input))).decode()


def ecdsa(key: ec.EllipticCurvePrivateKey, hashed: SHA256 | SHA384, size: int) -> Callable[[bytes], bytes]:
    """Return a signer by any curve and hash."""

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashed)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    return sign


PEM = PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DER = PUBLIC.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
POINT = PUBLIC.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
P256 = ec.derive_private_key(0x1234567, ec.SECP256R1())
VALID = token()
HEAD, BODY, SIGNATURE = VALID.split(".")

E1 = {
    "none": f"{base64url(json.dumps(header(alg='none')).encode()).decode()}.{BODY}.",
    "none-with-signature": signed(header(alg="none"), claims()),
    "None": signed(header(alg="None"), claims()),
    "nOnE": signed(header(alg="nOnE"), claims()),
    "es256-lower-case": signed(header(alg="es256"), claims()),
    "alg-absent": signed({"kid": SIGNER.kid, "typ": "at+jwt"}, claims()),
    "alg-array": signed(header(alg=["ES256"]), claims()),
    "hs256-pem": hs256(PEM, header(alg="HS256")),
    "hs256-der": hs256(DER, header(alg="HS256")),
    "hs256-point": hs256(POINT, header(alg="HS256")),
    "hs256-jwk": hs256(public_jwk(PUBLIC).encode(), header(alg="HS256")),
    "hs256-called-es256": hs256(PEM, header()),
    "eddsa": raw_signed(header(alg="EdDSA"), ed25519.Ed25519PrivateKey.generate().sign),
    "eddsa-called-es256": raw_signed(header(), ed25519.Ed25519PrivateKey.generate().sign),
    "es256k": raw_signed(header(alg="ES256K"), ecdsa(ec.generate_private_key(ec.SECP256K1()), SHA256(), 32)),
    "es256k-called-es256": raw_signed(header(), ecdsa(ec.generate_private_key(ec.SECP256K1()), SHA256(), 32)),
    "es384-by-the-p256-key": raw_signed(header(alg="ES384"), ecdsa(P256, SHA384(), 32)),
    "sha384-called-es256": raw_signed(header(), ecdsa(P256, SHA384(), 32)),
    "der-signature": raw_signed(header(), lambda message: P256.sign(message, ec.ECDSA(SHA256()))),
    "zero-signature": f"{HEAD}.{BODY}.{base64url(bytes(64)).decode()}",
    "no-signature": f"{HEAD}.{BODY}.",
    "another-key-called-ours": raw_signed(header(), ecdsa(ec.generate_private_key(ec.SECP256R1()), SHA256(), 32)),
}


def test_the_signers_of_the_table_can_sign() -> None:
    attempts = (raw_signed(header(), ecdsa(P256, SHA256(), 32)) for _ in range(64))
    assert None in {refusal(each) for each in attempts}  # half of them have the low s


@pytest.mark.parametrize("text", E1.values(), ids=E1.keys())
def test_e1_another_algorithm_is_refused(text: str) -> None:
    assert refusal(text) in {Reason.TOKEN_MALFORMED, Reason.TOKEN_SIGNATURE_INVALID}


def test_e1_the_other_form_of_a_signature_is_refused() -> None:
    raw = base64.urlsafe_b64decode(SIGNATURE + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    s = order - int.from_bytes(raw[32:], "big")
    r = int.from_bytes(raw[:32], "big")
    PUBLIC.verify(encode_dss_signature(r, s), f"{HEAD}.{BODY}".encode(), ec.ECDSA(SHA256()))  # as mathematics has it
    assert (
        refusal(f"{HEAD}.{BODY}.{base64url(raw[:32] + s.to_bytes(32, 'big')).decode()}")
        is Reason.TOKEN_SIGNATURE_INVALID
    )


# --- E2, E3: header members ------------------------------------------------------------------------------------------

HEADERS: dict[str, dict[str, Any] | bytes] = {
    "E2-jwk": header(jwk=json.loads(public_jwk(PUBLIC))),
    "E2-jku": header(jku="https://attacker.example/keys"),
    "E2-x5u": header(x5u="https://attacker.example/chain"),
    "E2-x5c": header(x5c=["MIIB"]),
    "E2-x5t": header(**{"x5t#S256": "A" * 43}),
    "E2-kid-path": header(kid="../../../../dev/null"),
    "E2-kid-sql": header(kid="' OR 1=1 --"),
    "E2-kid-url": header(kid="https://attacker.example/key"),
    "E2-kid-long": header(kid="A" * 10_000),
    "E2-kid-number": header(kid=1),
    "E2-kid-array": header(kid=[SIGNER.kid]),
    "E2-kid-null": header(kid=None),
    "E2-kid-absent": {"alg": "ES256", "typ": "at+jwt"},
    "E2-kid-line-end": header(kid=SIGNER.kid + "\n"),
    "E3-crit-unknown": header(crit=["x"], x=1),
    "E3-crit-empty": header(crit=[]),
    "E3-crit-claim": header(crit=["exp"]),
    "E3-b64-false": header(b64=False, crit=["b64"]),
    "E3-zip": header(zip="DEF"),
    "E3-cty": header(cty="JWT"),
    "E3-enc": header(enc="A256GCM"),
    "A7-typ-jwt": header(typ="JWT"),
    "A7-typ-absent": {"alg": "ES256", "kid": SIGNER.kid},
    "A7-typ-upper-case": header(typ="AT+JWT"),
    "A7-typ-media-type": header(typ="application/at+jwt"),
    "A7-typ-wit": header(typ="wit+jwt"),
    "A7-typ-txn": header(typ="txntoken+jwt"),
    "A7-typ-status-list": header(typ="statuslist+jwt"),
    "E5-header-duplicate": b'{"alg":"none","alg":"ES256","kid":"%s","typ":"at+jwt"}' % SIGNER.kid.encode(),
    "E5-header-array": b"[]",
    "E5-header-empty": b"{}",
}


@pytest.mark.parametrize("head", HEADERS.values(), ids=HEADERS.keys())
def test_e2_e3_a7_another_header_is_refused(head: dict[str, Any] | bytes) -> None:
    assert refusal(signed(head, claims())) is Reason.TOKEN_MALFORMED


def test_e2_an_unknown_key_is_named_so() -> None:
    assert refusal(token(OTHER_SIGNER)) is Reason.TOKEN_KEY_UNKNOWN
    assert refusal(signed(header(), claims(), OTHER_SIGNER)) is Reason.TOKEN_SIGNATURE_INVALID


# --- E4: form -------------------------------------------------------------------------------------------------------

FORMS = {
    "json-flattened": json.dumps({"protected": HEAD, "payload": BODY, "signature": SIGNATURE}),
    "json-general": json.dumps({"payload": BODY, "signatures": [{"protected": HEAD, "signature": SIGNATURE}]}),
    "one-part": HEAD,
    "two-parts": f"{HEAD}.{BODY}",
    "four-parts": f"{VALID}.{SIGNATURE}",
    "five-parts": f"{VALID}.{SIGNATURE}.{SIGNATURE}",
    "trailing-dot": VALID + ".",
    "leading-dot": "." + VALID,
    "only-dots": "..",
    "empty": "",
    "padding": VALID + "==",
    "padded-header": f"{HEAD}=.{BODY}.{SIGNATURE}",
    "blank-inside": f"{HEAD}.{BODY[:10]} {BODY[10:]}.{SIGNATURE}",
    "line-end": VALID + "\n",
    "leading-blank": " " + VALID,
    "plus-for-minus": f"{HEAD}.{BODY}.{'+' + SIGNATURE[1:]}",
    "slash": f"{HEAD}.{BODY}.{'/' + SIGNATURE[1:]}",
    "trailing-bits": VALID[:-1] + ("B" if VALID[-1] == "A" else chr(ord(VALID[-1]) + 1)),
    "one-character-more": VALID + "A",
    "length-1-mod-4": f"{HEAD}.{BODY}.{SIGNATURE[:85]}",
    "signature-63": f"{HEAD}.{BODY}.{base64url(b'x' * 63).decode()}",
    "signature-65": f"{HEAD}.{BODY}.{base64url(b'x' * 65).decode()}",
    "not-ascii": VALID.replace("e", "é", 1),
    "lone-surrogate": VALID + "\ud800",
    "nul": VALID + "\0",
    "half-megabyte": HEAD + "." + "A" * 500_000 + "." + SIGNATURE,
    "many-dots": "." * (MAX_TOKEN_LENGTH - 1),
    "payload-not-json": signed(header(), b"hello"),
    "payload-array": signed(header(), b"[]"),
    "payload-not-utf-8": signed(header(), b'{"iss":"\xff"}'),
    "payload-duplicate": signed(header(), json.dumps(claims()).encode()[:-1] + b',"aud":"x"}'),
    "payload-float": signed(header(), claims() | {"exp": 1.5}),
    "payload-nan": signed(header(), json.dumps(claims() | {"exp": float("nan")}).encode()),
    "payload-1e30": signed(header(), json.dumps(claims() | {"exp": 1e30}).encode()),
    "payload-deep": signed(header(), b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "payload-trailing": signed(header(), json.dumps(claims()).encode() + b"{}"),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_e4_another_form_is_refused(text: str) -> None:
    assert refusal(text) is Reason.TOKEN_MALFORMED


def test_e4_length_is_looked_at_first() -> None:
    padded = token(intent_digest="sha-256:" + "A" * 43)
    assert refusal(padded) is None
    assert refusal(signed(header(), claims() | {"x": "y" * 9000})) is Reason.TOKEN_CLAIMS_REFUSED
    assert refusal(signed(header(), claims() | {"x": "y" * 12300})) is Reason.TOKEN_MALFORMED


# --- E5: claims ------------------------------------------------------------------------------------------------------


def test_e5_issuer_and_audience_are_compared_whole() -> None:
    assert refusal(VALID) is None
    for other in (ISSUER + "/", ISSUER[:-1], ISSUER.upper(), ISSUER + ".evil.example"):
        assert refusal(VALID, issuer=other) is Reason.TOKEN_ISSUER_REFUSED
    for other in (AUDIENCE + "2", AUDIENCE[:-1], AUDIENCE.replace("orders", "ORDERS"), AUDIENCE + "/x"):
        assert refusal(VALID, audience=other) is Reason.TOKEN_AUDIENCE_REFUSED
        assert refusal(token(), audience=other) is Reason.TOKEN_AUDIENCE_REFUSED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"iss": "https://other.example"}, Reason.TOKEN_CLAIMS_REFUSED, id="A7-iss"),
        pytest.param({"aud": AUDIENCE + "2"}, Reason.TOKEN_CLAIMS_REFUSED, id="A7-aud"),
        pytest.param({"aud": [AUDIENCE]}, Reason.TOKEN_CLAIMS_REFUSED, id="E5-aud-array"),
        pytest.param({"act": {"sub": AGENT}}, Reason.TOKEN_CLAIMS_REFUSED, id="E5-act"),
        pytest.param({"may_act": {"sub": AGENT}}, Reason.TOKEN_CLAIMS_REFUSED, id="E5-may-act"),
        pytest.param({"admin": True}, Reason.TOKEN_CLAIMS_REFUSED, id="E5-unknown"),
        pytest.param({"exp": True}, Reason.TOKEN_CLAIMS_REFUSED, id="E5-exp-true"),
        pytest.param({"exp": str(2**31)}, Reason.TOKEN_CLAIMS_REFUSED, id="E5-exp-text"),
    ],
)
def test_e5_a_signed_token_with_other_claims_is_refused(changes: dict[str, Any], reason: Reason) -> None:
    assert refusal(signed(header(), claims(**changes))) is reason


@pytest.mark.parametrize("name", ["exp", "cnf", "status", "aud", "iss", "use", "intent", "authorization_details"])
def test_e5_a_claim_that_is_missing_is_refused(name: str) -> None:
    held = claims()
    del held[name]
    assert refusal(signed(header(), held)) is Reason.TOKEN_CLAIMS_REFUSED


def test_a7_each_of_type_issuer_and_audience_alone_is_enough() -> None:
    assert refusal(signed(header(), claims())) is None
    assert refusal(signed(header(typ="JWT"), claims())) is Reason.TOKEN_MALFORMED
    assert refusal(token(issuer="https://other.example")) is Reason.TOKEN_ISSUER_REFUSED
    assert refusal(token(), audience=AUDIENCE + "2") is Reason.TOKEN_AUDIENCE_REFUSED


# --- E6: the edges of time -------------------------------------------------------------------------------------------

MICROSECOND = timedelta(microseconds=1)
TIMES = {
    "exp-1us": (NOW + LIFETIME - MICROSECOND, None),
    "exp": (NOW + LIFETIME, Reason.TOKEN_EXPIRED),
    "exp+1s": (NOW + LIFETIME + SECOND, Reason.TOKEN_EXPIRED),
    "nbf": (NOW, None),
    "nbf-leeway": (NOW - LEEWAY, None),
    "nbf-leeway-1us": (NOW - LEEWAY - MICROSECOND, Reason.TOKEN_NOT_YET_VALID),
    "nbf-1h": (NOW - timedelta(hours=1), Reason.TOKEN_NOT_YET_VALID),
}


@pytest.mark.parametrize(("now", "expected"), TIMES.values(), ids=TIMES.keys())
def test_e6_edges_of_time(now: datetime, expected: Reason | None) -> None:
    assert refusal(VALID, now=now) is expected


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_e6_either_start_counts_alone(name: str) -> None:
    start = int(NOW.timestamp())
    assert refusal(signed(header(), claims(**{name: start + 5}))) is None
    assert refusal(signed(header(), claims(**{name: start + 6}))) is Reason.TOKEN_NOT_YET_VALID


# --- anything -------------------------------------------------------------------------------------------------------


@given(st.text(max_size=400) | st.from_regex(r"\A[A-Za-z0-9_-]{0,80}(\.[A-Za-z0-9_-]{0,90}){1,3}\Z"))
def test_anything_else_is_refused(text: str) -> None:
    assert refusal(text) is not None


@given(head=st.binary(max_size=60), body=st.binary(max_size=200))
def test_anything_signed_is_refused(head: bytes, body: bytes) -> None:
    assert refusal(signed(head, body)) is Reason.TOKEN_MALFORMED
    assert refusal(signed(header(), body)) in {Reason.TOKEN_MALFORMED, Reason.TOKEN_CLAIMS_REFUSED}


@given(position=st.integers(0, len(VALID) - 1), character=st.characters(min_codepoint=1, max_codepoint=300))
def test_one_other_character_anywhere_is_refused(position: int, character: str) -> None:
    assume(VALID[position] != character)
    assert refusal(VALID[:position] + character + VALID[position + 1 :]) is not None


@given(position=st.integers(0, len(VALID) - 1), length=st.integers(1, 40), inserted=st.text("AB-_.", max_size=4))
def test_a_piece_cut_out_or_replaced_is_refused(position: int, length: int, inserted: str) -> None:
    mutated = VALID[:position] + inserted + VALID[position + length :]
    assume(mutated != VALID)
    assert refusal(mutated) is not None


@pytest.mark.parametrize("position", range(0, len(VALID), 7))
def test_one_flipped_bit_is_refused(position: int) -> None:
    for bit in range(7):
        mutated = VALID[:position] + chr(ord(VALID[position]) ^ (1 << bit)) + VALID[position + 1 :]
        assert refusal(mutated) is not None


def test_a_refusal_does_not_quote_the_token() -> None:
    with pytest.raises(Refusal) as refused:
        verify(f"{HEAD}.{BODY}", keys=KEYS, issuer=ISSUER, audience=AUDIENCE, now=NOW)
    assert BODY[:20] not in str(refused.value)
    assert refused.value.__cause__ is None
