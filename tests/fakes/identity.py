"""Identity tokens, good and bad, in one call each; and the key sets that go with them."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER = "https://login.example.org/realms/staff"
AUDIENCE = "approvals-tool"
SUBJECT = "248289761001"
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def number(value: int, length: int | None = None) -> str:
    return base64url(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


@dataclass(frozen=True, kw_only=True)
class IdentityKey:
    """A key of an issuer, with the algorithm that it signs by."""

    kid: str
    alg: str
    key: PrivateKey = field(repr=False)

    @classmethod
    def make(cls, kid: str = "k1", alg: str = "ES256") -> "IdentityKey":
        makers: Mapping[str, Callable[[], PrivateKey]] = {
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
            "PS256": lambda: rsa.generate_private_key(65537, 2048),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }
        return cls(kid=kid, alg=alg, key=makers[alg]())

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public key; a change to None takes a member out."""
        members = {"kid": self.kid, "use": "sig", "alg": self.alg} | public_members(self.key) | changes
        return {name: value for name, value in members.items() if value is not None}

    def sign(self, signing_input: bytes, alg: str = "") -> bytes:
        match self.key, alg or self.alg:
            case ec.EllipticCurvePrivateKey() as key, _:
                size = (key.curve.key_size + 7) // 8
                r, s = decode_dss_signature(key.sign(signing_input, ec.ECDSA(hashes.SHA256())))
                return r.to_bytes(size, "big") + s.to_bytes(size, "big")
            case ed25519.Ed25519PrivateKey() as key, _:
                return key.sign(signing_input)
            case rsa.RSAPrivateKey() as key, "PS256":
                mask = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
                return key.sign(signing_input, mask, hashes.SHA256())
            case rsa.RSAPrivateKey() as key, _:
                return key.sign(signing_input, padding.PKCS1v15(), hashes.SHA256())
        raise AssertionError


def public_members(key: PrivateKey) -> dict[str, str]:
    match key:
        case ec.EllipticCurvePrivateKey():
            point, size = key.public_key().public_numbers(), (key.curve.key_size + 7) // 8
            name = {"secp256r1": "P-256", "secp384r1": "P-384", "secp256k1": "secp256k1"}[key.curve.name]
            return {"kty": "EC", "crv": name, "x": number(point.x, size), "y": number(point.y, size)}
        case rsa.RSAPrivateKey():
            numbers = key.public_key().public_numbers()
            return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        case ed25519.Ed25519PrivateKey():
            return {"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key().public_bytes_raw())}


def key_set(*keys: IdentityKey) -> bytes:
    return json.dumps({"keys": [key.jwk() for key in keys]}).encode()


def claims(now: datetime = NOW, **changes: Any) -> dict[str, Any]:
    """The claims of a good token at that time; a change to None takes a claim out."""
    at = int(now.timestamp())
    members = {
        "iss": ISSUER,
        "sub": SUBJECT,
        "aud": AUDIENCE,
        "iat": at - 10,
        "exp": at + int(timedelta(hours=1).total_seconds()),
        "auth_time": at - 60,
    } | changes
    return {name: value for name, value in members.items() if value is not None}


def header(key: IdentityKey, **changes: Any) -> dict[str, Any]:
    members = {"alg": key.alg, "kid": key.kid, "typ": "JWT"} | changes
    return {name: value for name, value in members.items() if value is not None}


def signed(key: IdentityKey, head: Any, body: Any, *, alg: str = "") -> str:
    """Sign anything: bytes are taken as they are."""
    parts = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (head, body))
    signing_input = ".".join(map(base64url, parts))
    return f"{signing_input}.{base64url(key.sign(signing_input.encode(), alg))}"


def identity_token(key: IdentityKey, now: datetime = NOW, **changes: Any) -> str:
    """A good token, with changes to its claims."""
    return signed(key, header(key), claims(now, **changes))
