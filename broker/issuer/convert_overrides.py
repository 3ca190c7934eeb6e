"""Calls and answers about overrides ⇄ messages of the port."""

from collections.abc import Mapping
from typing import Final

from broker.issuer.convert import (
    MAX_ID,
    MAX_NAME,
    MAX_SPIFFE_ID,
    MAX_TEXT,
    bounded,
    decode_context,
    encode_context,
    from_microseconds,
    to_microseconds,
)
from broker.issuer.port import ImposeCall, LiftOverrideCall, Overridden, Override, OverrideList, Stop, StopKind
from broker.issuer.v1 import port_pb2 as v1

_KINDS: Final[Mapping[StopKind, v1.StopKind.ValueType]] = {
    StopKind.AGENT: v1.STOP_KIND_AGENT,
    StopKind.TENANT: v1.STOP_KIND_TENANT,
    StopKind.CLASS: v1.STOP_KIND_CLASS,
    StopKind.ACTION: v1.STOP_KIND_ACTION,
    StopKind.EVERYTHING: v1.STOP_KIND_EVERYTHING,
}
_KINDS_BACK: Final = {message: kind for kind, message in _KINDS.items()}


def _encode_stop(stop: Stop) -> v1.Stop:
    return v1.Stop(kind=_KINDS[stop.kind], name=stop.name, tenant=stop.tenant)


def _decode_stop(message: v1.Stop) -> Stop:
    return Stop(
        kind=_KINDS_BACK[message.kind],
        name=bounded(message.name, MAX_SPIFFE_ID, "stop.name"),
        tenant=bounded(message.tenant, MAX_NAME, "stop.tenant"),
    )


def encode_impose(call: ImposeCall) -> v1.ImposeCall:
    """Return the message of something to stop."""
    return v1.ImposeCall(context=encode_context(call.context), stop=_encode_stop(call.stop), text=call.text)


def decode_impose(message: v1.ImposeCall) -> ImposeCall:
    """Return something to stop."""
    return ImposeCall(
        context=decode_context(message.context),
        stop=_decode_stop(message.stop),
        text=bounded(message.text, MAX_TEXT, "text"),
    )


def encode_lift_override(call: LiftOverrideCall) -> v1.LiftOverrideCall:
    """Return the message of an override to lift."""
    return v1.LiftOverrideCall(context=encode_context(call.context), override=call.override, text=call.text)


def decode_lift_override(message: v1.LiftOverrideCall) -> LiftOverrideCall:
    """Return an override to lift."""
    return LiftOverrideCall(
        context=decode_context(message.context),
        override=bounded(message.override, MAX_ID, "override"),
        text=bounded(message.text, MAX_TEXT, "text"),
    )


def encode_overridden(done: Overridden) -> v1.Overridden:
    """Return the message of what imposing or lifting did."""
    return v1.Overridden(position=done.position, override=done.override, revoked=done.revoked)


def decode_overridden(message: v1.Overridden) -> Overridden:
    """Return what imposing or lifting did."""
    return Overridden(position=message.position, override=message.override, revoked=message.revoked)


def _encode_override(override: Override) -> v1.Override:
    return v1.Override(
        id=override.id,
        stop=_encode_stop(override.stop),
        at_us=to_microseconds(override.at),
        by=override.by,
        text=override.text,
    )


def _decode_override(message: v1.Override) -> Override:
    return Override(
        id=message.id,
        stop=_decode_stop(message.stop),
        at=from_microseconds(message.at_us),
        by=message.by,
        text=message.text,
    )


def encode_override_list(found: OverrideList) -> v1.OverrideList:
    """Return the message of the overrides in force."""
    return v1.OverrideList(overrides=[_encode_override(each) for each in found.overrides])


def decode_override_list(message: v1.OverrideList) -> OverrideList:
    """Return the overrides in force."""
    return OverrideList(overrides=tuple(_decode_override(each) for each in message.overrides))
