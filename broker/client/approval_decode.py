"""Approvals off the wire. What an approver is shown is held to the digests that come with it."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from broker.client.approval import Answered, Approval, ApprovalDetails, Requirement
from broker.client.decode import time_of
from broker.client.errors import BrokerError
from broker.errors import Refusal
from broker.intent import Intent, Json, Level, Resource, canonical_json, digest, parse_parameters
from broker.v1 import approval_pb2, types_pb2

STATES: Final[Mapping[str, approval_pb2.ApprovalState.ValueType]] = {
    "pending": approval_pb2.APPROVAL_STATE_PENDING,
    "approved": approval_pb2.APPROVAL_STATE_APPROVED,
    "denied": approval_pb2.APPROVAL_STATE_DENIED,
    "expired": approval_pb2.APPROVAL_STATE_EXPIRED,
    "withdrawn": approval_pb2.APPROVAL_STATE_WITHDRAWN,
    "used": approval_pb2.APPROVAL_STATE_USED,
}
_STATES_BACK: Final = {message: name for name, message in STATES.items()}
_KINDS: Final = {
    approval_pb2.STEP_UP_KIND_USER: "user",
    approval_pb2.STEP_UP_KIND_AUTHENTICATION: "authentication",
    approval_pb2.STEP_UP_KIND_GROUP: "group",
}
_LEVELS: Final = {
    types_pb2.LEVEL_LOW: Level.LOW,
    types_pb2.LEVEL_MODERATE: Level.MODERATE,
    types_pb2.LEVEL_HIGH: Level.HIGH,
}


def approval_of(message: approval_pb2.Approval) -> Approval:
    """Return an approval.

    Raises:
        BrokerError: what it shows is not what its digest is of, or cannot be read.

    """
    details = _details(message) if message.HasField("details") else None
    return Approval(
        id=message.approval_id,
        state=_STATES_BACK.get(message.state, "other"),
        agent=message.agent,
        tenant=message.tenant,
        task=message.task_id,
        requested_at=time_of(message.requested_at),
        pending_until=time_of(message.pending_until),
        decided_at=time_of(message.decided_at) if message.HasField("decided_at") else None,
        usable_until=time_of(message.usable_until) if message.HasField("usable_until") else None,
        intent_digest=message.intent_digest,
        requirements=tuple(map(_requirement, message.requirements)),
        bypass_until=time_of(message.bypass_until) if message.HasField("bypass_until") else None,
        reason=message.reason,
        details=details,
    )


def _digest(message: approval_pb2.Approval, intent: Intent) -> str:
    """Return the digest of what is shown, whatever the broker says that it is."""
    members: dict[str, Json] = {
        "v": 1,
        "approval": message.approval_id,
        "intent": intent.digest(),
        "agent": message.agent,
        "task": intent.task,
        "nonce": message.details.nonce,
        "requirements": [_stated(each) for each in message.requirements],
    }
    return digest(canonical_json(members))


def _stated(required: approval_pb2.ApprovalRequirement) -> dict[str, Json]:
    """Return a requirement as policies write it; what is not said is left out."""
    members: dict[str, Json] = {"kind": _KINDS.get(required.kind, "other")}
    if required.kind == approval_pb2.STEP_UP_KIND_GROUP:
        members |= {"group": required.group, "quorum": required.quorum}
    if required.owners_excluded:
        members["owners"] = "excluded"
    durations = {
        "pending_for": _lasting(required.pending_for, there=required.HasField("pending_for")),
        "good_for": _lasting(required.good_for, there=required.HasField("good_for")),
        "bypass": _lasting(required.bypass, there=required.HasField("bypass")),
        "max_age": _lasting(required.max_age, there=required.HasField("max_age")),
    }
    return members | {name: _iso(value) for name, value in durations.items() if value is not None}


def _iso(duration: timedelta) -> str:
    """Return ISO 8601 in hours, minutes and seconds."""
    seconds = duration // timedelta(seconds=1)
    parts = ((seconds // 3600, "H"), (seconds // 60 % 60, "M"), (seconds % 60, "S"))
    return "PT" + "".join(f"{count}{unit}" for count, unit in parts if count)


def _requirement(message: approval_pb2.ApprovalRequirement) -> Requirement:
    return Requirement(
        kind=_KINDS.get(message.kind, "other"),
        group=message.group,
        escalated_to=tuple(message.escalated_to),
        quorum=message.quorum,
        approvals=message.approvals,
        owners_excluded=message.owners_excluded,
        max_age=_lasting(message.max_age, there=message.HasField("max_age")),
        good_for=message.good_for.ToTimedelta(),
        bypass=_lasting(message.bypass, there=message.HasField("bypass")),
    )


def _details(message: approval_pb2.Approval) -> ApprovalDetails:
    details = message.details
    agent, task = details.agent, details.task
    intent = _intent(details.intent)
    if details.digest != _digest(message, intent) or intent.digest() != message.intent_digest:
        raise BrokerError("The broker shows something else than what would be approved; nothing was approved.")
    try:
        granted = json.loads(details.authorization_details)
    except ValueError as problem:
        raise BrokerError("The broker answered with details that are not JSON.") from problem
    return ApprovalDetails(
        digest=details.digest,
        intent=intent,
        authorization_details=granted,
        lifetime=details.lifetime.ToTimedelta(),
        policy_ids=tuple(details.policy_ids),
        business_owner=agent.business_owner,
        security_owner=agent.security_owner,
        since=time_of(agent.since),
        granted=agent.granted,
        refused=agent.refused,
        approved=agent.approved,
        denied=agent.denied,
        task_type=task.type,
        task_begun_at=_at(task.begun_at, there=details.HasField("task")),
        task_deadline=_at(task.deadline, there=details.HasField("task")),
        person=task.person,
        answers=tuple(map(_answer, details.answers)),
    )


def _intent(message: types_pb2.Intent) -> Intent:
    resource = message.resource
    try:
        return Intent(
            action=message.action,
            resource=Resource(type=resource.type, id=resource.id, set=resource.set),
            parameters=parse_parameters(message.parameters or "{}"),
            purpose=message.purpose,
            audience=message.audience,
            task=message.task_id,
            on_behalf_of=message.on_behalf_of,
            sensitivity=_LEVELS.get(message.sensitivity),
            risk=_LEVELS.get(message.risk),
        )
    except Refusal as problem:
        raise BrokerError("The broker shows an intent that is none; nothing was approved.") from problem


def _answer(message: approval_pb2.ApprovalAnswer) -> Answered:
    return Answered(
        person=message.person,
        at=time_of(message.at),
        by_token=message.by_token,
        bypass=_lasting(message.bypass, there=message.HasField("bypass")),
    )


def _at(message: Timestamp, *, there: bool) -> datetime | None:
    return time_of(message) if there else None


def _lasting(message: Duration, *, there: bool) -> timedelta | None:
    return message.ToTimedelta() if there else None
