"""Mint: grant to bytes to sign; bytes and signature to Credential. Signing itself is the Signer's.

The same grant under the same key gives the same bytes: header and payload are RFC 8785 JSON.
"""

from base64 import urlsafe_b64encode
from typing import Final

from broker.credential.claims import to_claims
from broker.credential.grant import Grant
from broker.credential.token import Credential, Token
from broker.errors import Reason, Refusal
from broker.intent import canonical_json

ALGORITHM: Final = "ES256"
TYPE: Final = "at+jwt"
# A gRPC server refuses calls at random from 8 KiB of metadata on; a token has to fit with what else is sent.
MAX_ISSUED_LENGTH: Final = 7 * 1024

_SIGNATURE_LENGTH: Final = 64
_ENCODED_SIGNATURE_LENGTH: Final = 86
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def prepare(grant: Grant, kid: str, issuer: str) -> bytes:
    """Return the JWS signing input (RFC 7515 section 5.1) of a grant's token.

    Raises:
        Refusal: CREDENTIAL_TOO_LARGE.

    """
    header = _base64url(canonical_json({"alg": ALGORITHM, "kid": kid, "typ": TYPE}))
    signing_input = header + b"." + _base64url(canonical_json(to_claims(grant, issuer)))
    if len(signing_input) + 1 + _ENCODED_SIGNATURE_LENGTH > MAX_ISSUED_LENGTH:
        raise Refusal(Reason.CREDENTIAL_TOO_LARGE)
    return signing_input


def finish(signing_input: bytes, signature: bytes, grant: Grant, decision_id: str) -> Credential:
    """Return the credential of a grant whose signing input was signed.

    Args:
        signing_input: from `prepare`.
        signature: r and s, 32 bytes each; brought into the one of its two forms that validators accept.
        grant: what it carries.
        decision_id: the decision behind it; empty when a lost reply is given again.

    Raises:
        Refusal: SIGNING_UNAVAILABLE: the signer gave something else than an ES256 signature.

    """
    if len(signature) != _SIGNATURE_LENGTH:
        raise Refusal(Reason.SIGNING_UNAVAILABLE, "not an ES256 signature")
    text = (signing_input + b"." + _base64url(_low(signature))).decode("ascii")
    return Credential(token=Token(text, credential_id=grant.credential_id), grant=grant, decision_id=decision_id)


def is_low(signature: bytes) -> bool:
    """Whether s lies in the lower half of the group's order.

    For every ECDSA signature (r, s) there is (r, n - s), which verifies too and which anybody can compute. With one of
    the two refused a token has one text, and so one digest in the audit log.
    """
    return int.from_bytes(signature[32:], "big") <= _ORDER // 2


def _low(signature: bytes) -> bytes:
    if is_low(signature):
        return signature
    return signature[:32] + ((_ORDER - int.from_bytes(signature[32:], "big")) % _ORDER).to_bytes(32, "big")


def _base64url(content: bytes) -> bytes:
    return urlsafe_b64encode(content).rstrip(b"=")
