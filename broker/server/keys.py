"""KeyService: the public keys, and their rotation."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from broker.credential.ring import KeyState, KeyUse
from broker.issuer.port import ListedKey, ReadCall, RotateKeysCall
from broker.server import convert
from broker.server.reception import Call, Method, Reception, service
from broker.v1 import keys_pb2

NAME = "broker.v1.KeyService"

_USES: Final[Mapping[KeyUse, keys_pb2.KeyUse.ValueType]] = MappingProxyType(
    {KeyUse.TOKENS: keys_pb2.KEY_USE_TOKENS, KeyUse.CHECKPOINTS: keys_pb2.KEY_USE_CHECKPOINTS}
)
_USES_BACK: Final = MappingProxyType({message: use for use, message in _USES.items()})
_STATES: Final[Mapping[KeyState, keys_pb2.KeyState.ValueType]] = MappingProxyType(
    {
        KeyState.NEXT: keys_pb2.KEY_STATE_NEXT,
        KeyState.CURRENT: keys_pb2.KEY_STATE_CURRENT,
        KeyState.RETIRED: keys_pb2.KEY_STATE_RETIRED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyServicer:
    """Serves keys."""

    reception: Reception

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        read = Method(path=f"/{NAME}/GetKeySet", operation="get_key_set")
        listing = Method(path=f"/{NAME}/ListKeys", operation="list_keys")
        rotate = Method(path=f"/{NAME}/RotateKeys", operation="rotate_keys")
        reception = self.reception
        return service(
            NAME,
            {
                "GetKeySet": reception.unary(read, keys_pb2.GetKeySetRequest, self._key_set),
                "ListKeys": reception.unary(listing, keys_pb2.ListKeysRequest, self._list),
                "RotateKeys": reception.unary(rotate, keys_pb2.RotateKeysRequest, self._rotate),
            },
        )

    async def _key_set(self, call: Call, _: keys_pb2.GetKeySetRequest) -> keys_pb2.GetKeySetResponse:
        keys = await self.reception.ask(call, self.reception.issuer.key_set(ReadCall(context=call.context)))
        return keys_pb2.GetKeySetResponse(key_set=convert.key_set(keys))

    async def _list(self, call: Call, _: keys_pb2.ListKeysRequest) -> keys_pb2.ListKeysResponse:
        found = await self.reception.ask(call, self.reception.issuer.list_keys(ReadCall(context=call.context)))
        return keys_pb2.ListKeysResponse(keys=[_key(each) for each in found.keys])

    async def _rotate(self, call: Call, request: keys_pb2.RotateKeysRequest) -> keys_pb2.RotateKeysResponse:
        asked = RotateKeysCall(
            context=call.context,
            use=_USES_BACK[request.use] if request.HasField("use") else None,
            emergency=request.emergency_kid,
            text=request.reason,
            request_id=request.request_id,
        )
        changed = await self.reception.ask(call, self.reception.issuer.rotate_keys(asked))
        return keys_pb2.RotateKeysResponse(
            position=changed.position,
            at=convert.timestamp(changed.at),
            use=_USES[changed.use],
            kid=changed.kid,
            replaced_kid=changed.replaced,
            next_kid=changed.following,
            next_signs_from=convert.timestamp(changed.signs_from),
        )


def _key(key: ListedKey) -> keys_pb2.Key:
    return keys_pb2.Key(
        kid=key.kid,
        use=_USES[key.use],
        state=_STATES[key.state],
        algorithm=key.algorithm,
        published_at=_time(key.published),
        activated_at=_time(key.activated),
        retired_at=_time(key.retired),
        signs_from=_time(key.signs_from),
        signs_until=_time(key.signs_until),
        published_until=_time(key.published_until),
        verifier_key=key.verifier_key,
        endorsement=key.endorsement,
    )


def _time(at: datetime | None) -> Timestamp | None:
    return None if at is None else convert.timestamp(at)
