"""Issuer keys: what an OpenID Connect issuer publishes of itself, read strictly. What cannot verify is left out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from broker.credential.strict import decode_segment, parse_object

MAX_KEYS: Final = 100
MAX_KID: Final = 256
_MAX_URL: Final = 2048
_RSA_BITS: Final = range(2048, 4096 + 1)  # less is broken, more only costs time
_RSA_EXPONENT: Final = 65537


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerKey:
    """A public key, and the only algorithms that it verifies."""

    key: Key = field(repr=False)
    algorithms: frozenset[str]


def read_discovery(content: bytes, issuer: str) -> str:
    """Return where an issuer's keys are (OpenID Connect Discovery 1.0, sections 3 and 4.3).

    Args:
        content: the document.
        issuer: whose it is to be; compared byte for byte.

    Raises:
        ValueError: it is no such document, or another issuer's; says which, without its content.

    """
    document = _parsed(content)
    if document.get("issuer") != issuer:
        raise ValueError("the document is another issuer's: `issuer` is not the one that is configured")
    where = document.get("jwks_uri")
    if not isinstance(where, str) or not _is_https(where):
        raise ValueError("jwks_uri is not an https URL")
    return where


def read_issuer_keys(content: bytes) -> Mapping[str, IssuerKey]:
    """Return the keys of a JSON Web Key Set by kid.

    Keys without kid, for encryption, private, weak, of another kind, or with a kid that stands twice are left out.

    Raises:
        ValueError: it is no key set, or none of its keys is fit; says which, without its content.

    """
    keys = _parsed(content).get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_KEYS or not all(isinstance(each, dict) for each in keys):
        raise ValueError(f"keys is not a list of at most {MAX_KEYS} keys")
    times = Counter(kid for each in keys if isinstance(kid := each.get("kid"), str))
    found = {kid: key for each in keys if (kid := _kid(each)) and times[kid] == 1 and (key := _key(each))}
    if not found:
        raise ValueError("none of the keys is fit to verify an identity token (RS256, PS256, ES256, EdDSA)")
    return found


def _parsed(content: bytes) -> dict[str, object]:
    try:
        return parse_object(content)
    except ValueError:  # its text could quote the content
        raise ValueError("not one JSON object") from None


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname and parts.port != 0
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and not set(url) & set(" #@\\") and len(url) <= _MAX_URL
    return bool(host and plain and url.startswith("https://"))


def _kid(jwk: Mapping[str, object]) -> str:
    kid = jwk.get("kid")
    return kid if isinstance(kid, str) and is_kid(kid) else ""


def is_kid(text: str) -> bool:
    """Whether a text can name a key: printable ASCII, not too long."""
    return 0 < len(text) <= MAX_KID and text.isascii() and text.isprintable()


def _key(jwk: Mapping[str, object]) -> IssuerKey | None:
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations or "d" in jwk:
        return None
    try:
        found = _imported(jwk)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):  # whatever a parser raises on the way
        return None
    alg = jwk.get("alg")
    if found is None or (alg is not None and alg not in found.algorithms):
        return None
    return found if alg is None else IssuerKey(key=found.key, algorithms=frozenset({str(alg)}))


def _imported(jwk: Mapping[str, object]) -> IssuerKey | None:
    public = {name: value for name, value in jwk.items() if name in {"kty", "n", "e", "crv", "x", "y"}}
    members: dict[str, str | list[str]] = {name: value for name, value in public.items() if isinstance(value, str)}
    match members:
        case {"kty": "RSA", "n": str(modulus), "e": str(exponent)}:
            n, e = (int.from_bytes(decode_segment(each.encode())) for each in (modulus, exponent))
            if n.bit_length() not in _RSA_BITS or e != _RSA_EXPONENT:
                return None
            key = RSAKey.import_key(rsa.RSAPublicNumbers(e, n).public_key())
            return IssuerKey(key=key, algorithms=frozenset({"RS256", "PS256"}))
        case {"kty": "EC", "crv": "P-256"}:
            curve = ECKey.import_key(members)
            curve.public_key.public_numbers()  # made lazily: a point that is not on the curve is found out here
            return IssuerKey(key=curve, algorithms=frozenset({"ES256"}))
        case {"kty": "OKP", "crv": "Ed25519"}:
            edwards = OKPKey.import_key(members)
            edwards.public_key.public_bytes_raw()
            return IssuerKey(key=edwards, algorithms=frozenset({"EdDSA", "Ed25519"}))
        case _:
            return None
