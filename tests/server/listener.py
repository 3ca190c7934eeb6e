"""A subscription under test."""

import asyncio
from typing import Any

import grpc

from broker.v1 import audit_pb2, audit_pb2_grpc, revoke_pb2, revoke_pb2_grpc
from tests.server.world import World, ended

AUDIT = "/broker.v1.AuditService/SubscribeAudit"


class Listener:
    """A stream under test."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def hear(self) -> Any:
        async with asyncio.timeout(60):
            heard = await self.call.read()
        assert heard is not grpc.aio.EOF
        return heard

    async def news(self) -> Any:
        """The next message that is more than a heartbeat."""
        while True:
            heard = await self.hear()
            if getattr(heard, "events", None) or getattr(heard, "revoked", None):
                return heard

    async def end(self) -> grpc.aio.AioRpcError:
        return await ended(self.call)


def audit(world: World, channel: grpc.aio.Channel | None = None, **wanted: Any) -> Listener:
    asked = audit_pb2.SubscribeAuditRequest(**({"follow": True} | wanted))
    return Listener(audit_pb2_grpc.AuditServiceStub(channel or world.channel()).SubscribeAudit(asked))


def revocations(world: World, cursor: str = "") -> Listener:
    asked = revoke_pb2.SubscribeRevocationsRequest(cursor=cursor)
    return Listener(revoke_pb2_grpc.RevocationServiceStub(world.channel()).SubscribeRevocations(asked))
