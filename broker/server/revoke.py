"""RevocationService: revoke, lift, and follow revocations."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc

from broker.issuer.port import LiftCall, RevocationPage, RevocationPageCall, RevokeCall
from broker.server import convert
from broker.server.follow import Follow, Reader
from broker.server.hub import News
from broker.server.reception import Call, Method, Reception, service
from broker.v1 import revoke_pb2

NAME = "broker.v1.RevocationService"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationServicer:
    """Serves revocations."""

    reception: Reception
    follow: Follow

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        revoke = Method(path=f"/{NAME}/Revoke", operation="revoke")
        lift = Method(path=f"/{NAME}/LiftRevocation", operation="lift_revocation")
        subscribe = Method(path=f"/{NAME}/SubscribeRevocations", operation="subscribe_revocations")
        reception = self.reception
        return service(
            NAME,
            {
                "Revoke": reception.unary(revoke, revoke_pb2.RevokeRequest, self._revoke),
                "LiftRevocation": reception.unary(lift, revoke_pb2.LiftRevocationRequest, self._lift),
                "SubscribeRevocations": reception.server_stream(
                    subscribe, revoke_pb2.SubscribeRevocationsRequest, self._subscribe
                ),
            },
        )

    async def _revoke(self, call: Call, request: revoke_pb2.RevokeRequest) -> revoke_pb2.RevokeResponse:
        asked = RevokeCall(context=call.context, rule=convert.rule(request.rule), text=request.reason)
        ended = await self.reception.ask(call, self.reception.issuer.revoke(asked))
        return revoke_pb2.RevokeResponse(
            revocation_id=ended.revocation, position=ended.position, revoked_credentials=ended.revoked
        )

    async def _lift(self, call: Call, request: revoke_pb2.LiftRevocationRequest) -> revoke_pb2.LiftRevocationResponse:
        asked = LiftCall(context=call.context, revocation=request.revocation_id, text=request.reason)
        lifted = await self.reception.ask(call, self.reception.issuer.lift(asked))
        return revoke_pb2.LiftRevocationResponse(position=lifted.position)

    async def _subscribe(self, call: Call, request: revoke_pb2.SubscribeRevocationsRequest) -> None:
        reader = Reader(
            cursor=request.cursor,
            page=self._pages(call),
            encode=convert.revocation_page,
            has_news=lambda found: bool(found.snapshot or found.revoked or found.key_set),
            forever=True,
            wakes_for=News.ENDINGS,
        )
        await self.follow(call, reader)

    def _pages(self, call: Call) -> Callable[[str, bool], Coroutine[Any, Any, RevocationPage]]:
        """Ask for pages; remember which key set the reader has, so that it gets another only when there is one."""
        known = ""

        async def page(cursor: str, opening: bool) -> RevocationPage:  # noqa: FBT001
            nonlocal known
            asked = RevocationPageCall(context=call.context, cursor=cursor, known_keys=known, opening=opening)
            found = await self.reception.issuer.revocation_page(asked)
            known = found.key_set.digest if found.key_set else known
            return found

        return page
