"""RedemptionService: a service spends a credential that is good once."""

from dataclasses import dataclass

import grpc

from broker.issuer.port import RedeemCall
from broker.server import convert
from broker.server.reception import Call, Method, Reception, service
from broker.v1 import redeem_pb2

NAME = "broker.v1.RedemptionService"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedemptionServicer:
    """Serves redemptions."""

    reception: Reception

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        redeem = Method(path=f"/{NAME}/Redeem", operation="redeem")
        return service(NAME, {"Redeem": self.reception.unary(redeem, redeem_pb2.RedeemRequest, self._redeem)})

    async def _redeem(self, call: Call, request: redeem_pb2.RedeemRequest) -> redeem_pb2.RedeemResponse:
        asked = RedeemCall(
            context=call.context,
            credential=request.credential_id,
            call_digest=request.call_digest,
            key=request.idempotency_key,
        )
        done = await self.reception.ask(call, self.reception.issuer.redeem(asked))
        return redeem_pb2.RedeemResponse(position=done.position, redeemed_at=convert.timestamp(done.at))
