"""OverrideService: stop, let go on, and see what is stopped."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import grpc

from broker.errors import Reason, Refusal
from broker.issuer.port import ImposeCall, LiftOverrideCall, Override, ReadCall, Stop, StopKind
from broker.server import convert
from broker.server.reception import Call, Method, Reception, service
from broker.v1 import override_pb2

NAME = "broker.v1.OverrideService"

_CLASSES: Final[Mapping[override_pb2.ActionClass.ValueType, str]] = MappingProxyType(
    {
        override_pb2.ACTION_CLASS_READ: "read",
        override_pb2.ACTION_CLASS_WRITE: "write",
        override_pb2.ACTION_CLASS_HIGH_IMPACT: "high-impact",
    }
)
_CLASSES_BACK: Final = MappingProxyType({name: message for message, name in _CLASSES.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideServicer:
    """Serves overrides, before anything else that waits."""

    reception: Reception

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        impose = Method(path=f"/{NAME}/ImposeOverride", operation="impose_override")
        lift = Method(path=f"/{NAME}/LiftOverride", operation="lift_override")
        listing = Method(path=f"/{NAME}/ListOverrides", operation="list_overrides")
        reception = self.reception
        return service(
            NAME,
            {
                "ImposeOverride": reception.unary(impose, override_pb2.ImposeOverrideRequest, self._impose),
                "LiftOverride": reception.unary(lift, override_pb2.LiftOverrideRequest, self._lift),
                "ListOverrides": reception.unary(listing, override_pb2.ListOverridesRequest, self._list),
            },
        )

    async def _impose(
        self, call: Call, request: override_pb2.ImposeOverrideRequest
    ) -> override_pb2.ImposeOverrideResponse:
        try:
            stop = stop_of(request.target)
        except Refusal as refusal:
            raise await self.reception.recorded(call, refusal) from refusal
        asked = ImposeCall(context=call.context, stop=stop, text=request.reason)
        done = await self.reception.ask_first(call, self.reception.issuer.impose_override(asked))
        return override_pb2.ImposeOverrideResponse(
            override_id=done.override, position=done.position, revoked_credentials=done.revoked
        )

    async def _lift(self, call: Call, request: override_pb2.LiftOverrideRequest) -> override_pb2.LiftOverrideResponse:
        asked = LiftOverrideCall(context=call.context, override=request.override_id, text=request.reason)
        done = await self.reception.ask_first(call, self.reception.issuer.lift_override(asked))
        return override_pb2.LiftOverrideResponse(position=done.position)

    async def _list(self, call: Call, _: override_pb2.ListOverridesRequest) -> override_pb2.ListOverridesResponse:
        asked = ReadCall(context=call.context)
        found = await self.reception.ask_first(call, self.reception.issuer.list_overrides(asked))
        return override_pb2.ListOverridesResponse(overrides=[_override(each) for each in found.overrides])


def stop_of(message: override_pb2.OverrideTarget) -> Stop:
    """Return what a validated message stops.

    Raises:
        Refusal: REQUEST_INVALID, a tenant stands beside what has none.

    """
    kind = message.WhichOneof("stops")
    within = message.within_tenant
    match kind:
        case "action_class":
            return Stop(kind=StopKind.CLASS, name=_CLASSES[message.action_class], tenant=within)
        case "action":
            return Stop(kind=StopKind.ACTION, name=message.action, tenant=within)
        case _ if within:
            raise Refusal(Reason.REQUEST_INVALID, "target.within_tenant: only of a class or an action")
        case "agent":
            return Stop(kind=StopKind.AGENT, name=message.agent)
        case "tenant":
            return Stop(kind=StopKind.TENANT, name=message.tenant)
        case "everything":
            return Stop(kind=StopKind.EVERYTHING)
        case _:
            raise Refusal(Reason.REQUEST_INVALID, "target.stops: required")


def _override(each: Override) -> override_pb2.Override:
    return override_pb2.Override(
        override_id=each.id,
        target=_target(each.stop),
        imposed_at=convert.timestamp(each.at),
        imposed_by=each.by,
        reason=each.text,
    )


def _target(stop: Stop) -> override_pb2.OverrideTarget:
    of = override_pb2.OverrideTarget
    match stop.kind:
        case StopKind.AGENT:
            return of(agent=stop.name)
        case StopKind.TENANT:
            return of(tenant=stop.name)
        case StopKind.CLASS:
            return of(action_class=_CLASSES_BACK[stop.name], within_tenant=stop.tenant)
        case StopKind.ACTION:
            return of(action=stop.name, within_tenant=stop.tenant)
        case StopKind.EVERYTHING:
            return of(everything=override_pb2.Everything())
