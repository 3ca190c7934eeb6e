"""KeyService: the public keys."""

from dataclasses import dataclass

import grpc

from broker.issuer.port import ReadCall
from broker.server import convert
from broker.server.reception import Call, Method, Reception, service
from broker.v1 import keys_pb2

NAME = "broker.v1.KeyService"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyServicer:
    """Serves the key set."""

    reception: Reception

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        method = Method(path=f"/{NAME}/GetKeySet", operation="get_key_set")
        return service(NAME, {"GetKeySet": self.reception.unary(method, keys_pb2.GetKeySetRequest, self._key_set)})

    async def _key_set(self, call: Call, _: keys_pb2.GetKeySetRequest) -> keys_pb2.GetKeySetResponse:
        keys = await self.reception.ask(call, self.reception.issuer.key_set(ReadCall(context=call.context)))
        return keys_pb2.GetKeySetResponse(key_set=convert.key_set(keys))
