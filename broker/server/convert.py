"""Convert: protobuf ⇄ nouns, the only place that knows both. What cannot be one meaning is refused, never guessed."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, TypeVar

import protovalidate
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from broker.credential.claims import authorization_details
from broker.credential.revocation import Rule, RuleKind
from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.intent import Intent, Level, Resource, canonical_json, parse_parameters
from broker.issuer.port import (
    NO_TRAIL,
    AuditEvent,
    AuditFilter,
    AuditPage,
    Context,
    ExchangeCall,
    KeySet,
    Page,
    RevocationPage,
    Revoked,
    SignedCheckpoint,
    Start,
    Trail,
)
from broker.text import is_fit
from broker.v1 import audit_pb2, exchange_pb2, revoke_pb2, types_pb2

Request = TypeVar("Request", bound=Message)

_NANOS_A_SECOND: Final = 1_000_000_000
_LEVELS: Final[Mapping[int, Level]] = MappingProxyType(
    {types_pb2.LEVEL_LOW: Level.LOW, types_pb2.LEVEL_MODERATE: Level.MODERATE, types_pb2.LEVEL_HIGH: Level.HIGH}
)
_RULES: Final[Mapping[str, RuleKind]] = MappingProxyType(
    {
        "credential_id": RuleKind.CREDENTIAL,
        "task_id": RuleKind.TASK,
        "agent": RuleKind.AGENT,
        "tenant": RuleKind.TENANT,
        "policy_id": RuleKind.POLICY,
    }
)
# What has a stricter rule of its own, or is JSON, which may have line breaks between its members.
_RULED_ELSEWHERE: Final = frozenset({"broker.v1.ExchangeRequest.intent", "broker.v1.TaskBoundary.limits"})

# --- what comes in -------------------------------------------------------------------------------------------------


def parse(raw: bytes, kind: type[Request]) -> Request:
    """Decode a request, without looking at its fields' rules.

    A field that this broker does not know is refused: it may have been meant to restrict what is asked for, and policy,
    digest and log would not see it.

    Raises:
        Refusal: REQUEST_MALFORMED.

    """
    message = kind()
    try:
        message.ParseFromString(raw)
    except Exception as problem:
        raise Refusal(Reason.REQUEST_MALFORMED) from problem
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        raise Refusal(Reason.REQUEST_MALFORMED, "a field that this broker does not know")
    return message


def validate(message: Message) -> None:
    """Check what any text may hold, and the rules that the proto states.

    Raises:
        Refusal: REQUEST_INVALID, with the field's path and the rule's id as detail.

    """
    for unfit in _unfit_texts(message):
        raise Refusal(Reason.REQUEST_INVALID, f"{unfit}: no control characters and no line breaks")
    for violation in protovalidate.collect_violations(message):
        path = violation.proto.field
        names = [element.field_name or "?" for element in path.elements] if path else []
        raise Refusal(Reason.REQUEST_INVALID, f"{'.'.join(names) or 'message'}: {violation.proto.rule_id}")


def _unfit_texts(message: Message, path: str = "") -> Iterator[str]:
    """Yield the path of every text that holds what no text may."""
    for field, value in message.ListFields():
        if field.full_name in _RULED_ELSEWHERE:
            continue
        for each in (value,) if isinstance(value, str | Message) else _entries(field, value):
            if isinstance(each, Message):
                yield from _unfit_texts(each, f"{path}{field.name}.")
            elif not is_fit(each):
                yield path + field.name


def _entries(field: FieldDescriptor, value: Any) -> Sequence[str | Message]:  # noqa: ANN401  # protobuf's own lists
    """Return the texts and messages of a list; none of what holds neither."""
    return value if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE) else ()


def exchange_call(request: exchange_pb2.ExchangeRequest, context: Context) -> ExchangeCall:
    """Return the call of one intent; what is wrong with it stands there as its refusal, for the issuer to record."""
    try:
        validate(request)
        wanted = intent(request.intent)
        lifetime = duration(request.lifetime) if request.HasField("lifetime") else None
        led_by = trail(request.trail) if request.HasField("trail") else NO_TRAIL
    except Refusal as refusal:
        return ExchangeCall(context=context, intent=refusal)
    return ExchangeCall(
        context=context,
        intent=wanted,
        lifetime=lifetime,
        request_id=request.request_id,
        approval=request.approval_id,
        trail=led_by,
    )


def trail(message: exchange_pb2.Trail) -> Trail:
    """Return what led to an intent.

    Raises:
        Refusal: REQUEST_INVALID, a reference does not show as what it is.

    """
    return Trail(
        prompt_reference=message.prompt_reference,
        prompt_digest=message.prompt_digest,
        tool_call_reference=message.tool_call_reference,
        tool_call_digest=message.tool_call_digest,
    )


def intent(message: types_pb2.Intent) -> Intent:
    """Return the intent.

    Raises:
        Refusal: INTENT_*, or TASK_UNKNOWN for a task id that cannot be one.

    """
    return Intent(
        action=message.action,
        resource=Resource(type=message.resource.type, id=message.resource.id, set=message.resource.set),
        parameters=parse_parameters(message.parameters),
        purpose=message.purpose,
        audience=message.audience,
        task=message.task_id,
        on_behalf_of=message.on_behalf_of,
        sensitivity=_LEVELS.get(message.sensitivity),
        risk=_LEVELS.get(message.risk),
    )


def duration(message: Duration) -> timedelta:
    """Return a duration that its rule has bounded.

    Raises:
        Refusal: REQUEST_INVALID when its nanos are no part of a second: it would be read as another length.

    """
    if not 0 <= message.nanos < _NANOS_A_SECOND:
        raise Refusal(Reason.REQUEST_INVALID, "duration.nanos")
    return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def rule(message: revoke_pb2.RevocationRule) -> Rule:
    """Return the rule that a validated message names."""
    covers = message.WhichOneof("covers")
    if covers is None:
        raise Refusal(Reason.REQUEST_INVALID, "rule.covers: required")
    name: str = getattr(message, covers)
    return Rule(kind=_RULES[covers], name=name)


def audit_filter(message: audit_pb2.AuditFilter) -> AuditFilter:
    """Return which events are wanted."""
    return AuditFilter(
        kinds=tuple(message.kinds),
        tenant=message.tenant,
        agent=message.agent,
        task=message.task_id,
        credential=message.credential_id,
    )


def start(value: int) -> Start:
    """Return where an audit stream begins."""
    return Start.END if value == audit_pb2.AUDIT_START_END else Start.BEGINNING


# --- what goes out -------------------------------------------------------------------------------------------------


def timestamp(at: datetime) -> Timestamp:
    """Return a time."""
    message = Timestamp()
    message.FromDatetime(at)
    return message


def credential(held: Credential) -> types_pb2.Credential:
    """Return what the caller gets: the one place where a token is revealed."""
    grant = held.grant
    return types_pb2.Credential(
        token=held.token.reveal(),
        credential_id=grant.credential_id,
        expires_at=timestamp(grant.expires_at),
        authorization_details=canonical_json(authorization_details(grant.scope)).decode(),
        intent_digest=grant.intent_digest,
        decision_id=held.decision_id,
        policy_ids=grant.policy_ids,
        transaction_id=grant.transaction_id,
        tenant=grant.tenant,
        use=types_pb2.CREDENTIAL_USE_ONCE if grant.use == "once" else types_pb2.CREDENTIAL_USE_MANY,
    )


def key_set(keys: KeySet) -> types_pb2.KeySet:
    """Return the public keys."""
    return types_pb2.KeySet(issuer=keys.issuer, jwks=keys.jwks, checkpoint_key=keys.checkpoint_key)


def checkpoint(signed: SignedCheckpoint) -> types_pb2.Checkpoint:
    """Return a checkpoint."""
    return types_pb2.Checkpoint(note=signed.note, size=signed.size)


def heartbeat(page: Page) -> types_pb2.Heartbeat:
    """Return how fresh a page is: the time says something only to a reader that has reached the position."""
    return types_pb2.Heartbeat(position=page.size, at=timestamp(page.read_at))


def revocation_page(found: RevocationPage, from_position: int) -> revoke_pb2.SubscribeRevocationsResponse:
    """Return a page of revocations as a message that covers everything from `from_position` on."""
    message = revoke_pb2.SubscribeRevocationsResponse(
        from_position=from_position,
        to_position=found.page.stop,
        cursor=found.page.cursor,
        revoked=[_revoked(each) for each in found.revoked],
        heartbeat=heartbeat(found.page),
    )
    if found.snapshot is not None:
        held = found.snapshot
        message.snapshot.CopyFrom(
            revoke_pb2.RevocationSnapshot(status_indexes=held.status_indexes, credential_ids=held.credential_ids)
        )
    if found.key_set is not None:
        message.key_set.CopyFrom(key_set(found.key_set))
    return message


def _revoked(each: Revoked) -> revoke_pb2.Revoked:
    return revoke_pb2.Revoked(
        position=each.position,
        at=timestamp(each.at),
        rule=each.rule,
        status_indexes=each.status_indexes,
        credential_ids=each.credential_ids,
    )


def audit_page(found: AuditPage, from_position: int) -> audit_pb2.SubscribeAuditResponse:
    """Return a page of the log as a message that covers everything from `from_position` on."""
    return audit_pb2.SubscribeAuditResponse(
        from_position=from_position,
        to_position=found.page.stop,
        cursor=found.page.cursor,
        events=[_event(each) for each in found.events],
        heartbeat=heartbeat(found.page),
    )


def _event(each: AuditEvent) -> audit_pb2.AuditEvent:
    openings = [audit_pb2.Opening(field=one.field, value=one.value.decode(), salt=one.salt) for one in each.openings]
    return audit_pb2.AuditEvent(position=each.position, event=each.content, openings=openings)
