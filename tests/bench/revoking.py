"""Revoking: from an operator's call to the first refusal at a service that follows, over the durable broker."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from broker.errors import Reason, Refusal
from broker.intent import Resource
from broker.svid.leaf import thumbprint_of
from broker.v1 import exchange_pb2_grpc, revoke_pb2, revoke_pb2_grpc
from broker.validator import Call, Validator, open_validator
from tests.bench.load import intent
from tests.bench.stage import ISSUER, Stage
from tests.operations.world import ORDERS

_PATIENCE: Final = 10.0
_LOOK: Final = 0.0002


async def revoke(stage: Stage, times: int, tell: Callable[[int], object]) -> list[float]:
    """Return how long each revocation took to be refused, in milliseconds; nothing else runs meanwhile."""
    async with (
        stage.channel("agent", "durable") as agent,
        stage.channel("operator", "durable") as operator,
        stage.channel("service", "durable") as service,
        open_validator(channel=service, issuer=ISSUER, audience=ORDERS) as validation,
    ):
        await validation.feed.ready()
        exchanges: Any = exchange_pb2_grpc.ExchangeServiceStub(agent)
        revocations: Any = revoke_pb2_grpc.RevocationServiceStub(operator)
        thumbprint = thumbprint_of(stage.svids["agent"].leaf)
        took = []
        for number in range(times):
            tell(number)
            given = (await exchanges.Exchange(intent(number))).credential
            if _reason(validation.validator, given.token, number, thumbprint) is not None:
                raise RuntimeError("a credential that was not revoked was refused")
            rule = revoke_pb2.RevocationRule(credential_id=given.credential_id)
            begun = time.perf_counter()
            call = revocations.Revoke(revoke_pb2.RevokeRequest(rule=rule, reason="bench"))
            while _reason(validation.validator, given.token, number, thumbprint) is not Reason.TOKEN_REVOKED:
                if time.perf_counter() - begun > _PATIENCE:
                    raise RuntimeError("a revoked credential was still taken after 10 s")
                await asyncio.sleep(_LOOK)
            took.append((time.perf_counter() - begun) * 1e3)
            await call
        return took


def _reason(validator: Validator, token: str, order: int, thumbprint: str) -> Reason | None:
    touched = Call(action="order.read", resource=Resource(type="order", id=str(order % 1000)), tenant="retail")
    try:
        validator.check(token, touched, caller_thumbprint=thumbprint, now=datetime.now(UTC))
    except Refusal as refusal:
        return refusal.reason
    return None
