"""Calls ⇄ messages of the port. The door encodes, the issuer decodes and trusts nothing of it."""

from collections.abc import Mapping, Sequence
from typing import Final

from broker.credential.revocation import Rule, RuleKind
from broker.issuer.convert import (
    MAX_ID,
    MAX_NAME,
    MAX_SPIFFE_ID,
    MAX_TEXT,
    Malformed,
    bounded,
    decode_context,
    decode_refusal,
    encode_context,
    encode_refusal,
)
from broker.issuer.port import (
    AuditFilter,
    AuditPageCall,
    LiftCall,
    ReadCall,
    RefusedCall,
    RevocationPageCall,
    RevokeCall,
    Start,
)
from broker.issuer.v1 import port_pb2 as v1

MAX_KINDS: Final = 64

_RULE_KINDS: Final[Mapping[RuleKind, v1.RuleKind.ValueType]] = {
    RuleKind.CREDENTIAL: v1.RULE_KIND_CREDENTIAL,
    RuleKind.TASK: v1.RULE_KIND_TASK,
    RuleKind.AGENT: v1.RULE_KIND_AGENT,
    RuleKind.TENANT: v1.RULE_KIND_TENANT,
    RuleKind.POLICY: v1.RULE_KIND_POLICY,
}
_RULE_KINDS_BACK: Final = {message: kind for kind, message in _RULE_KINDS.items()}
_STARTS: Final[Mapping[Start, v1.Start.ValueType]] = {Start.BEGINNING: v1.START_BEGINNING, Start.END: v1.START_END}
_STARTS_BACK: Final = {message: start for start, message in _STARTS.items()}


def encode_revoke(call: RevokeCall) -> v1.RevokeCall:
    """Return the message of a rule to put in force."""
    context = encode_context(call.context)
    return v1.RevokeCall(context=context, kind=_RULE_KINDS[call.rule.kind], name=call.rule.name, text=call.text)


def decode_revoke(message: v1.RevokeCall) -> RevokeCall:
    """Return a rule to put in force."""
    name = bounded(message.name, MAX_SPIFFE_ID, "name")
    return RevokeCall(
        context=decode_context(message.context),
        rule=Rule(kind=_RULE_KINDS_BACK[message.kind], name=name),
        text=bounded(message.text, MAX_TEXT, "text"),
    )


def encode_lift(call: LiftCall) -> v1.LiftCall:
    """Return the message of a revocation to lift."""
    return v1.LiftCall(context=encode_context(call.context), revocation=call.revocation, text=call.text)


def decode_lift(message: v1.LiftCall) -> LiftCall:
    """Return a revocation to lift."""
    return LiftCall(
        context=decode_context(message.context),
        revocation=bounded(message.revocation, MAX_ID, "revocation"),
        text=bounded(message.text, MAX_TEXT, "text"),
    )


def encode_read(call: ReadCall) -> v1.ReadCall:
    """Return the message of a call without arguments."""
    return v1.ReadCall(context=encode_context(call.context))


def decode_read(message: v1.ReadCall) -> ReadCall:
    """Return a call without arguments."""
    return ReadCall(context=decode_context(message.context))


def encode_refused(call: RefusedCall) -> v1.RefusedCall:
    """Return the message of a call that could not be understood."""
    refusal = encode_refusal(call.refusal)
    return v1.RefusedCall(context=encode_context(call.context), operation=call.operation, refusal=refusal)


def decode_refused(message: v1.RefusedCall) -> RefusedCall:
    """Return a call that could not be understood."""
    return RefusedCall(
        context=decode_context(message.context),
        operation=bounded(message.operation, MAX_NAME, "operation"),
        refusal=decode_refusal(message.refusal),
    )


def encode_revocation_page_call(call: RevocationPageCall) -> v1.RevocationPageCall:
    """Return the message that asks for a page of revocations."""
    return v1.RevocationPageCall(
        context=encode_context(call.context), cursor=call.cursor, known_keys=call.known_keys, opening=call.opening
    )


def decode_revocation_page_call(message: v1.RevocationPageCall) -> RevocationPageCall:
    """Return a call for a page of revocations."""
    return RevocationPageCall(
        context=decode_context(message.context),
        cursor=bounded(message.cursor, MAX_TEXT, "cursor"),
        known_keys=bounded(message.known_keys, MAX_NAME, "known_keys"),
        opening=message.opening,
    )


def encode_audit_page_call(call: AuditPageCall) -> v1.AuditPageCall:
    """Return the message that asks for a page of the audit log."""
    wanted = call.filter
    return v1.AuditPageCall(
        context=encode_context(call.context),
        cursor=call.cursor,
        filter=v1.AuditFilter(
            kinds=wanted.kinds,
            tenant=wanted.tenant,
            agent=wanted.agent,
            task=wanted.task,
            credential=wanted.credential,
        ),
        start=_STARTS[call.start],
        personal=call.personal,
        opening=call.opening,
    )


def decode_audit_page_call(message: v1.AuditPageCall) -> AuditPageCall:
    """Return a call for a page of the audit log."""
    return AuditPageCall(
        context=decode_context(message.context),
        cursor=bounded(message.cursor, MAX_TEXT, "cursor"),
        filter=_decode_filter(message.filter),
        start=_STARTS_BACK[message.start],
        personal=message.personal,
        opening=message.opening,
    )


def _decode_filter(message: v1.AuditFilter) -> AuditFilter:
    if len(message.kinds) > MAX_KINDS:
        raise Malformed("filter.kinds")
    return AuditFilter(
        kinds=_texts(message.kinds, MAX_NAME, "filter.kinds"),
        tenant=bounded(message.tenant, MAX_NAME, "filter.tenant"),
        agent=bounded(message.agent, MAX_SPIFFE_ID, "filter.agent"),
        task=bounded(message.task, MAX_ID, "filter.task"),
        credential=bounded(message.credential, MAX_ID, "filter.credential"),
    )


def _texts(texts: Sequence[str], limit: int, what: str) -> tuple[str, ...]:
    return tuple(bounded(text, limit, what) for text in texts)
