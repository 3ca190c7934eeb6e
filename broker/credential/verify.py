"""Verify: token, public keys, audience and time to what the token says, or a refusal.

Everything about the form is decided before any cryptography, and nothing that the token says is believed before its
signature has been checked (RFC 8725 sections 3.1 to 3.12). The token never says how to verify it: one algorithm, one
type, keys from the broker's key set only.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from broker.credential.claims import VerifiedToken, from_claims
from broker.credential.mint import ALGORITHM, TYPE, is_low
from broker.credential.strict import decode_segment, parse_object
from broker.errors import Reason, Refusal

MAX_TOKEN_LENGTH: Final = 16 * 1024
LEEWAY: Final = timedelta(seconds=5)

_KID: Final = re.compile("[A-Za-z0-9_-]{43}")
_PARTS: Final = 3
_SIGNATURE_LENGTH: Final = 64
_ES256: Final = ec.ECDSA(SHA256())


def verify(
    token: str,
    *,
    keys: Mapping[str, ec.EllipticCurvePublicKey],
    issuer: str,
    audience: str,
    now: datetime,
) -> VerifiedToken:
    """Return what a token says, once it is proven to be for this audience, from this issuer, and valid now.

    Args:
        token: JWS compact serialisation.
        keys: the broker's public keys by kid (`keys.read_jwks`).
        issuer: the only `iss` accepted.
        audience: own SPIFFE ID, the only `aud` accepted.
        now: UTC.

    Raises:
        Refusal: TOKEN_* in the order of the steps below.

    """
    # 1. Form: length, parts, alphabet, header, JSON.
    kid, signing_input, signature, claims = _take_apart(token)
    # 2. The signature, by a key of the set.
    key = keys.get(kid)
    if key is None:
        raise Refusal(Reason.TOKEN_KEY_UNKNOWN)
    _check_signature(key, signing_input, signature)
    # 3. Claims: closed list, types.
    verified = from_claims(claims)
    # 4. From whom, for whom.
    if verified.issuer != issuer:
        raise Refusal(Reason.TOKEN_ISSUER_REFUSED)
    if verified.scope.audience != audience:
        raise Refusal(Reason.TOKEN_AUDIENCE_REFUSED)
    # 5. When.
    check_time(verified, now)
    return verified


def check_time(verified: VerifiedToken, now: datetime) -> None:
    """Refuse a token that is over, or that has not begun.

    Raises:
        Refusal: TOKEN_EXPIRED (no leeway), TOKEN_NOT_YET_VALID (`nbf` or `iat` more than LEEWAY ahead).

    """
    if now >= verified.expires_at:
        raise Refusal(Reason.TOKEN_EXPIRED)
    if verified.not_before - now > LEEWAY or verified.issued_at - now > LEEWAY:
        raise Refusal(Reason.TOKEN_NOT_YET_VALID)


def _take_apart(token: str) -> tuple[str, bytes, bytes, dict[str, object]]:
    """Return kid, signing input, signature and claims of a token whose form is right."""
    try:
        header, payload, encoded_signature = _parts(token)
        kid, claims = _kid(header), parse_object(decode_segment(payload))
        signature = decode_segment(encoded_signature)
    except ValueError:  # its text could quote the token
        raise Refusal(Reason.TOKEN_MALFORMED) from None
    if len(signature) != _SIGNATURE_LENGTH:
        raise Refusal(Reason.TOKEN_MALFORMED)
    return kid, header + b"." + payload, signature, claims


def _parts(token: str) -> list[bytes]:
    if len(token) > MAX_TOKEN_LENGTH:
        raise ValueError("longer than 16 KiB")
    parts = token.encode("ascii").split(b".", _PARTS)  # one more than there may be, not thousands
    if len(parts) != _PARTS:
        raise ValueError("not three parts")
    return parts


@lru_cache(maxsize=64)  # a broker's tokens have as many headers as it has keys
def _kid(segment: bytes) -> str:
    """Return the key id of a header that has exactly alg, kid and typ."""
    header = parse_object(decode_segment(segment))
    kid = header.get("kid")
    if header.keys() != {"alg", "kid", "typ"} or header["alg"] != ALGORITHM or header["typ"] != TYPE:
        raise ValueError("header")
    if type(kid) is not str or not _KID.fullmatch(kid):
        raise ValueError("kid")
    return kid


def _check_signature(key: ec.EllipticCurvePublicKey, signing_input: bytes, signature: bytes) -> None:
    if not is_low(signature):  # see mint.is_low: of the two that verify, one is accepted
        raise Refusal(Reason.TOKEN_SIGNATURE_INVALID)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), signing_input, _ES256)
    except InvalidSignature:
        raise Refusal(Reason.TOKEN_SIGNATURE_INVALID) from None
