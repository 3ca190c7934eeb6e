"""AdminService: what the broker stands on and what it has counted, on its own unix socket."""

import asyncio
from dataclasses import dataclass

from broker.admin.v1 import admin_pb2, admin_pb2_grpc
from broker.issuer.port import Issuer
from broker.server.hub import Hub
from broker.server.limits import Limits
from broker.server.observe import Counters
from broker.server.reception import ServicerContext


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Serves the state."""

    issuer: Issuer
    hub: Hub
    counters: Counters
    limits: Limits

    async def GetStatus(  # noqa: N802 - the proto's name
        self, _request: admin_pb2.GetStatusRequest, _context: ServicerContext
    ) -> admin_pb2.GetStatusResponse:
        """Return counters always, and the issuer's state when it answers."""
        counters = self.counters
        status = admin_pb2.GetStatusResponse(
            handshakes_begun=counters.handshakes_begun,
            connections_with_a_call=counters.connections_with_a_call,
            calls=counters.calls,
            rotation_failures=counters.rotation_failures,
            issuer_ready=False,
        )
        try:
            async with asyncio.timeout(self.limits.call):
                state = await self.issuer.state()
        except Exception:  # noqa: BLE001 - whatever keeps the issuer from answering, the counters are still told
            return status
        status.log_size = state.size
        status.policy_digest = state.policy_digest
        status.policy_problem = state.policy_problem
        status.spiffe_id = state.spiffe_id
        status.issuer_ready = self.hub.ready
        return status
