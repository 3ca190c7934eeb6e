"""What calls and answers share on the port: refusals, contexts, resources, times, bounded text.

The issuer does not trust the door. Whatever it decodes is bounded and checked here and in the nouns' own construction,
as if the caller itself had sent it; `Malformed` says that a message is not one that an honest door sends.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from broker.credential.token import Token
from broker.errors import Held, Reason, Refusal
from broker.intent import Resource
from broker.issuer.port import Context
from broker.issuer.v1 import port_pb2 as v1
from broker.person.identity_token import MAX_TOKEN_LENGTH
from broker.svid.principal import Evidence
from broker.text import is_fit

MAX_DETAIL: Final = 1024
MAX_SENTENCE: Final = 1024
MAX_ID: Final = 64
MAX_NAME: Final = 128
MAX_SPIFFE_ID: Final = 2048
MAX_TEXT: Final = 1024
MAX_CERTIFICATES: Final = 128 * 1024
MAX_POLICY_IDS: Final = 256

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_TRACE: Final = re.compile(r"(?:[0-9a-f]{32})?")


class Malformed(ValueError):
    """A message of the port that is not a call or an answer, whatever its bytes decode to."""


# What decoding a message into nouns can raise when the message is not one of an honest peer.
CONVERSION_PROBLEMS: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, Refusal)


def bounded(text: str, limit: int, what: str) -> str:
    """Return text of at most `limit` bytes that holds what a text may.

    Raises:
        Malformed: it is longer, or not fit; the door checks the same, by the rules of the public proto.

    """
    if not is_fit(text):
        raise Malformed(what)
    # Characters are counted first: encoding is dearer, and most texts are far below their limit.
    if len(text) * 4 > limit and len(text.encode()) > limit:
        raise Malformed(what)
    return text


def to_microseconds(at: datetime) -> int:
    """Return microseconds since 1970-01-01T00:00:00Z, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """Return the time, in UTC.

    Raises:
        OverflowError: no datetime can hold it.

    """
    return _EPOCH + timedelta(microseconds=count)


def to_duration(lifetime: timedelta | None) -> int | None:
    """Return a duration in microseconds, exactly; None stays None."""
    return None if lifetime is None else lifetime // _MICROSECOND


def lifetime_of(message: v1.ExchangeCall | v1.BeginTaskCall) -> timedelta | None:
    """Return the lifetime that a call wishes for.

    Raises:
        Malformed: it is not positive.

    """
    if not message.HasField("lifetime_us"):
        return None
    if message.lifetime_us <= 0:
        raise Malformed("lifetime_us")
    return timedelta(microseconds=message.lifetime_us)


def encode_refusal(refusal: Refusal) -> v1.Refusal:
    """Return the message of a refusal; the reason's own sentence is left out, an overlong detail is cut."""
    own = refusal.sentence == refusal.reason.meaning.sentence
    return v1.Refusal(
        reason=refusal.reason.name,
        detail=refusal.detail[:MAX_DETAIL],
        policy_ids=refusal.policy_ids,
        decision_id=refusal.decision_id,
        sentence="" if own else refusal.sentence,
        held=None if refusal.held is None else _encode_held(refusal.held),
    )


def _encode_held(held: Held) -> v1.Held:
    return v1.Held(approval=held.approval, waits_for=held.waits_for, until_us=to_microseconds(held.until))


def _decode_held(message: v1.Held) -> Held:
    if len(message.waits_for) > MAX_POLICY_IDS:
        raise Malformed("refusal.held")
    return Held(
        approval=bounded(message.approval, MAX_ID, "refusal.held.approval"),
        waits_for=tuple(bounded(each, MAX_SPIFFE_ID, "refusal.held.waits_for") for each in message.waits_for),
        until=from_microseconds(message.until_us),
    )


def decode_refusal(message: v1.Refusal) -> Refusal:
    """Return the refusal; a new one each time, because it is raised and gathers a traceback.

    Raises:
        Malformed: a member is over its bound.
        KeyError: no such reason.

    """
    if len(message.detail) > MAX_DETAIL or len(message.sentence) > MAX_SENTENCE:
        raise Malformed("refusal")
    if len(message.policy_ids) > MAX_POLICY_IDS:
        raise Malformed("refusal.policy_ids")
    return Refusal(
        Reason[message.reason],
        message.detail,
        policy_ids=tuple(bounded(policy_id, MAX_NAME, "refusal.policy_ids") for policy_id in message.policy_ids),
        decision_id=bounded(message.decision_id, MAX_ID, "refusal.decision_id"),
        sentence=message.sentence,
        held=_decode_held(message.held) if message.HasField("held") else None,
    )


def encode_context(context: Context) -> v1.Context:
    """Return the message of a call's context."""
    evidence = context.evidence
    return v1.Context(
        evidence=v1.Evidence(
            leaf=evidence.leaf,
            chain=evidence.chain,
            tls_version=evidence.tls_version,
            session_reused=evidence.session_reused,
            source=evidence.source,
        ),
        request=context.request,
        trace=context.trace,
        identity_token=context.identity_token.reveal() if context.identity_token else "",
    )


def decode_context(message: v1.Context) -> Context:
    """Return the context of a call.

    Raises:
        Malformed: evidence or id are missing, or a member is over its bound.

    """
    if not message.HasField("evidence") or not message.request:
        raise Malformed("context")
    if not _TRACE.fullmatch(message.trace):
        raise Malformed("context.trace")
    evidence = message.evidence
    if len(evidence.leaf) + len(evidence.chain) > MAX_CERTIFICATES:
        raise Malformed("context.evidence")
    return Context(
        evidence=Evidence(
            leaf=evidence.leaf,
            chain=evidence.chain,
            tls_version=bounded(evidence.tls_version, MAX_ID, "context.evidence.tls_version"),
            session_reused=evidence.session_reused,
            source=bounded(evidence.source, MAX_TEXT, "context.evidence.source"),
        ),
        request=bounded(message.request, MAX_ID, "context.request"),
        trace=message.trace,
        identity_token=_identity_token(message.identity_token),
    )


def _identity_token(text: str) -> Token | None:
    if not text:
        return None
    return Token(bounded(text, MAX_TOKEN_LENGTH, "context.identity_token"), credential_id="a person")


def encode_resource(resource: Resource) -> v1.Resource:
    """Return the message of a resource."""
    return v1.Resource(type=resource.type, id=resource.id, set=resource.set)


def decode_resource(message: v1.Resource) -> Resource:
    """Return the resource.

    Raises:
        Refusal: it is none.

    """
    return Resource(type=message.type, id=message.id, set=message.set)
