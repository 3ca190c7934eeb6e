"""Valid grants, keys and tokens for tests; every default can be replaced."""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from broker.credential import mint
from broker.credential.claims import to_claims
from broker.credential.grant import Grant
from broker.credential.source import TokenSigner
from broker.intent import Resource, canonical_json, digest
from broker.scope import OneOf, Range, Scope

ISSUER = "https://broker.example.org"
AUDIENCE = "spiffe://example.org/service/orders"
AGENT = "spiffe://example.org/agent/support"
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
LIFETIME = timedelta(minutes=5)
THUMBPRINT = "A" * 43
CREDENTIAL = "cred_019a8e3c-0000-7000-8000-000000000001"
TASK = "task_019a8e3c-0000-7000-8000-000000000002"
TRANSACTION = "txn_019a8e3c-0000-7000-8000-000000000003"
DECISION = "dec_019a8e3c-0000-7000-8000-000000000004"

SIGNER = TokenSigner(ec.derive_private_key(0x1234567, ec.SECP256R1()))
OTHER_SIGNER = TokenSigner(ec.derive_private_key(0x7654321, ec.SECP256R1()))
KEYS = {SIGNER.kid: ec.derive_private_key(0x1234567, ec.SECP256R1()).public_key()}

SCOPE = Scope(
    actions=frozenset({"order.refund"}),
    resource=Resource(type="order", id="1234"),
    constraints={"amount": Range(minimum=1, maximum=5000), "currency": OneOf(values=("EUR",))},
    audience=AUDIENCE,
)


def grant(**changes: Any) -> Grant:
    """Return a grant that is valid at NOW."""
    return replace(
        Grant(
            credential_id=CREDENTIAL,
            agent=AGENT,
            tenant="retail",
            task=TASK,
            transaction_id=TRANSACTION,
            scope=SCOPE,
            intent_digest=digest(b"an intent"),
            thumbprint=THUMBPRINT,
            status_index=7,
            policy_ids=("refund-small",),
            issued_at=NOW,
            expires_at=NOW + LIFETIME,
        ),
        **changes,
    )


def token(signer: TokenSigner = SIGNER, issuer: str = ISSUER, **changes: Any) -> str:
    """Return a token minted for such a grant."""
    given = grant(**changes)
    signing_input = mint.prepare(given, signer.kid, issuer)
    return mint.finish(signing_input, signer.sign(signing_input), given, DECISION).token.reveal()


def claims(**changes: Any) -> dict[str, Any]:
    """Return valid claims, with some replaced."""
    return dict(to_claims(grant(), ISSUER)) | changes


def header(**changes: Any) -> dict[str, Any]:
    """Return a valid header, with some members replaced."""
    return {"alg": "ES256", "kid": SIGNER.kid, "typ": "at+jwt"} | changes


def base64url(content: bytes) -> bytes:
    """Return unpadded base64url."""
    return urlsafe_b64encode(content).rstrip(b"=")


def signed(head: Mapping[str, Any] | bytes, body: Mapping[str, Any] | bytes, signer: TokenSigner = SIGNER) -> str:
    """Sign any header and payload: the forger's tool, with the broker's own key."""
    parts = [part if isinstance(part, bytes) else canonical_json(dict(part)) for part in (head, body)]
    signing_input = b".".join(base64url(part) for part in parts)
    finished = mint.finish(signing_input, signer.sign(signing_input), grant(), DECISION)
    return finished.token.reveal()
