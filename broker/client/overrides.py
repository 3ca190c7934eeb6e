"""Overrides, as the wire has them and as a session hands them out."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from broker.client.credential import Override
from broker.client.decode import time_of
from broker.override import StopKind
from broker.v1 import override_pb2

CLASSES: Final[Mapping[str, override_pb2.ActionClass.ValueType]] = MappingProxyType(
    {
        "read": override_pb2.ACTION_CLASS_READ,
        "write": override_pb2.ACTION_CLASS_WRITE,
        "high-impact": override_pb2.ACTION_CLASS_HIGH_IMPACT,
    }
)
_CLASSES_BACK: Final = MappingProxyType({message: name for name, message in CLASSES.items()})


def target_of(kind: StopKind, name: str, tenant: str) -> override_pb2.OverrideTarget:
    """Return the message of what is to be stopped.

    Raises:
        ValueError: no class has that name.

    """
    of = override_pb2.OverrideTarget
    match kind:
        case StopKind.AGENT:
            return of(agent=name, within_tenant=tenant)
        case StopKind.TENANT:
            return of(tenant=name, within_tenant=tenant)
        case StopKind.CLASS:
            if name not in CLASSES:
                raise ValueError(f"a class is one of {', '.join(CLASSES)}")
            return of(action_class=CLASSES[name], within_tenant=tenant)
        case StopKind.ACTION:
            return of(action=name, within_tenant=tenant)
        case StopKind.EVERYTHING:
            return of(everything=override_pb2.Everything(), within_tenant=tenant)


def override_of(message: override_pb2.Override) -> Override:
    """Return an override; what a later release may stop is shown as "other"."""
    target = message.target
    kind, name = "other", ""
    match target.WhichOneof("stops"):
        case "agent":
            kind, name = StopKind.AGENT.value, target.agent
        case "tenant":
            kind, name = StopKind.TENANT.value, target.tenant
        case "action_class":
            kind, name = StopKind.CLASS.value, _CLASSES_BACK.get(target.action_class, "other")
        case "action":
            kind, name = StopKind.ACTION.value, target.action
        case "everything":
            kind = StopKind.EVERYTHING.value
        case None:
            pass
    return Override(
        id=message.override_id,
        kind=kind,
        name=name,
        within_tenant=target.within_tenant,
        imposed_at=time_of(message.imposed_at),
        imposed_by=message.imposed_by,
        reason=message.reason,
    )
