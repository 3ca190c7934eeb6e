"""ExchangeService: one intent, or a conversation of them."""

from dataclasses import dataclass

import grpc

from broker.errors import Refusal
from broker.server import convert
from broker.server.conversation import Conversation
from broker.server.hub import Hub
from broker.server.reception import Call, Method, Reception, service
from broker.v1 import exchange_pb2

NAME = "broker.v1.ExchangeService"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeServicer:
    """Serves exchanges."""

    reception: Reception
    hub: Hub

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        exchange = Method(path=f"/{NAME}/Exchange", operation="exchange")
        stream = Method(path=f"/{NAME}/ExchangeStream", operation="exchange")
        return service(
            NAME,
            {
                # Validated within, so that an intent that breaks a rule is recorded as an exchange.
                "Exchange": self.reception.unary_unchecked(exchange, exchange_pb2.ExchangeRequest, self._exchange),
                "ExchangeStream": self.reception.both_streams(stream, self._stream),
            },
        )

    async def _exchange(self, call: Call, request: exchange_pb2.ExchangeRequest) -> exchange_pb2.ExchangeResponse:
        asked = convert.exchange_call(request, call.context)
        (answer,) = await self.reception.ask(call, self.reception.issuer.exchange([asked]))
        if isinstance(answer, Refusal):
            raise answer
        return exchange_pb2.ExchangeResponse(credential=convert.credential(answer))

    async def _stream(self, call: Call) -> None:
        await Conversation(reception=self.reception, hub=self.hub, call=call).run()
