"""Rows: our nouns as SQLite rows, and back."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from broker.credential.grant import Grant
from broker.credential.revocation import Revocation, Rule, RuleKind
from broker.intent import Json, Resource
from broker.scope import Scope, constraint_from_json
from broker.store.interface import RevokedCredential, StoredKey, StoredKeyRequest

Row: TypeAlias = tuple[Any, ...]

GRANT: Final = (
    "credential, agent, tenant, task, transaction_id, scope, intent_digest, thumbprint,"
    " status_index, policies, issued_at, expires_at, use"
)
REVOCATION: Final = "id, rule, tenant, at, by"
REVOKED: Final = "credential, agent, audience, status_index, expires_at"
KEY: Final = "kid, public_jwk, state, since, use, published, activated, until, endorsement"
KEY_REQUEST: Final = "caller, request_id, digest, answer, at"

# One encoder for all rows: `json.dumps` with arguments makes a new one each time.
to_json: Final = json.JSONEncoder(separators=(",", ":")).encode

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def from_time(at: datetime) -> int:
    """Return microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def to_time(microseconds: int) -> datetime:
    """Return the instant in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def from_time_or_none(at: datetime | None) -> int | None:
    """Return microseconds since 1970; None stays None."""
    return None if at is None else from_time(at)


def to_time_or_none(microseconds: int | None) -> datetime | None:
    """Return the instant in UTC; None stays None."""
    return None if microseconds is None else to_time(microseconds)


def from_rule(rule: Rule) -> str:
    """Return the rule's kind, a space, and its name: one column, one index."""
    return f"{rule.kind.value} {rule.name}"


def to_rule(text: str) -> Rule:
    """Return the rule; no kind has a space in it."""
    kind, _, name = text.partition(" ")
    return Rule(kind=RuleKind(kind), name=name)


def from_scope(scope: Scope) -> str:
    """Return the scope as JSON. Nothing is hashed over it, so the encoder is the quick one, not RFC 8785's."""
    members: dict[str, Json] = {
        "actions": sorted(scope.actions),
        "resource": scope.resource.canonical(),
        "constraints": {name: constraint.to_json() for name, constraint in scope.constraints.items()},
        "audience": scope.audience,
    }
    return to_json(members)


def to_scope(text: str) -> Scope:
    """Return the scope."""
    members = json.loads(text)
    return Scope(
        actions=frozenset(members["actions"]),
        resource=Resource(**members["resource"]),
        constraints={name: constraint_from_json(value) for name, value in members["constraints"].items()},
        audience=members["audience"],
    )


def to_grant(row: Row) -> Grant:
    """Return the grant of a row with the columns `GRANT`."""
    credential, agent, tenant, task, transaction, scope, digest, thumbprint, index, policies, issued, expires, use = row
    return Grant(
        credential_id=credential,
        agent=agent,
        tenant=tenant,
        task=task,
        transaction_id=transaction,
        scope=to_scope(scope),
        intent_digest=digest,
        thumbprint=thumbprint,
        status_index=index,
        policy_ids=tuple(json.loads(policies)),
        issued_at=to_time(issued),
        expires_at=to_time(expires),
        use=use,
    )


def to_revocation(row: Row) -> Revocation:
    """Return the revocation of a row with the columns `REVOCATION`."""
    identity, rule, tenant, at, by = row
    return Revocation(id=identity, rule=to_rule(rule), tenant=tenant, at=to_time(at), by=by)


def to_revoked(row: Row) -> RevokedCredential:
    """Return the revoked credential of a row with the columns `REVOKED`."""
    credential, agent, audience, index, expires = row
    return RevokedCredential(
        credential_id=credential,
        agent=agent,
        audience=audience,
        status_index=index,
        expires_at=to_time(expires),
    )


def to_key(row: Row) -> StoredKey:
    """Return the key of a row with the columns `KEY`."""
    kid, public_jwk, state, since, use, published, activated, until, endorsement = row
    return StoredKey(
        kid=kid,
        public_jwk=public_jwk,
        state=state,
        since=to_time(since),
        use=use,
        published=to_time_or_none(published),
        activated=to_time_or_none(activated),
        until=to_time_or_none(until),
        endorsement=endorsement,
    )


def from_key(key: StoredKey) -> Row:
    """Return a key as a row with the columns `KEY`."""
    times = [from_time_or_none(at) for at in (key.published, key.activated, key.until)]
    return (key.kid, key.public_jwk, key.state, from_time(key.since), key.use, *times, key.endorsement)


def to_key_request(row: Row) -> tuple[int, StoredKeyRequest]:
    """Return position and request of a row: its position, then the columns `KEY_REQUEST`."""
    position, caller, request_id, digest, answer, at = row
    request = StoredKeyRequest(caller=caller, request_id=request_id, digest=digest, answer=answer, at=to_time(at))
    return position, request
