"""Identity tokens: a person's authentication at a configured issuer, for us, now; nothing else (E1 to E6, A7)."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import Reason, Refusal
from broker.person.identity_token import (
    LEEWAY,
    MAX_LIFETIME,
    MAX_TOKEN_LENGTH,
    Provider,
    VerifiedIdentity,
    named_key,
    verify_identity,
)
from broker.person.issuer_keys import IssuerKey, read_issuer_keys
from tests.fakes.identity import (
    AUDIENCE,
    ISSUER,
    NOW,
    SUBJECT,
    IdentityKey,
    base64url,
    claims,
    header,
    identity_token,
    key_set,
    number,
    signed,
)
from tests.unit.credential import samples

KEYS = {alg: IdentityKey.make(f"k-{alg}", alg) for alg in ("ES256", "RS256", "PS256", "EdDSA")}
KEY = KEYS["ES256"]
PUBLIC = read_issuer_keys(key_set(*KEYS.values()))
STRANGER = IdentityKey.make("k-ES256")
PROVIDERS = {
    ISSUER: Provider(issuer=ISSUER, audience=AUDIENCE),
    "https://other.example": Provider(issuer="https://other.example", audience=AUDIENCE),
}
SECOND = timedelta(seconds=1)


def keys_of(issuer: str) -> Mapping[str, IssuerKey]:
    return PUBLIC if issuer == ISSUER else {}


def verified(text: str, now: datetime = NOW, **provider: Any) -> VerifiedIdentity:
    providers = PROVIDERS
    if provider:
        providers = {ISSUER: Provider(issuer=ISSUER, audience=AUDIENCE, **provider)}
    return verify_identity(text, providers=providers, keys=keys_of, now=now)


def refusal(text: str, now: datetime = NOW, **provider: Any) -> str:
    """Return which check refused a token; empty when none did."""
    try:
        verified(text, now, **provider)
    except Refusal as refused:
        assert refused.reason is Reason.IDENTITY_TOKEN_REFUSED
        return refused.detail
    return ""


@pytest.mark.parametrize("alg", KEYS)
def test_a_good_token_says_who_and_since_when(alg: str) -> None:
    found = verified(identity_token(KEYS[alg]))
    assert (found.issuer, found.subject) == (ISSUER, SUBJECT)
    assert found.authenticated_at == NOW - timedelta(minutes=1)
    assert found.expires_at == NOW + timedelta(hours=1)
    assert SUBJECT not in repr(found)


def test_it_need_not_say_when_the_person_authenticated() -> None:
    assert verified(identity_token(KEY, auth_time=None)).authenticated_at is None


# --- E1: algorithms -------------------------------------------------------------------------------------------------


def hs256(secret: bytes, **changes: Any) -> str:
    """Sign with HMAC, the public key in some form as the secret."""
    signing_input = ".".join(
        base64url(json.dumps(part).encode()) for part in (header(KEY, alg="HS256") | changes, claims())
    )
    return f"{signing_input}.{base64url(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"


EC_PUBLIC = KEY.key.public_key()
PEM = EC_PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DER = EC_PUBLIC.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
HEAD, BODY, SIGNATURE = identity_token(KEY).split(".")
P384 = IdentityKey(kid=KEY.kid, alg="ES384", key=ec.generate_private_key(ec.SECP384R1()))
K256 = IdentityKey(kid=KEY.kid, alg="ES256K", key=ec.generate_private_key(ec.SECP256K1()))

E1 = {
    "none": (f"{base64url(json.dumps(header(KEY, alg='none')).encode())}.{BODY}.", "alg"),
    "none-with-signature": (signed(KEY, header(KEY, alg="none"), claims()), "alg"),
    "None": (signed(KEY, header(KEY, alg="None"), claims()), "alg"),
    "nOnE": (signed(KEY, header(KEY, alg="nOnE"), claims()), "alg"),
    "lower-case": (signed(KEY, header(KEY, alg="es256"), claims()), "alg"),
    "absent": (signed(KEY, header(KEY, alg=None), claims()), "alg"),
    "array": (signed(KEY, header(KEY, alg=["ES256"]), claims()), "alg"),
    "hs256-pem": (hs256(PEM), "alg"),
    "hs256-der": (hs256(DER), "alg"),
    "hs256-jwk": (hs256(json.dumps(KEY.jwk()).encode()), "alg"),
    "hs256-called-es256": (hs256(PEM, alg="ES256"), "signature"),
    "es384": (signed(P384, header(KEY, alg="ES384"), claims()), "alg"),
    "es384-called-es256": (signed(P384, header(KEY), claims()), "signature"),
    "es256k": (signed(K256, header(KEY, alg="ES256K"), claims()), "alg"),
    "es256k-called-es256": (signed(K256, header(KEY), claims()), "signature"),
    "rs256-by-the-ec-key": (signed(KEYS["RS256"], header(KEY, alg="RS256"), claims()), "alg"),
    "eddsa-by-the-ec-key": (signed(KEYS["EdDSA"], header(KEY, alg="EdDSA"), claims()), "alg"),
    "rs256-by-a-key-for-ps256": (signed(KEYS["PS256"], header(KEYS["PS256"], alg="RS256"), claims()), "alg"),
    "ps256-by-a-key-for-rs256": (signed(KEYS["RS256"], header(KEYS["RS256"], alg="PS256"), claims()), "alg"),
    "another-key-called-ours": (signed(STRANGER, header(KEY), claims()), "signature"),
    "zero-signature": (f"{HEAD}.{BODY}.{base64url(bytes(64))}", "signature"),
    "no-signature": (f"{HEAD}.{BODY}.", "signature"),
    "short-signature": (f"{HEAD}.{BODY}.{base64url(bytes(10))}", "signature"),
    "empty-rsa-signature": (identity_token(KEYS["RS256"]).rpartition(".")[0] + ".", "signature"),
    "another-body": (f"{HEAD}.{base64url(json.dumps(claims(sub='1')).encode())}.{SIGNATURE}", "signature"),
    "another-header": (f"{base64url(json.dumps(header(KEY, typ=None)).encode())}.{BODY}.{SIGNATURE}", "signature"),
}


@pytest.mark.parametrize(("text", "check"), E1.values(), ids=E1)
def test_e1_another_algorithm_or_key_is_refused(text: str, check: str) -> None:
    assert refusal(text) == check
    assert refusal(identity_token(KEY)) == ""


# --- E2, E3: headers ------------------------------------------------------------------------------------------------

HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "jwk": ({"jwk": STRANGER.jwk()}, "header"),
    "jku": ({"jku": "https://evil.example/keys"}, "header"),
    "x5u": ({"x5u": "https://evil.example/cert"}, "header"),
    "x5c": ({"x5c": ["MIIB"]}, "header"),
    "crit-unknown": ({"crit": ["x"], "x": 1}, "header"),
    "crit-empty": ({"crit": []}, "header"),
    "crit-exp": ({"crit": ["exp"], "exp": 1}, "header"),
    "b64": ({"b64": False, "crit": ["b64"]}, "header"),
    "zip": ({"zip": "DEF"}, "header"),
    "cty": ({"cty": "JWT"}, "header"),
    "enc": ({"enc": "A256GCM"}, "header"),
    "kid-absent": ({"kid": None}, "kid"),
    "kid-empty": ({"kid": ""}, "kid"),
    "kid-unknown": ({"kid": "k2"}, "kid"),
    "kid-path": ({"kid": "../../etc/passwd"}, "kid"),
    "kid-sql": ({"kid": "' OR 1=1 --"}, "kid"),
    "kid-url": ({"kid": "https://evil.example/k"}, "kid"),
    "kid-long": ({"kid": "k" * 1000}, "kid"),
    "kid-number": ({"kid": 1}, "kid"),
    "kid-array": ({"kid": ["k-ES256"]}, "kid"),
    "kid-control": ({"kid": "k\n"}, "kid"),
    "kid-of-another-key": ({"kid": "k-RS256"}, "alg"),
    "typ-access-token": ({"typ": "at+jwt"}, "typ"),
    "typ-application": ({"typ": "application/at+jwt"}, "typ"),
    "typ-logout": ({"typ": "logout+jwt"}, "typ"),
    "typ-event": ({"typ": "secevent+jwt"}, "typ"),
    "typ-lower-case": ({"typ": "jwt"}, "typ"),
    "typ-null": ({"typ": 0}, "typ"),
}


@pytest.mark.parametrize(("changes", "check"), HEADERS.values(), ids=HEADERS)
def test_e2_e3_a_header_says_nothing_about_how_to_verify(changes: dict[str, Any], check: str) -> None:
    assert refusal(signed(KEY, header(KEY, **changes), claims())) == check


@pytest.mark.parametrize("changes", [{"typ": None}, {"x5t": "thumbprint"}, {"x5t#S256": "thumbprint"}])
def test_what_issuers_write_besides_is_left_alone(changes: dict[str, Any]) -> None:
    assert refusal(signed(KEY, header(KEY, **changes), claims())) == ""


# --- E4: form -------------------------------------------------------------------------------------------------------

E4 = {
    "empty": "",
    "two-parts": f"{HEAD}.{BODY}",
    "four-parts": f"{HEAD}.{BODY}.{SIGNATURE}.",
    "five-parts": f"{HEAD}.{BODY}.{SIGNATURE}.a.b",
    "json": json.dumps({"protected": HEAD, "payload": BODY, "signature": SIGNATURE}),
    "padding": f"{HEAD}=.{BODY}.{SIGNATURE}",
    "space-before": f" {HEAD}.{BODY}.{SIGNATURE}",
    "newline-behind": f"{HEAD}.{BODY}.{SIGNATURE}\n",
    "plus-slash": f"{HEAD}.{BODY}.+/{SIGNATURE[2:]}",
    "not-ascii": f"{HEAD}.{BODY}.{SIGNATURE[:-1]}\u00e9",
    "no-header": f".{BODY}.{SIGNATURE}",
    "no-payload": f"{HEAD}..{SIGNATURE}",
    "header-array": signed(KEY, [], claims()),
    "payload-array": signed(KEY, header(KEY), []),
    "payload-text": signed(KEY, header(KEY), b"sub"),
    "payload-behind": signed(KEY, header(KEY), json.dumps(claims()).encode() + b" {}"),
    "payload-duplicate": signed(KEY, header(KEY), b'{"sub": "x", ' + json.dumps(claims()).encode()[1:]),
    "payload-duplicate-inside": signed(
        KEY, header(KEY), json.dumps(claims())[:-1].encode() + b', "x": {"a": 1, "a": 2}}'
    ),
    "header-duplicate": signed(KEY, b'{"alg": "none", ' + json.dumps(header(KEY)).encode()[1:], claims()),
    "payload-not-utf8": signed(KEY, header(KEY), b'{"sub": "\xff"}'),
    "payload-deep": signed(KEY, header(KEY), b'{"x": ' + b"[" * 3000 + b"]" * 3000 + b"}"),
    "payload-nan": signed(KEY, header(KEY), json.dumps(claims(x=float("nan"))).encode()),
}


@pytest.mark.parametrize("text", E4.values(), ids=E4)
def test_e4_only_one_form_is_a_token(text: str) -> None:
    assert refusal(text) == "form"
    assert named_key(text) is None


@pytest.mark.parametrize("length", [MAX_TOKEN_LENGTH + 1, 5_000_000])
def test_e4_length_is_looked_at_first(length: int) -> None:
    assert refusal("a" * length) == "size"
    padded = identity_token(KEY, groups=["g" * 100] * 60)
    assert len(padded) < MAX_TOKEN_LENGTH
    assert refusal(padded) == ""


@given(st.text(max_size=200))
def test_whatever_it_is_it_is_refused(text: str) -> None:
    assert refusal(text) in {"form", "size"}


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_no_changed_character_leaves_a_token_good(place: int, byte: int) -> None:
    text = identity_token(KEY)
    place %= len(text)
    changed = text[:place] + chr(byte) + text[place + 1 :]
    assert (refusal(changed) == "") is (changed == text)


# --- E5: claims -----------------------------------------------------------------------------------------------------

AT = int(NOW.timestamp())
E5: dict[str, tuple[dict[str, Any], str]] = {
    "iss-absent": ({"iss": None}, "iss"),
    "iss-other": ({"iss": "https://evil.example"}, "iss"),
    "iss-longer": ({"iss": ISSUER + "/"}, "iss"),
    "iss-part": ({"iss": "https://login.example.org"}, "iss"),
    "iss-upper-case": ({"iss": ISSUER.upper()}, "iss"),
    "iss-array": ({"iss": [ISSUER]}, "iss"),
    "iss-broker": ({"iss": samples.ISSUER}, "iss"),
    "iss-of-another-configured": ({"iss": "https://other.example"}, "kid"),
    "aud-absent": ({"aud": None}, "aud"),
    "aud-other": ({"aud": "another-tool"}, "aud"),
    "aud-longer": ({"aud": AUDIENCE + "2"}, "aud"),
    "aud-part": ({"aud": AUDIENCE[:-1]}, "aud"),
    "aud-empty": ({"aud": []}, "aud"),
    "aud-nested": ({"aud": [[AUDIENCE]]}, "aud"),
    "aud-object": ({"aud": {AUDIENCE: 1}}, "aud"),
    "aud-mixed": ({"aud": [AUDIENCE, 1]}, "aud"),
    "aud-twice": ({"aud": [AUDIENCE, AUDIENCE], "azp": AUDIENCE}, "aud"),
    "aud-several-without-azp": ({"aud": [AUDIENCE, "other"]}, "azp"),
    "aud-several-for-another": ({"aud": [AUDIENCE, "other"], "azp": "other"}, "azp"),
    "azp-other": ({"azp": "other"}, "azp"),
    "azp-array": ({"azp": [AUDIENCE]}, "azp"),
    "sub-absent": ({"sub": None}, "sub"),
    "sub-empty": ({"sub": ""}, "sub"),
    "sub-number": ({"sub": 248289761001}, "sub"),
    "sub-long": ({"sub": "s" * 256}, "sub"),
    "exp-absent": ({"exp": None}, "exp"),
    "exp-text": ({"exp": str(AT + 60)}, "exp"),
    "exp-true": ({"exp": True}, "exp"),
    "exp-negative": ({"exp": -1}, "exp"),
    "exp-zero": ({"exp": 0}, "exp"),
    "exp-huge": ({"exp": 10**30}, "exp"),
    "exp-milliseconds": ({"exp": (AT + 60) * 1000}, "exp"),
    "exp-array": ({"exp": [AT + 60]}, "exp"),
    "iat-absent": ({"iat": None}, "iat"),
    "iat-text": ({"iat": str(AT)}, "iat"),
    "iat-future": ({"iat": AT + 60}, "iat"),
    "iat-behind-exp": ({"iat": AT + 3, "exp": AT + 2}, "lifetime"),
    "nbf-future": ({"nbf": AT + 60}, "nbf"),
    "nbf-text": ({"nbf": str(AT)}, "nbf"),
    "nbf-behind-exp": ({"nbf": AT + 3, "exp": AT + 2}, "lifetime"),
    "a-week": ({"exp": AT + 7 * 86400}, "lifetime"),
    "auth-time-future": ({"auth_time": AT + 60}, "auth_time"),
    "auth-time-text": ({"auth_time": str(AT)}, "auth_time"),
    "logout-token": ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, "events"),
    "keycloak-access-token": ({"typ": "Bearer"}, "typ"),
    "keycloak-refresh-token": ({"typ": "Refresh"}, "typ"),
}


@pytest.mark.parametrize(("changes", "check"), E5.values(), ids=E5)
def test_e5_claims_are_what_they_have_to_be(changes: dict[str, Any], check: str) -> None:
    assert refusal(identity_token(KEY, **changes)) == check


@pytest.mark.parametrize("number", ["1795262400.5", "1e30", "1.0", "Infinity", "NaN", "-0.0"])
def test_e5_a_time_is_a_whole_number(number: str) -> None:
    text = json.dumps(claims()).replace(str(claims()["exp"]), number)
    assert refusal(signed(KEY, header(KEY), text.encode())) == "form"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [AUDIENCE]},
        {"aud": [AUDIENCE, "other"], "azp": AUDIENCE},
        {"azp": AUDIENCE},
        {"nbf": AT},
        {"typ": "ID"},
        {
            "nonce": "n",
            "amr": ["pwd", "otp"],
            "acr": "2",
            "jti": "j",
            "at_hash": "h",
            "name": "R\u00e9n\u00e9",
            "x": None,
        },
    ],
)
def test_what_may_be_so_may_be_so(changes: dict[str, Any]) -> None:
    assert refusal(identity_token(KEY, **changes)) == ""


# --- customers ----------------------------------------------------------------------------------------------------


CUSTOMERS = {ISSUER: frozenset({"shop", "chat"})}


def as_customer(audience: Any, /, *, customers: Mapping[str, frozenset[str]] = CUSTOMERS, **more: Any) -> str:
    """Return for which client a token counts, or which check refuses it."""
    claim = {"azp": more.pop("azp")} if "azp" in more else {}
    provider = Provider(issuer=ISSUER, **{"audience": AUDIENCE} | more)
    text = identity_token(KEY, aud=audience, **claim)
    try:
        found = verify_identity(text, providers={ISSUER: provider}, keys=keys_of, now=NOW, customers=customers)
    except Refusal as refused:
        return f"refused: {refused.detail}"
    assert (found.issuer, found.subject) == (ISSUER, SUBJECT)
    return found.audience


def test_a_customers_client_counts_for_those_who_have_it() -> None:
    assert as_customer("chat") == "chat"
    assert as_customer(["chat", "else"], azp="chat") == "chat"
    assert as_customer(["chat", AUDIENCE], azp=AUDIENCE) == AUDIENCE, "for whom it was made"
    assert as_customer(["chat", AUDIENCE], azp="chat") == "chat"
    assert as_customer(AUDIENCE) == AUDIENCE
    for audience, changes, check in (
        ("chat", {"customers": {}}, "aud"),
        ("chat", {"customers": {"https://other.example": frozenset({"chat"})}}, "aud"),
        ("chat2", {}, "aud"),
        (["chat", AUDIENCE], {}, "azp"),
        (["chat", "shop"], {"azp": "else"}, "azp"),
        ("chat", {"azp": "shop"}, "azp"),  # another client's, though it is a customers' too
        ("chat", {"azp": AUDIENCE}, "azp"),
    ):
        assert as_customer(audience, **changes) == f"refused: {check}", (audience, changes)


def test_where_no_client_of_the_staff_is_configured_nobody_of_the_staff_comes() -> None:
    assert as_customer("chat", audience="") == "chat"
    for audience in ("", "a", [], [""], ["", "chat"]):
        assert as_customer(audience, audience="").startswith("refused: a"), audience


def test_customers_are_known_by_sub_alone() -> None:
    """An e-mail address is somebody else's some day."""
    assert as_customer("chat", subject_claim="sub") == "chat"
    assert as_customer("chat", subject_claim="email") == "refused: subject_claim"


# --- E6: edges of time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "offset", "check"),
    [
        ("exp", timedelta(0), "exp"),
        ("exp", -SECOND, "exp"),
        ("exp", SECOND, ""),
        ("iat", LEEWAY, ""),
        ("iat", LEEWAY + SECOND, "iat"),
        ("nbf", LEEWAY, ""),
        ("nbf", LEEWAY + SECOND, "nbf"),
        ("auth_time", LEEWAY, ""),
        ("auth_time", LEEWAY + SECOND, "auth_time"),
    ],
)
def test_e6_the_edges_of_time(claim: str, offset: timedelta, check: str) -> None:
    changes: dict[str, Any] = {claim: AT + int(offset.total_seconds())}
    assert refusal(identity_token(KEY, **changes)) == check


def test_e6_a_token_lasts_a_day_at_most() -> None:
    day = int(MAX_LIFETIME.total_seconds())
    assert refusal(identity_token(KEY, iat=AT, exp=AT + day)) == ""
    assert refusal(identity_token(KEY, iat=AT, exp=AT + day + 1)) == "lifetime"


def test_the_leeway_is_the_one_of_credentials() -> None:
    from broker.credential.verify import LEEWAY as OF_CREDENTIALS  # noqa: PLC0415

    assert LEEWAY == OF_CREDENTIALS


# --- A7: other tokens, and who is meant ------------------------------------------------------------------------------


def test_a7_a_credential_of_the_broker_is_no_identity_token() -> None:
    assert refusal(samples.token()) == "typ"
    ours = IdentityKey(kid=samples.SIGNER.kid, alg="ES256", key=ec.derive_private_key(0x1234567, ec.SECP256R1()))
    public = read_issuer_keys(key_set(ours))
    body = json.loads(json.dumps(samples.claims()))
    for head in (samples.header(), header(ours)):
        with pytest.raises(Refusal) as refused:
            verify_identity(signed(ours, head, body), providers=PROVIDERS, keys=lambda _: public, now=samples.NOW)
        assert refused.value.detail in {"typ", "iss"}


@pytest.mark.parametrize(
    ("claim", "changes", "found"),
    [
        ("oid", {"oid": "7a"}, "7a"),
        ("email", {"email": "ana@example.org", "email_verified": True}, "ana@example.org"),
    ],
)
def test_another_claim_can_say_who_it_is(claim: str, changes: dict[str, Any], found: str) -> None:
    assert verified(identity_token(KEY, **changes), subject_claim=claim).subject == found


@pytest.mark.parametrize(
    ("claim", "changes", "check"),
    [
        ("oid", {}, "subject_claim"),
        ("oid", {"oid": ["7a"]}, "subject_claim"),
        ("oid", {"oid": "7a", "sub": None}, "sub"),
        ("email", {"email": "ana@example.org"}, "email_verified"),
        ("email", {"email": "ana@example.org", "email_verified": False}, "email_verified"),
        ("email", {"email": "ana@example.org", "email_verified": "true"}, "email_verified"),
    ],
)
def test_and_has_to_be_there(claim: str, changes: dict[str, Any], check: str) -> None:
    assert refusal(identity_token(KEY, **changes), subject_claim=claim) == check


def test_a_refusal_holds_nothing_of_the_token() -> None:
    for text in (identity_token(KEY, aud="secret-audience"), identity_token(KEY, sub="s" * 300), "secret"):
        with pytest.raises(Refusal) as refused:
            verified(text)
        assert "secret" not in str(refused.value)
        assert refused.value.__cause__ is None


def test_a_token_names_its_key() -> None:
    assert named_key(identity_token(KEY)) == (ISSUER, KEY.kid)
    assert named_key(identity_token(KEY, iss=None)) is None
    assert number(65537) == "AQAB"
