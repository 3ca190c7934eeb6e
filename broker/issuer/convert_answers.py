"""Answers ⇄ messages of the port. The issuer encodes, the door decodes."""

import json
from collections.abc import Sequence
from typing import Final, Literal

from broker.audit.event import Opening
from broker.credential.grant import Grant
from broker.credential.token import Credential, Token
from broker.errors import Refusal
from broker.issuer.convert import (
    Malformed,
    decode_refusal,
    decode_resource,
    encode_refusal,
    encode_resource,
    from_microseconds,
    to_microseconds,
)
from broker.issuer.convert_calls import json_text
from broker.issuer.port import (
    AuditEvent,
    AuditPage,
    Change,
    Ended,
    ExchangeAnswer,
    KeySet,
    Page,
    RevocationPage,
    Revoked,
    SignedCheckpoint,
    Snapshot,
    State,
    Task,
)
from broker.issuer.v1 import port_pb2 as v1
from broker.scope import Scope, constraint_from_json

_USES: Final[dict[Literal["many", "once"], v1.Use]] = {"many": v1.USE_MANY, "once": v1.USE_ONCE}
_USES_BACK: Final = {message: use for use, message in _USES.items()}


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
        scope=_encode_scope(grant.scope),
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
        scope=_decode_scope(message.scope),
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


def _encode_scope(scope: Scope) -> v1.Scope:
    limits = scope.constraints.items()
    return v1.Scope(
        actions=sorted(scope.actions),
        resource=encode_resource(scope.resource),
        constraints=[v1.Constraint(name=name, limit=json_text(limit.to_json())) for name, limit in limits],
        audience=scope.audience,
    )


def _decode_scope(message: v1.Scope) -> Scope:
    return Scope(
        actions=frozenset(message.actions),
        resource=decode_resource(message.resource),
        constraints={each.name: constraint_from_json(json.loads(each.limit)) for each in message.constraints},
        audience=message.audience,
    )


def encode_task(task: Task) -> v1.Task:
    """Return the message of a task."""
    return v1.Task(
        id=task.id,
        agent=task.agent,
        begun_by=task.begun_by,
        tenant=task.tenant,
        purpose=task.purpose,
        conversation=task.conversation,
        begun_at_us=to_microseconds(task.begun_at),
        deadline_us=to_microseconds(task.deadline),
        ended_at_us=None if task.ended_at is None else to_microseconds(task.ended_at),
    )


def decode_task(message: v1.Task) -> Task:
    """Return a task."""
    return Task(
        id=message.id,
        agent=message.agent,
        begun_by=message.begun_by,
        tenant=message.tenant,
        purpose=message.purpose,
        conversation=message.conversation,
        begun_at=from_microseconds(message.begun_at_us),
        deadline=from_microseconds(message.deadline_us),
        ended_at=from_microseconds(message.ended_at_us) if message.HasField("ended_at_us") else None,
    )


def encode_ended(ended: Ended) -> v1.Ended:
    """Return the message of what an end or a revocation did."""
    return v1.Ended(position=ended.position, revoked=ended.revoked, revocation=ended.revocation)


def decode_ended(message: v1.Ended) -> Ended:
    """Return what an end or a revocation did."""
    return Ended(position=message.position, revoked=message.revoked, revocation=message.revocation)


def encode_key_set(keys: KeySet) -> v1.KeySet:
    """Return the message of the public keys."""
    return v1.KeySet(issuer=keys.issuer, jwks=keys.jwks, checkpoint_key=keys.checkpoint_key, digest=keys.digest)


def decode_key_set(message: v1.KeySet) -> KeySet:
    """Return the public keys."""
    return KeySet(
        issuer=message.issuer, jwks=message.jwks, checkpoint_key=message.checkpoint_key, digest=message.digest
    )


def encode_checkpoint(checkpoint: SignedCheckpoint) -> v1.SignedCheckpoint:
    """Return the message of a checkpoint."""
    return v1.SignedCheckpoint(note=checkpoint.note, size=checkpoint.size)


def decode_checkpoint(message: v1.SignedCheckpoint) -> SignedCheckpoint:
    """Return a checkpoint."""
    return SignedCheckpoint(note=message.note, size=message.size)


def _encode_page(page: Page) -> v1.Page:
    return v1.Page(
        start=page.start,
        stop=page.stop,
        cursor=page.cursor,
        read_at_us=to_microseconds(page.read_at),
        size=page.size,
        valid_until_us=to_microseconds(page.valid_until),
    )


def _decode_page(message: v1.Page) -> Page:
    return Page(
        start=message.start,
        stop=message.stop,
        cursor=message.cursor,
        read_at=from_microseconds(message.read_at_us),
        size=message.size,
        valid_until=from_microseconds(message.valid_until_us),
    )


def encode_revocation_page(page: RevocationPage) -> v1.RevocationPage:
    """Return the message of a page of revocations."""
    snapshot = page.snapshot
    return v1.RevocationPage(
        page=_encode_page(page.page),
        snapshot=snapshot
        and v1.Snapshot(status_indexes=snapshot.status_indexes, credential_ids=snapshot.credential_ids),
        revoked=[
            v1.Revoked(
                position=each.position,
                at_us=to_microseconds(each.at),
                rule=each.rule,
                status_indexes=each.status_indexes,
                credential_ids=each.credential_ids,
            )
            for each in page.revoked
        ],
        key_set=page.key_set and encode_key_set(page.key_set),
    )


def decode_revocation_page(message: v1.RevocationPage) -> RevocationPage:
    """Return a page of revocations."""
    snapshot = None
    if message.HasField("snapshot"):
        held = message.snapshot
        snapshot = Snapshot(status_indexes=held.status_indexes, credential_ids=tuple(held.credential_ids))
    return RevocationPage(
        page=_decode_page(message.page),
        snapshot=snapshot,
        revoked=tuple(_decode_revoked(each) for each in message.revoked),
        key_set=decode_key_set(message.key_set) if message.HasField("key_set") else None,
    )


def _decode_revoked(message: v1.Revoked) -> Revoked:
    return Revoked(
        position=message.position,
        at=from_microseconds(message.at_us),
        rule=message.rule,
        status_indexes=tuple(message.status_indexes),
        credential_ids=tuple(message.credential_ids),
    )


def encode_audit_page(page: AuditPage) -> v1.AuditPage:
    """Return the message of a page of the audit log."""
    return v1.AuditPage(page=_encode_page(page.page), events=[_encode_event(event) for event in page.events])


def _encode_event(event: AuditEvent) -> v1.AuditEvent:
    openings = [v1.Opening(field=each.field, value=each.value, salt=each.salt) for each in event.openings]
    return v1.AuditEvent(position=event.position, content=event.content, openings=openings)


def decode_audit_page(message: v1.AuditPage) -> AuditPage:
    """Return a page of the audit log."""
    return AuditPage(page=_decode_page(message.page), events=tuple(_decode_event(each) for each in message.events))


def _decode_event(message: v1.AuditEvent) -> AuditEvent:
    openings = tuple(Opening(field=each.field, value=each.value, salt=each.salt) for each in message.openings)
    return AuditEvent(position=message.position, content=message.content, openings=openings)


def encode_change(change: Change) -> v1.Change:
    """Return the message of a change."""
    return v1.Change(size=change.size, epoch=change.epoch)


def decode_change(message: v1.Change) -> Change:
    """Return a change."""
    return Change(size=message.size, epoch=message.epoch)


def encode_state(state: State) -> v1.State:
    """Return the message of what the issuer stands on."""
    return v1.State(
        size=state.size,
        policy_digest=state.policy_digest,
        policy_problem=state.policy_problem,
        spiffe_id=state.spiffe_id,
    )


def decode_state(message: v1.State) -> State:
    """Return what the issuer stands on."""
    return State(
        size=message.size,
        policy_digest=message.policy_digest,
        policy_problem=message.policy_problem,
        spiffe_id=message.spiffe_id,
    )
