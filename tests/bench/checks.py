"""Checks: the validator's own work, cached and not, beside what others do to verify the same token once."""

from datetime import UTC, datetime, timedelta
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt as jose
from joserfc.jwk import ECKey
from pyroaring import BitMap

from broker.credential.grant import Grant
from broker.credential.mint import finish, prepare
from broker.credential.source import TokenSigner
from broker.intent import Resource, digest
from broker.scope import Scope
from broker.validator import Bounds, Call, Impact, RevocationView, Validator
from broker.validator.check import Memory
from broker.validator.view import KeySet, Update
from tests.bench.floors import microseconds
from tests.bench.stage import ISSUER
from tests.operations.world import ORDERS, SUPPORT

# A million revoked out of ten million given.
REVOKED: Final = range(0, 10_000_000, 10)
_THUMBPRINT: Final = "A" * 43
_CALL: Final = Call(action="order.read", resource=Resource(type="order", id="1234"), tenant="retail")
_ES256: Final = ec.ECDSA(SHA256())
_UUID: Final = "019a8e3c-0000-7000-8000-00000000000"


class Checks:
    """Checks of one token by a validator that knows a million revocations."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC).replace(microsecond=0)
        key = ec.generate_private_key(ec.SECP256R1())
        self._public, self._signer = key.public_key(), TokenSigner(key)
        self._jwk = ECKey.import_key(self._public)
        self._view = RevocationView(issuer=ISSUER)
        jwks = f'{{"keys":[{self._signer.public_jwk}]}}'
        snapshot = BitMap(REVOKED).serialize()
        update = Update(start=0, stop=0, snapshot=snapshot, read_at=self._now, key_set=KeySet(issuer=ISSUER, jwks=jwks))
        self._view.apply(update, self._now)
        self._tokens = [self._token(number) for number in (1, 2)]
        self._remembering, self._forgetting = self._validator(16), self._validator(1)

    def time(self, seconds: float) -> dict[str, float]:
        """Return each in microseconds of CPU."""
        token, pair = self._tokens[0], self._tokens
        payload, _, encoded = token.rpartition(".")
        signing_input, raw = payload.encode(), jwt.utils.base64url_decode(encoded)
        signature = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        remembered, revoked = {token: self._now + timedelta(hours=1)}, BitMap(REVOKED)

        def look_up() -> None:
            assert self._now < remembered[token]
            assert 1 not in revoked

        def check_both() -> None:
            """Two tokens in turn through a memory of one: neither is ever remembered."""
            for each in pair:
                self._check(self._forgetting, each)

        return {
            "cached": microseconds(lambda: self._check(self._remembering, token), seconds=seconds),
            "lookup": microseconds(look_up, seconds=seconds),
            "uncached": microseconds(check_both, seconds=seconds, each=2),
            "signature": microseconds(lambda: self._public.verify(signature, signing_input, _ES256), seconds=seconds),
            "pyjwt": microseconds(
                lambda: jwt.decode(token, self._public, ["ES256"], audience=ORDERS, issuer=ISSUER), seconds=seconds
            ),
            "joserfc": microseconds(lambda: jose.decode(token, self._jwk, algorithms=["ES256"]), seconds=seconds),
        }

    def _validator(self, tokens: int) -> Validator:
        return Validator(
            issuer=ISSUER,
            audience=ORDERS,
            view=self._view,
            bounds=Bounds.same(timedelta(hours=1)),  # nothing renews the view here
            memory=Memory(tokens=tokens),
        )

    def _check(self, validator: Validator, token: str) -> None:
        validator.check(token, _CALL, caller_thumbprint=_THUMBPRINT, now=self._now, within=Impact.READ)

    def _token(self, number: int) -> str:
        grant = Grant(
            credential_id=f"cred_{_UUID}{number}",
            agent=SUPPORT,
            tenant="retail",
            task="",
            transaction_id=f"txn_{_UUID}{number}",
            scope=Scope(actions=frozenset({"order.read"}), resource=_CALL.resource, constraints={}, audience=ORDERS),
            intent_digest=digest(b"an intent"),
            thumbprint=_THUMBPRINT,
            status_index=number,
            policy_ids=(),
            issued_at=self._now,
            expires_at=self._now + timedelta(hours=1),
        )
        signing_input = prepare(grant, self._signer.kid, ISSUER)
        return finish(signing_input, self._signer.sign(signing_input), grant, f"dec_{_UUID}{number}").token.reveal()
