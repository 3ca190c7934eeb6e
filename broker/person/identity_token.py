"""Identity token: what an OpenID Connect issuer says about who somebody is, or a refusal.

Only an ID token counts (OpenID Connect Core 1.0, sections 2 and 3.1.3.7): it states that a person has authenticated. An
access token states that a client may do something, and a client can have one with nobody behind it. Nothing that the
token says is believed before its signature has been checked, but for `iss` and `kid`, which choose among the keys of
configured issuers and lead nowhere else.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from broker.credential.strict import decode_segment, parse_object
from broker.errors import Reason, Refusal
from broker.person.issuer_keys import IssuerKey, is_kid

MAX_TOKEN_LENGTH: Final = 12 * 1024
# As for credentials: none for the end, a little for clocks that differ at the beginning.
LEEWAY: Final = timedelta(seconds=5)
# Longer than a day's session is not a person's word of today.
MAX_LIFETIME: Final = timedelta(days=1)

# The names that joserfc knows them by; RFC 9864 calls Ed25519 what issuers call EdDSA.
_ALGORITHMS: Final = {"RS256": "RS256", "PS256": "PS256", "ES256": "ES256", "EdDSA": "Ed25519", "Ed25519": "Ed25519"}
# Everything else either says how to verify (jwk, jku, x5u, x5c), or changes what is signed (crit, b64, zip).
_HEADER: Final = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
# Of no issuer is anybody a customer.
NOBODY: Final[Mapping[str, frozenset[str]]] = MappingProxyType({})
_PARTS: Final = 3
_MAX_SUBJECT: Final = 255
_MAX_SECONDS: Final = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An OpenID Connect issuer whose word counts.

    Attributes:
        issuer: the only `iss` accepted.
        audience: the `aud` accepted of persons: the client id of the tool through which they approve; empty: none is.
        subject_claim: the claim that says who it is.

    """

    issuer: str
    audience: str = ""
    subject_claim: str = "sub"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedIdentity:
    """Whom an issuer has authenticated.

    Attributes:
        issuer: which.
        audience: for which client.
        subject: how it knows the person; personal.
        authenticated_at: when the person last authenticated, UTC; None when the token does not say.
        expires_at: UTC.

    """

    issuer: str
    audience: str
    subject: str = field(repr=False)
    authenticated_at: datetime | None
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unverified:
    """A token whose form is right."""

    kid: str
    algorithm: str
    signing_input: bytes
    signature: bytes
    claims: Mapping[str, object]


def verify_identity(
    token: str,
    *,
    providers: Mapping[str, Provider],
    keys: Callable[[str], Mapping[str, IssuerKey]],
    now: datetime,
    customers: Mapping[str, frozenset[str]] = NOBODY,
) -> VerifiedIdentity:
    """Return whom a configured issuer has authenticated, for us and still valid.

    Args:
        token: JWS compact serialisation.
        providers: by issuer.
        keys: the keys of an issuer, by kid; raises Refusal IDENTITY_UNAVAILABLE.
        now: UTC.
        customers: by issuer, the audiences that are accepted besides its own: those of customers, whom an issuer knows
            by `sub` alone.

    Raises:
        Refusal: IDENTITY_TOKEN_REFUSED, whose detail names the check that failed and no value; IDENTITY_UNAVAILABLE.

    """
    # 1. Form: length, parts, alphabet, header, JSON.
    taken = _take_apart(token)
    # 2. From whom: one of those configured, byte for byte.
    issuer = taken.claims.get("iss")
    provider = providers.get(issuer) if isinstance(issuer, str) else None
    if provider is None:
        raise _refused("iss")
    # 3. The signature, by a key of that issuer that may verify this algorithm.
    _check_signature(taken, keys(provider.issuer))
    # 4. For whom.
    of_customers = customers.get(provider.issuer, frozenset())
    audience = _audience(taken.claims, of_customers | ({provider.audience} - {""}))
    _check_kind(taken.claims)
    # 5. When, and who.
    authenticated_at, expires_at = _times(taken.claims, now)
    if audience in of_customers and provider.subject_claim != "sub":
        # Anything else can become somebody else's, and of customers there is no list in which one would correct it.
        raise _refused("subject_claim")
    return VerifiedIdentity(
        issuer=provider.issuer,
        audience=audience,
        subject=_subject(taken.claims, provider.subject_claim),
        authenticated_at=authenticated_at,
        expires_at=expires_at,
    )


def named_key(token: str) -> tuple[str, str] | None:
    """Return which issuer and kid a token names, unverified, to see whether that key is known; None: it is no token."""
    try:
        taken = _take_apart(token)
    except Refusal:
        return None
    issuer = taken.claims.get("iss")
    return (issuer, taken.kid) if isinstance(issuer, str) else None


def _refused(check: str) -> Refusal:
    return Refusal(Reason.IDENTITY_TOKEN_REFUSED, check)


def _take_apart(token: str) -> _Unverified:
    if len(token) > MAX_TOKEN_LENGTH:
        raise _refused("size")
    parts = token.split(".", _PARTS)  # one more than there may be, not thousands
    if len(parts) != _PARTS or not token.isascii():
        raise _refused("form")
    header, payload, signature = (part.encode("ascii") for part in parts)
    try:
        algorithm, kid = _header(parse_object(decode_segment(header)))
        claims, signed = parse_object(decode_segment(payload)), decode_segment(signature)
    except (ValueError, RecursionError):  # its text could quote the token
        raise _refused("form") from None
    return _Unverified(
        kid=kid, algorithm=algorithm, signing_input=header + b"." + payload, signature=signed, claims=claims
    )


def _header(header: Mapping[str, object]) -> tuple[str, str]:
    """Return algorithm and kid of a header that has nothing but what it may have."""
    if not header.keys() <= _HEADER:
        raise _refused("header")
    if header.get("typ", "JWT") != "JWT":  # neither at+jwt nor logout+jwt, nor a token of this broker
        raise _refused("typ")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise _refused("alg")
    if not isinstance(kid, str) or not is_kid(kid):
        raise _refused("kid")
    return algorithm, kid


def _check_signature(taken: _Unverified, keys: Mapping[str, IssuerKey]) -> None:
    key = keys.get(taken.kid)
    if key is None:
        raise _refused("kid")
    if taken.algorithm not in key.algorithms:
        raise _refused("alg")
    verifier = JWSRegistry.algorithms[_ALGORITHMS[taken.algorithm]]
    try:
        good = verifier.verify(taken.signing_input, taken.signature, key.key)
    except (JoseError, ValueError):
        good = False
    if not good:
        raise _refused("signature")


def _audience(claims: Mapping[str, object], accepted: AbstractSet[str]) -> str:
    """Return for which of the clients that are accepted the token was made."""
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise _refused("aud")
    if accepted.isdisjoint(named) or len(set(named)) != len(named):
        raise _refused("aud")
    # Of a token for several it says for whom it was made: us. Where it is said of a token for one, it has to hold too.
    made_for = claims.get("azp") if len(named) > 1 or "azp" in claims else named[0]
    if not isinstance(made_for, str) or made_for not in accepted or made_for not in named:
        raise _refused("azp")
    return made_for


def _check_kind(claims: Mapping[str, object]) -> None:
    """Refuse what issuers sign with the same keys for the same audience, and what is no ID token."""
    if "events" in claims:  # a logout token, or another security event (RFC 8417)
        raise _refused("events")
    if claims.get("typ", "ID") != "ID":  # where Keycloak says that it is an access or a refresh token
        raise _refused("typ")


def _times(claims: Mapping[str, object], now: datetime) -> tuple[datetime | None, datetime]:
    """Return when the person authenticated and when the token ends."""
    end, issued = _time(claims, "exp"), _time(claims, "iat")
    begin = _time(claims, "nbf") if "nbf" in claims else issued
    authenticated = _time(claims, "auth_time") if "auth_time" in claims else None
    if now >= end:
        raise _refused("exp")
    if end - issued > MAX_LIFETIME or end <= max(issued, begin):
        raise _refused("lifetime")
    for name, at in (("iat", issued), ("nbf", begin), ("auth_time", authenticated)):
        if at is not None and at - now > LEEWAY:
            raise _refused(name)
    return authenticated, end


def _time(claims: Mapping[str, object], name: str) -> datetime:
    """Return a NumericDate, which is a whole number here: text, floats and booleans have been or are refused."""
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _MAX_SECONDS:
        raise _refused(name)
    return datetime.fromtimestamp(value, UTC)


def _subject(claims: Mapping[str, object], name: str) -> str:
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:  # required of every ID token
        raise _refused("sub")
    if name == "email" and claims.get("email_verified") is not True:
        raise _refused("email_verified")  # else anybody may call themselves so at the issuer
    subject = claims.get(name)
    if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT:
        raise _refused(name if name == "sub" else "subject_claim")
    return subject
