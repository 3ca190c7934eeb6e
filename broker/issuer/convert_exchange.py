"""Exchange ⇄ messages of the port, both ways: the path on which every microsecond counts."""

import json
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from broker.credential.grant import Grant
from broker.credential.token import Credential, Token
from broker.errors import Reason, Refusal
from broker.intent import Intent, Json, Level, parse_parameters
from broker.issuer.convert import (
    CONVERSION_PROBLEMS,
    MAX_ID,
    MAX_SPIFFE_ID,
    Malformed,
    bounded,
    decode_context,
    decode_refusal,
    decode_resource,
    encode_context,
    encode_refusal,
    encode_resource,
    from_microseconds,
    lifetime_of,
    to_duration,
    to_microseconds,
)
from broker.issuer.convert_outcomes import decode_trail, encode_trail
from broker.issuer.port import NO_TRAIL, ExchangeAnswer, ExchangeCall
from broker.issuer.v1 import port_pb2 as v1
from broker.scope import Scope, constraint_from_json

_LEVELS: Final[Mapping[Level | None, v1.Level.ValueType]] = {
    None: v1.LEVEL_UNSPECIFIED,
    Level.LOW: v1.LEVEL_LOW,
    Level.MODERATE: v1.LEVEL_MODERATE,
    Level.HIGH: v1.LEVEL_HIGH,
}
_LEVELS_BACK: Final = {message: level for level, message in _LEVELS.items()}

_USES: Final[dict[Literal["many", "once"], v1.Use.ValueType]] = {"many": v1.USE_MANY, "once": v1.USE_ONCE}
_USES_BACK: Final = {message: use for use, message in _USES.items()}

# Need not be the canonical form: the issuer parses the text and makes that form itself. Three times as fast.
_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def json_text(value: Json) -> str:
    """Return compact JSON text of a value that `parse_parameters` gave, or of limits on such values."""
    return _JSON.encode(value)


def encode_exchange_call(call: ExchangeCall) -> v1.ExchangeCall:
    """Return the message of one intent, or of the refusal that stands for it."""
    asked = call.intent
    return v1.ExchangeCall(
        context=encode_context(call.context),
        intent=encode_intent(asked) if isinstance(asked, Intent) else None,
        refusal=encode_refusal(asked) if isinstance(asked, Refusal) else None,
        lifetime_us=to_duration(call.lifetime),
        request_id=call.request_id,
        trail=encode_trail(call.trail),
        approval=call.approval,
    )


def encode_intent(intent: Intent) -> v1.Intent:
    """Return the message of an intent."""
    return v1.Intent(
        action=intent.action,
        resource=encode_resource(intent.resource),
        parameters=json_text(intent.parameters) if intent.parameters else "",
        purpose=intent.purpose,
        audience=intent.audience,
        task=intent.task,
        on_behalf_of=intent.on_behalf_of,
        sensitivity=_LEVELS[intent.sensitivity],
        risk=_LEVELS[intent.risk],
    )


def decode_exchange_calls(message: v1.ExchangeCalls) -> list[ExchangeCall | Refusal]:
    """Return the calls; one whose caller cannot even be named stands there as REQUEST_MALFORMED."""
    return [_decode_or_refuse(call) for call in message.calls]


def _decode_or_refuse(message: v1.ExchangeCall) -> ExchangeCall | Refusal:
    try:
        return decode_exchange_call(message)
    except CONVERSION_PROBLEMS:
        return Refusal(Reason.REQUEST_MALFORMED, "port")


def decode_exchange_call(message: v1.ExchangeCall) -> ExchangeCall:
    """Return one intent to decide. What is wrong with the intent itself stands in its place, to be recorded.

    Raises:
        Exception: one of CONVERSION_PROBLEMS, for what no honest door sends.

    """
    return ExchangeCall(
        context=decode_context(message.context),
        intent=_decode_asked(message),
        lifetime=lifetime_of(message),
        request_id=bounded(message.request_id, MAX_ID, "request_id"),
        trail=decode_trail(message.trail) if message.HasField("trail") else NO_TRAIL,
        approval=bounded(message.approval, MAX_ID, "approval"),
    )


def _decode_asked(message: v1.ExchangeCall) -> Intent | Refusal:
    match message.WhichOneof("asked"):
        case "intent":
            try:
                return decode_intent(message.intent)
            except Refusal as refusal:
                return refusal
        case "refusal":
            return decode_refusal(message.refusal)
        case None:
            raise Malformed("asked")


def decode_intent(message: v1.Intent) -> Intent:
    """Return an intent, parsed and checked again."""
    return Intent(
        action=message.action,
        resource=decode_resource(message.resource),
        parameters=parse_parameters(message.parameters) if message.parameters else {},
        purpose=message.purpose,
        audience=bounded(message.audience, MAX_SPIFFE_ID, "audience"),
        task=message.task,
        on_behalf_of=message.on_behalf_of,
        sensitivity=_LEVELS_BACK[message.sensitivity],
        risk=_LEVELS_BACK[message.risk],
    )


def encode_exchange_answers(answers: Sequence[ExchangeAnswer]) -> v1.ExchangeAnswers:
    """Return the message of one answer an intent, in order."""
    return v1.ExchangeAnswers(answers=[_encode_exchange_answer(answer) for answer in answers])


def _encode_exchange_answer(answer: ExchangeAnswer) -> v1.ExchangeAnswer:
    if isinstance(answer, Refusal):
        return v1.ExchangeAnswer(refusal=encode_refusal(answer))
    return v1.ExchangeAnswer(credential=_encode_credential(answer))


def decode_exchange_answer(message: v1.ExchangeAnswer) -> ExchangeAnswer:
    """Return the answer to one intent."""
    match message.WhichOneof("answer"):
        case "credential":
            return _decode_credential(message.credential)
        case "refusal":
            return decode_refusal(message.refusal)
        case None:
            raise Malformed("answer")


def _encode_credential(credential: Credential) -> v1.Credential:
    grant = credential.grant
    return v1.Credential(
        token=credential.token.reveal(),
        credential_id=grant.credential_id,
        agent=grant.agent,
        tenant=grant.tenant,
        task=grant.task,
        transaction_id=grant.transaction_id,
        scope=encode_scope(grant.scope),
        intent_digest=grant.intent_digest,
        thumbprint=grant.thumbprint,
        status_index=grant.status_index,
        policy_ids=grant.policy_ids,
        issued_at_us=to_microseconds(grant.issued_at),
        expires_at_us=to_microseconds(grant.expires_at),
        use=_USES[grant.use],
        decision_id=credential.decision_id,
    )


def _decode_credential(message: v1.Credential) -> Credential:
    grant = Grant(
        credential_id=message.credential_id,
        agent=message.agent,
        tenant=message.tenant,
        task=message.task,
        transaction_id=message.transaction_id,
        scope=decode_scope(message.scope),
        intent_digest=message.intent_digest,
        thumbprint=message.thumbprint,
        status_index=message.status_index,
        policy_ids=tuple(message.policy_ids),
        issued_at=from_microseconds(message.issued_at_us),
        expires_at=from_microseconds(message.expires_at_us),
        use=_USES_BACK[message.use],
    )
    token = Token(message.token, credential_id=message.credential_id)
    return Credential(token=token, grant=grant, decision_id=message.decision_id)


def encode_scope(scope: Scope) -> v1.Scope:
    """Return the message of a scope."""
    limits = {name: limit.to_json() for name, limit in scope.constraints.items()}
    return v1.Scope(
        actions=sorted(scope.actions),
        resource=encode_resource(scope.resource),
        constraints=json_text(limits) if limits else "",
        audience=scope.audience,
    )


def decode_scope(message: v1.Scope) -> Scope:
    """Return a scope."""
    limits = json.loads(message.constraints) if message.constraints else {}
    return Scope(
        actions=frozenset(message.actions),
        resource=decode_resource(message.resource),
        constraints={name: constraint_from_json(limit) for name, limit in limits.items()},
        audience=message.audience,
    )
