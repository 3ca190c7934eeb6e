"""AuditService: follow the audit log, and its checkpoints."""

from dataclasses import dataclass

import grpc

from broker.issuer.port import AuditPage, AuditPageCall, ReadCall
from broker.server import convert
from broker.server.follow import Follow, Reader
from broker.server.hub import News
from broker.server.reception import Call, Method, Reception, service
from broker.v1 import audit_pb2

NAME = "broker.v1.AuditService"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditServicer:
    """Serves the audit log."""

    reception: Reception
    follow: Follow

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        subscribe = Method(path=f"/{NAME}/SubscribeAudit", operation="subscribe_audit")
        checkpoint = Method(path=f"/{NAME}/GetCheckpoint", operation="get_checkpoint")
        return service(
            NAME,
            {
                "SubscribeAudit": self.reception.server_stream(
                    subscribe, audit_pb2.SubscribeAuditRequest, self._subscribe
                ),
                "GetCheckpoint": self.reception.unary(checkpoint, audit_pb2.GetCheckpointRequest, self._checkpoint),
            },
        )

    async def _subscribe(self, call: Call, request: audit_pb2.SubscribeAuditRequest) -> None:
        wanted, start = convert.audit_filter(request.filter), convert.start(request.start)

        async def page(cursor: str, opening: bool) -> AuditPage:  # noqa: FBT001
            return await self.reception.issuer.audit_page(
                AuditPageCall(
                    context=call.context,
                    cursor=cursor,
                    filter=wanted,
                    start=start,
                    personal=request.personal,
                    opening=opening,
                )
            )

        reader = Reader(
            cursor=request.cursor,
            page=page,
            encode=convert.audit_page,
            has_news=lambda found: bool(found.events),
            forever=request.follow,
            wakes_for=News.ANYTHING,
        )
        await self.follow(call, reader)

    async def _checkpoint(self, call: Call, _: audit_pb2.GetCheckpointRequest) -> audit_pb2.GetCheckpointResponse:
        signed = await self.reception.ask(call, self.reception.issuer.checkpoint(ReadCall(context=call.context)))
        return audit_pb2.GetCheckpointResponse(checkpoint=convert.checkpoint(signed))
