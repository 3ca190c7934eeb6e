"""Decode: intents onto the wire, answers off it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from broker.boundary import Boundary, Extent, limits_from_json, limits_to_json
from broker.client.credential import Credential, Task
from broker.client.errors import BrokerError
from broker.credential.revocation import RuleKind
from broker.credential.token import Token
from broker.errors import Reason, Refusal
from broker.intent import Intent, Json, Level, canonical_json, parse_parameters
from broker.trail import Trail
from broker.v1 import exchange_pb2, revoke_pb2, types_pb2

_LEVELS: Final[Mapping[Level | None, types_pb2.Level.ValueType]] = {
    None: types_pb2.LEVEL_UNSPECIFIED,
    Level.LOW: types_pb2.LEVEL_LOW,
    Level.MODERATE: types_pb2.LEVEL_MODERATE,
    Level.HIGH: types_pb2.LEVEL_HIGH,
}


def plain_parameters(parameters: Mapping[str, Json]) -> dict[str, Json]:
    """Return parameters as the broker will read them.

    Raises:
        Refusal: INTENT_PARAMETERS_*, for what has no single meaning: floats, null, other types.

    """
    try:
        text = json.dumps(parameters, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as problem:
        raise Refusal(Reason.INTENT_PARAMETERS_SYNTAX, type(problem).__name__) from problem
    return parse_parameters(text)


def intent_message(intent: Intent) -> types_pb2.Intent:
    """Return the message of an intent."""
    resource = types_pb2.Resource(type=intent.resource.type)
    if intent.resource.id:
        resource.id = intent.resource.id
    else:
        resource.set = intent.resource.set
    return types_pb2.Intent(
        action=intent.action,
        resource=resource,
        parameters=canonical_json(intent.parameters).decode(),
        purpose=intent.purpose,
        audience=intent.audience,
        task_id=intent.task,
        on_behalf_of=intent.on_behalf_of,
        sensitivity=_LEVELS[intent.sensitivity],
        risk=_LEVELS[intent.risk],
    )


def trail_message(trail: Trail) -> exchange_pb2.Trail | None:
    """Return the message of what led to an intent; None when nothing is said."""
    if not trail.to_json():
        return None
    return exchange_pb2.Trail(
        prompt_reference=trail.prompt_reference,
        prompt_digest=trail.prompt_digest,
        tool_call_reference=trail.tool_call_reference,
        tool_call_digest=trail.tool_call_digest,
    )


def credential_of(message: types_pb2.Credential, intent: Intent, thumbprint: str) -> Credential:
    """Return a credential.

    Raises:
        BrokerError: it was given for another intent than this one, or cannot be read.

    """
    if message.intent_digest != intent.digest():
        raise BrokerError("The broker answered with a credential for another intent.")
    try:
        details = json.loads(message.authorization_details)
    except ValueError as problem:
        raise BrokerError("The broker answered with details that are not JSON.") from problem
    return Credential(
        token=Token(message.token, credential_id=message.credential_id),
        id=message.credential_id,
        expires_at=time_of(message.expires_at),
        authorization_details=details,
        intent_digest=message.intent_digest,
        decision_id=message.decision_id,
        policy_ids=tuple(message.policy_ids),
        transaction_id=message.transaction_id,
        tenant=message.tenant,
        thumbprint=thumbprint,
        use="once" if message.use == types_pb2.CREDENTIAL_USE_ONCE else "many",
    )


def task_of(message: types_pb2.Task) -> Task:
    """Return a task."""
    return Task(
        id=message.task_id,
        purpose=message.purpose,
        tenant=message.tenant,
        begun_at=time_of(message.begun_at),
        deadline=time_of(message.deadline),
        conversation=message.conversation,
        type=message.type,
        boundary=Boundary(
            actions=frozenset(message.boundary.actions) or None,
            resources=frozenset(Extent(type=each.type, id=each.id, set=each.set) for each in message.boundary.resources)
            or None,
            services=frozenset(message.boundary.services) or None,
            limits=limits_from_json(parse_parameters(message.boundary.limits)),
        ),
        heartbeat=message.heartbeat.ToTimedelta() if message.HasField("heartbeat") else None,
        agent=message.agent,
        suspended_at=time_of(message.suspended_at) if message.HasField("suspended_at") else None,
    )


def boundary_message(boundary: Boundary) -> types_pb2.TaskBoundary:
    """Return the message of a boundary."""
    return types_pb2.TaskBoundary(
        actions=sorted(boundary.actions or ()),
        resources=map(_extent_message, boundary.resources or ()),
        services=sorted(boundary.services or ()),
        limits=canonical_json(limits_to_json(boundary.limits)).decode() if boundary.limits else "",
    )


def _extent_message(each: Extent) -> types_pb2.Extent:
    message = types_pb2.Extent(type=each.type)
    if each.id:
        message.id = each.id
    if each.set:
        message.set = each.set
    return message


def time_of(message: Timestamp) -> datetime:
    """Return a time, UTC.

    Raises:
        BrokerError: it is beyond any calendar.

    """
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as problem:
        raise BrokerError("The broker answered with a time that is none.") from problem


def duration_of(lifetime: timedelta | None) -> Duration | None:
    """Return a duration, or None."""
    if lifetime is None:
        return None
    message = Duration()
    message.FromTimedelta(lifetime)
    return message


def rule_message(kind: RuleKind, name: str) -> revoke_pb2.RevocationRule:
    """Return the message of a rule."""
    match kind:
        case RuleKind.CREDENTIAL:
            return revoke_pb2.RevocationRule(credential_id=name)
        case RuleKind.TASK:
            return revoke_pb2.RevocationRule(task_id=name)
        case RuleKind.AGENT:
            return revoke_pb2.RevocationRule(agent=name)
        case RuleKind.TENANT:
            return revoke_pb2.RevocationRule(tenant=name)
        case RuleKind.POLICY:
            return revoke_pb2.RevocationRule(policy_id=name)
