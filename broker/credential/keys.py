"""Keys: public keys as text, and what signs with the private half of one."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

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


# --- public keys as text --------------------------------------------------------------------------------------------

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


def thumbprint(key: PublicKey) -> str:
    """Return the key's RFC 7638 thumbprint: SHA-256 over its required members, unpadded base64url."""
    return _base64url(sha256(canonical_json(_required(key))).digest())


def public_jwk(key: PublicKey) -> str:
    """Return the key as RFC 7517 JSON text, for ES256 or Ed25519 (RFC 9864) signatures."""
    algorithm = "ES256" if isinstance(key, ec.EllipticCurvePublicKey) else "Ed25519"
    return canonical_json(_required(key) | {"alg": algorithm, "use": "sig", "kid": thumbprint(key)}).decode()


def raw_ed25519(jwk: str) -> bytes:
    """Return the 32 bytes of a checkpoint key that `public_jwk` wrote."""
    return _coordinate(str(parse_object(jwk.encode())["x"]))


def _required(key: PublicKey) -> dict[str, str]:
    if isinstance(key, ed25519.Ed25519PublicKey):  # RFC 8037 section 2
        return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(key.public_bytes_raw())}
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
