"""Calls and answers about drifted tasks ⇄ messages of the port."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from broker.issuer.convert import bounded, decode_context, encode_context, from_microseconds, to_microseconds
from broker.issuer.convert_tasks import decode_task, encode_task
from broker.issuer.port import Drifted, DriftedList, DriftState, ListDriftedCall, ShownDrifted
from broker.issuer.v1 import port_pb2 as v1

MAX_TOKEN: Final = 1024
_MICROSECOND: Final = timedelta(microseconds=1)
_STATES: Final[Mapping[DriftState, v1.DriftState.ValueType]] = {
    DriftState.OPEN: v1.DRIFT_STATE_OPEN,
    DriftState.RESUMED: v1.DRIFT_STATE_RESUMED,
    DriftState.ENDED: v1.DRIFT_STATE_ENDED,
}
_STATES_BACK: Final = {message: state for state, message in _STATES.items()}


def encode_list_drifted(call: ListDriftedCall) -> v1.ListDriftedCall:
    """Return the message of a call for drifted tasks."""
    return v1.ListDriftedCall(
        context=encode_context(call.context), page_size=call.page_size, page_token=call.page_token
    )


def decode_list_drifted(message: v1.ListDriftedCall) -> ListDriftedCall:
    """Return a call for drifted tasks."""
    return ListDriftedCall(
        context=decode_context(message.context),
        page_size=message.page_size,
        page_token=bounded(message.page_token, MAX_TOKEN, "page_token"),
    )


def encode_drifted(shown: ShownDrifted) -> v1.DriftedTask:
    """Return the message of a drifted task."""
    drifted = shown.drifted
    return v1.DriftedTask(
        task=encode_task(shown.task),
        state=_STATES[drifted.state],
        group=drifted.group,
        escalated=drifted.escalated,
        escalate_at_us=None if drifted.escalate_at is None else to_microseconds(drifted.escalate_at),
        since_us=to_microseconds(drifted.since),
        at_us=to_microseconds(drifted.at),
        times=drifted.times,
        refusals=drifted.refusals,
        within_us=drifted.within // _MICROSECOND,
        reasons=drifted.reasons,
        actions=drifted.actions,
        business_owner=shown.business_owner,
        security_owner=shown.security_owner,
    )


def decode_drifted(message: v1.DriftedTask) -> ShownDrifted:
    """Return a drifted task."""
    task = decode_task(message.task)
    return ShownDrifted(
        drifted=Drifted(
            task=task.id,
            agent=task.agent,
            tenant=task.tenant,
            group=message.group,
            since=from_microseconds(message.since_us),
            at=from_microseconds(message.at_us),
            refusals=message.refusals,
            within=message.within_us * _MICROSECOND,
            reasons=tuple(message.reasons),
            actions=tuple(message.actions),
            times=message.times,
            state=_STATES_BACK[message.state],
            escalated=tuple(message.escalated),
            escalate_at=from_microseconds(message.escalate_at_us) if message.HasField("escalate_at_us") else None,
        ),
        task=task,
        business_owner=message.business_owner,
        security_owner=message.security_owner,
    )


def encode_drifted_list(found: DriftedList) -> v1.DriftedList:
    """Return the message of drifted tasks."""
    return v1.DriftedList(
        drifted=[encode_drifted(each) for each in found.drifted], next_page_token=found.next_page_token
    )


def decode_drifted_list(message: v1.DriftedList) -> DriftedList:
    """Return drifted tasks."""
    return DriftedList(
        drifted=tuple(decode_drifted(each) for each in message.drifted), next_page_token=message.next_page_token
    )
