"""Keys: the ring of token keys (next, current, retired) and the public set that validators check with.

A next key is published before it signs, for longer than a validator may lag behind, so that no validator meets a
signature before the key. A retired key stays published until the last token that it signed has expired.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from hashlib import sha256
from typing import Final, Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec

from broker.credential.strict import parse_object
from broker.errors import Reason, Refusal
from broker.intent import canonical_json

MAX_KEYS: Final = 64
MAX_KEY_SET_DEPTH: Final = 8
COORDINATE_LENGTH: Final = 32
MAX_KEY_SET_LENGTH: Final = 64 * 1024


class Signer(Protocol):
    """Something that signs with the private half of one key."""

    @property
    def kid(self) -> str:
        """RFC 7638 thumbprint of the public half."""

    def sign(self, signing_input: bytes) -> bytes:
        """Return the ES256 signature, r and s of 32 bytes each (RFC 7518 section 3.4)."""


class KeyState(Enum):
    """Where a key stands in its life; the values are what the store holds."""

    NEXT = "next"
    CURRENT = "current"
    RETIRED = "retired"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RingKey:
    """A key of the ring, never its private half.

    Attributes:
        kid: RFC 7638 thumbprint.
        public_jwk: RFC 7517 JSON as text.
        state: where it stands.
        since: when it took this state, UTC.

    """

    kid: str
    public_jwk: str
    state: KeyState
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """How keys follow one another.

    Attributes:
        period: how long a key signs.
        lead: how long a next key is published before it signs; at least validators' staleness bound.
        retention: how long a retired key stays published; at least the longest lifetime of a token.

    """

    period: timedelta
    lead: timedelta
    retention: timedelta

    def __post_init__(self) -> None:
        """Refuse a plan that could never be kept."""
        if not timedelta(0) < self.lead <= self.period or self.retention <= timedelta(0):
            message = "keys: lead must be positive and not above period, retention positive"
            raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """Make a new key pair and put its public half into the ring in this state."""

    state: KeyState


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Put a key of the ring into another state; `key` is as it will be."""

    key: RingKey


Change: TypeAlias = Make | Move


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The keys that are not removed; at most one signs, at most one is next."""

    keys: tuple[RingKey, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a ring in which it is not clear which key signs."""
        states = [key.state for key in self.keys]
        if len({key.kid for key in self.keys}) != len(self.keys) or KeyState.REMOVED in states:
            raise ValueError("keys: a key stands twice, or was removed")
        if states.count(KeyState.CURRENT) > 1 or states.count(KeyState.NEXT) > 1:
            raise ValueError("keys: two current keys, or two next ones")

    def find(self, state: KeyState) -> RingKey | None:
        """Return the key in this state (any of them, when several are retired)."""
        return next((key for key in self.keys if key.state is state), None)

    def signing(self) -> RingKey:
        """Return the key that signs now.

        Raises:
            Refusal: SIGNING_UNAVAILABLE when there is none.

        """
        current = self.find(KeyState.CURRENT)
        if current is None:
            raise Refusal(Reason.SIGNING_UNAVAILABLE, "no current key")
        return current

    def jwks(self) -> str:
        """Return the public keys as RFC 7517 JWK Set text, in an order that does not depend on their state."""
        keys = (key.public_jwk for key in sorted(self.keys, key=lambda key: key.kid))
        return '{"keys":[' + ",".join(keys) + "]}"

    def with_key(self, key: RingKey) -> "KeyRing":
        """Return the ring with this key added, or in its new state, or gone when that is REMOVED."""
        others = tuple(other for other in self.keys if other.kid != key.kid)
        return KeyRing(keys=others if key.state is KeyState.REMOVED else (*others, key))


def plan(ring: KeyRing, now: datetime, settings: KeySettings) -> list[Change]:
    """Return what is due, in the order in which to do it; all of it belongs into one transaction.

    Without a current key the next one signs at once, published long enough or not: validators that lag refuse for a
    moment, which is better than a broker that cannot sign. So removing a stolen current key is all that an emergency
    rotation takes.
    """
    changes: list[Change] = [
        Move(key=replace(key, state=KeyState.REMOVED, since=now))
        for key in ring.keys
        if key.state is KeyState.RETIRED and now - key.since >= settings.retention
    ]
    current, following = ring.find(KeyState.CURRENT), ring.find(KeyState.NEXT)
    if current is None and following is None:
        return [*changes, Make(state=KeyState.CURRENT), Make(state=KeyState.NEXT)]
    if following is None:
        return [*changes, Make(state=KeyState.NEXT)]
    if current is not None and (now - current.since < settings.period or now - following.since < settings.lead):
        return changes
    if current is not None:
        changes.append(Move(key=replace(current, state=KeyState.RETIRED, since=now)))
    return [*changes, Move(key=replace(following, state=KeyState.CURRENT, since=now)), Make(state=KeyState.NEXT)]


# --- public keys as text --------------------------------------------------------------------------------------------


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the key's RFC 7638 thumbprint: SHA-256 over its required members, unpadded base64url."""
    return _base64url(sha256(canonical_json(_required(key))).digest())


def public_jwk(key: ec.EllipticCurvePublicKey) -> str:
    """Return the key as RFC 7517 JSON text, for ES256 signatures."""
    return canonical_json(_required(key) | {"alg": "ES256", "use": "sig", "kid": thumbprint(key)}).decode()


def _required(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    x, y = (_base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def read_jwks(text: str) -> dict[str, ec.EllipticCurvePublicKey]:
    """Read a JWK Set into public keys by kid. Keys of another algorithm are passed over (RFC 7517 section 5).

    Raises:
        Refusal: KEY_SET_INVALID: it cannot be read, a kid stands twice or is not the key's thumbprint, or a key is
            private.

    """
    try:
        keys = [_read_key(entry) for entry in _entries(text) if _is_ours(entry)]
    except (ValueError, KeyError, TypeError) as problem:
        raise Refusal(Reason.KEY_SET_INVALID) from problem
    by_kid = {thumbprint(key): key for key in keys}
    if len(by_kid) != len(keys):
        raise Refusal(Reason.KEY_SET_INVALID, "a key stands twice")
    return by_kid


def _entries(text: str) -> list[Mapping[str, str]]:
    if len(text) > MAX_KEY_SET_LENGTH:
        raise ValueError("too long")
    entries = parse_object(text.encode(), max_depth=MAX_KEY_SET_DEPTH)["keys"]
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError("keys")
    if not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("a key that is not an object")
    return entries


def _is_ours(entry: Mapping[str, str]) -> bool:
    if "d" in entry or "k" in entry:
        raise ValueError("a private key")
    return entry.get("alg") == "ES256"


def _read_key(entry: Mapping[str, str]) -> ec.EllipticCurvePublicKey:
    if (entry["kty"], entry["crv"], entry["use"]) != ("EC", "P-256", "sig"):
        raise ValueError("not an ES256 key")
    x, y = (int.from_bytes(_coordinate(entry[name]), "big") for name in ("x", "y"))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()  # refuses a point off the curve
    if entry["kid"] != thumbprint(key):
        raise ValueError("kid is not the thumbprint")
    return key


def _coordinate(text: str) -> bytes:
    content = urlsafe_b64decode(text + "=")
    if len(content) != COORDINATE_LENGTH or _base64url(content) != text:  # RFC 7518 section 6.2.1.2: always full length
        raise ValueError("a coordinate")
    return content
