"""Redeem: spends a credential that is good once, at the broker, before the call that it is for is done.

The broker decides, at that moment; nothing is remembered here. What is not answered in time is refused, and the
credential may be spent then: whoever wants the call done asks for another.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import grpc

from broker.credential.claims import VerifiedToken
from broker.errors import Category, Reason, Refusal
from broker.intent import call_digest
from broker.v1 import redeem_pb2, redeem_pb2_grpc
from broker.validator.call import Call
from broker.validator.feed import reason_of

_LOG: Final = logging.getLogger(__name__)

WITHIN_SECONDS: Final = 5.0
ATTEMPT_SECONDS: Final = 2.0
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0

# What the caller is told as the broker says it: it is about the caller's own credential.
_TOLD: Final = frozenset(
    {
        Reason.OVERRIDE_IN_FORCE,
        Reason.AGENT_REVOKED,
        Reason.TENANT_REVOKED,
        Reason.POLICY_REVOKED,
        Reason.TASK_REVOKED,
        Reason.CREDENTIAL_REVOKED,
        Reason.CREDENTIAL_SPENT,
        Reason.TASK_ENDED,
        Reason.TASK_DEADLINE_PASSED,
        Reason.TASK_HEARTBEAT_MISSED,
        Reason.TASK_SUSPENDED,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_SCOPE_EXCEEDED,
    }
)
# No answer, or the broker's "not now": the same is asked again.
_NO_ANSWER: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNKNOWN,
    }
)
_NOT_NOW: Final = (Category.UNAVAILABLE, Category.EXHAUSTED)


class Redeemer:
    """Asks the broker for one service.

    Args:
        channel: to the broker, with the service's own SVID.
        new_key: makes a key that nobody guesses, 16 to 64 characters of [A-Za-z0-9_-].
        jitter: between 0 and 1, anew at each call.
        within: seconds in which the broker has to answer.

    """

    def __init__(
        self,
        *,
        channel: grpc.aio.Channel,
        new_key: Callable[[], str],
        jitter: Callable[[], float],
        within: float = WITHIN_SECONDS,
    ) -> None:
        self._stub: redeem_pb2_grpc.RedemptionServiceAsyncStub = redeem_pb2_grpc.RedemptionServiceStub(channel)
        self._new_key = new_key
        self._jitter = jitter
        self._within = within

    async def redeem(self, verified: VerifiedToken, call: Call) -> VerifiedToken:
        """Spend a credential on a call that it covers, and return it with its redemption.

        A lost answer is asked for again with the same key, so that it is the first one; the next attempt at the call
        has another key, and is refused.

        Raises:
            Refusal: what the broker says of the credential; REDEMPTION_UNAVAILABLE when it says nothing, or something
                that is the service's business and not the caller's.

        """
        request = redeem_pb2.RedeemRequest(
            credential_id=verified.credential_id,
            call_digest=call_digest(
                action=call.action, resource=call.resource, tenant=call.tenant, parameters=call.parameters
            ),
            idempotency_key=self._new_key(),
        )
        try:
            async with asyncio.timeout(self._within):
                return replace(verified, redemption=(await self._ask(request)).position)
        except TimeoutError:
            _LOG.warning("the broker did not answer a redemption in time; the call is refused")
            raise Refusal(Reason.REDEMPTION_UNAVAILABLE) from None

    async def _ask(self, request: redeem_pb2.RedeemRequest) -> redeem_pb2.RedeemResponse:
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._stub.Redeem(request, timeout=ATTEMPT_SECONDS)
            except grpc.aio.AioRpcError as error:
                _require_again(error)
            await asyncio.sleep(pause * (0.5 + 0.5 * self._jitter()))
            pause = min(pause * 2, LONGEST_PAUSE)


def _require_again(error: grpc.aio.AioRpcError) -> None:
    """Return when the same may be asked again.

    Raises:
        Refusal: the broker said no.

    """
    name = reason_of(error)
    reason = Reason.__members__.get(name)
    if reason in _TOLD:
        raise Refusal(reason) from None
    if (not name and error.code() in _NO_ANSWER) or (reason and reason.category in _NOT_NOW):
        return
    _LOG.error("the broker did not let this service redeem a credential: %s %s", error.code().name, name)
    raise Refusal(Reason.REDEMPTION_UNAVAILABLE) from None
