"""Answers ⇄ messages of the port. The issuer encodes, the door decodes."""

from broker.audit.event import Opening
from broker.issuer.convert import (
    from_microseconds,
    to_microseconds,
)
from broker.issuer.port import (
    AuditEvent,
    AuditPage,
    Change,
    Ended,
    KeySet,
    Page,
    RevocationPage,
    Revoked,
    SignedCheckpoint,
    Snapshot,
    State,
)
from broker.issuer.v1 import port_pb2 as v1


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


def encode_page(page: Page) -> v1.Page:
    """Return the message of what every page says."""
    return v1.Page(
        start=page.start,
        stop=page.stop,
        cursor=page.cursor,
        read_at_us=to_microseconds(page.read_at),
        size=page.size,
        valid_until_us=to_microseconds(page.valid_until),
    )


def decode_page(message: v1.Page) -> Page:
    """Return what every page says."""
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
        page=encode_page(page.page),
        snapshot=None if snapshot is None else _encode_snapshot(snapshot),
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
        key_set=None if page.key_set is None else encode_key_set(page.key_set),
    )


def _encode_snapshot(snapshot: Snapshot) -> v1.Snapshot:
    return v1.Snapshot(status_indexes=snapshot.status_indexes, credential_ids=snapshot.credential_ids)


def decode_revocation_page(message: v1.RevocationPage) -> RevocationPage:
    """Return a page of revocations."""
    snapshot = None
    if message.HasField("snapshot"):
        held = message.snapshot
        snapshot = Snapshot(status_indexes=held.status_indexes, credential_ids=tuple(held.credential_ids))
    return RevocationPage(
        page=decode_page(message.page),
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
    return v1.AuditPage(page=encode_page(page.page), events=[_encode_event(event) for event in page.events])


def _encode_event(event: AuditEvent) -> v1.AuditEvent:
    openings = [v1.Opening(field=each.field, value=each.value, salt=each.salt) for each in event.openings]
    return v1.AuditEvent(position=event.position, content=event.content, openings=openings)


def decode_audit_page(message: v1.AuditPage) -> AuditPage:
    """Return a page of the audit log."""
    return AuditPage(page=decode_page(message.page), events=tuple(_decode_event(each) for each in message.events))


def _decode_event(message: v1.AuditEvent) -> AuditEvent:
    openings = tuple(Opening(field=each.field, value=each.value, salt=each.salt) for each in message.openings)
    return AuditEvent(position=message.position, content=message.content, openings=openings)


def encode_change(change: Change) -> v1.Change:
    """Return the message of a change."""
    return v1.Change(size=change.size, epoch=change.epoch, endings=change.endings, approvals=change.approvals)


def decode_change(message: v1.Change) -> Change:
    """Return a change."""
    return Change(size=message.size, epoch=message.epoch, endings=message.endings, approvals=message.approvals)


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
