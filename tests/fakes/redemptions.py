"""A broker that serves nothing but redemptions, and answers each as the test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from broker.errors import Reason
from broker.server.status import code_of
from broker.v1 import redeem_pb2, redeem_pb2_grpc
from tests.fakes.revocations import status_of

Plan = Reason | grpc.StatusCode | float | None
"""Refuse with a reason, fail as gRPC does, keep silent for so many seconds, or accept."""


@dataclass
class FakeRedemptions(redeem_pb2_grpc.RedemptionServiceServicer):
    """Answers by its plans, one each, then accepts; remembers what it was asked."""

    plans: list[Plan] = field(default_factory=list)
    asked: list[redeem_pb2.RedeemRequest] = field(default_factory=list)

    async def Redeem(  # noqa: N802 - the stub's name
        self, request: redeem_pb2.RedeemRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> redeem_pb2.RedeemResponse:
        self.asked.append(request)
        plan = self.plans.pop(0) if self.plans else None
        match plan:
            case Reason():
                await context.abort_with_status(status_of(plan, code_of(plan).value[0]))
            case grpc.StatusCode():
                await context.abort(plan, "as gRPC says it")
            case float():
                await asyncio.sleep(plan)
            case None:
                pass
        return redeem_pb2.RedeemResponse(position=len(self.asked))


@asynccontextmanager
async def redeeming(*plans: Plan) -> AsyncIterator[tuple[FakeRedemptions, grpc.aio.Channel]]:
    """Serve; give what was asked, and a channel to it."""
    fake = FakeRedemptions(plans=list(plans))
    server = grpc.aio.server()
    redeem_pb2_grpc.add_RedemptionServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        try:
            yield fake, channel
        finally:
            await server.stop(None)
