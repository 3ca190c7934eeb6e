"""Health: the standard service (grpc.health.v1), on the agent port for authenticated callers only."""

import asyncio
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from broker.issuer.port import ReadCall
from broker.server.hub import Hub
from broker.server.reception import Call, Method, Reception, ServicerContext, service

NAME = "grpc.health.v1.Health"
SERVICES: Final = frozenset(
    {
        "",
        "broker.v1.AuditService",
        "broker.v1.ExchangeService",
        "broker.v1.KeyService",
        "broker.v1.OverrideService",
        "broker.v1.RevocationService",
        "broker.v1.TaskService",
    }
)
_STATES: Final = {
    True: health_pb2.HealthCheckResponse.SERVING,
    False: health_pb2.HealthCheckResponse.NOT_SERVING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthServicer:
    """Says whether exchanges are served; whoever asks is authenticated first."""

    reception: Reception
    hub: Hub

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        check = Method(path=f"/{NAME}/Check", operation="health")
        watch = Method(path=f"/{NAME}/Watch", operation="health")
        kind = health_pb2.HealthCheckRequest
        return service(
            NAME,
            {
                "Check": self.reception.unary(check, kind, self._check),
                "Watch": self.reception.server_stream(watch, kind, self._watch),
            },
        )

    async def _check(self, call: Call, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        await self._admit(call)
        if request.service not in SERVICES:
            # The health protocol fixes the code, NOT_FOUND, not a reason.
            await call.rpc.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=_STATES[self.hub.ready])

    async def _watch(self, call: Call, request: health_pb2.HealthCheckRequest) -> None:
        """Send the state, then each change; every heartbeat the watcher is authenticated again."""
        sent = None
        while True:
            version = self.hub.version
            left = await self._admit(call)
            known = request.service in SERVICES
            state = _STATES[self.hub.ready] if known else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if state != sent:
                await call.write(health_pb2.HealthCheckResponse(status=state))
                sent = state
            await self.hub.beyond(version, min(left, self.reception.limits.heartbeat))
            await asyncio.sleep(self.reception.limits.spacing)

    async def _admit(self, call: Call) -> float:
        """Authenticate the caller; return the seconds until its SVID ends."""
        asked = self.reception.issuer.authenticate(ReadCall(context=call.context))
        valid_until = await self.reception.ask(call, asked)
        return (valid_until - self.reception.clock()).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalHealth:
    """The same on the admin socket, where the file's mode says who may ask."""

    hub: Hub

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        return grpc.method_handlers_generic_handler(
            NAME,
            {
                "Check": grpc.unary_unary_rpc_method_handler(
                    self._check,
                    request_deserializer=health_pb2.HealthCheckRequest.FromString,
                    response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
                )
            },
        )

    async def _check(
        self, request: health_pb2.HealthCheckRequest, rpc: ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in SERVICES:
            await rpc.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=_STATES[self.hub.ready])
