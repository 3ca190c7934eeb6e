"""Claims: what a token says, as a closed list (docs/formats/credential.md).

RFC 9068 access token, bound to the caller's leaf (RFC 8705 section 3.1), with what it covers in one RFC 9396 detail and
its place in the audience's status list (`status.status_list`). A claim that is unknown, missing or of another type than
written here is refused: an older validator never passes over something that was meant to restrict.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from typing import Any, Final, Literal, cast

from broker.credential.grant import Grant
from broker.credential.strict import require_plain
from broker.errors import Reason, Refusal
from broker.intent import Json, Resource, require_name
from broker.scope import Constraint, Scope, constraint_from_json

DETAIL_TYPE: Final = "broker.v1.intent"
MAX_STATUS_INDEX: Final = 2**32 - 1

REQUIRED: Final = frozenset(
    {"iss", "sub", "client_id", "aud", "iat", "nbf", "exp", "jti", "tenant", "txn"}
    | {"authorization_details", "intent", "use", "cnf", "status"}
)
OPTIONAL: Final = frozenset({"task"})
# Reserved for delegation. Until a validator understands them, a token that has them is refused like any unknown claim.
RESERVED: Final = frozenset({"act", "may_act"})
_CLOSED: Final = (REQUIRED, REQUIRED | OPTIONAL)
_CONFIRMATION: Final = frozenset({"x5t#S256"})
_STATUS: Final = frozenset({"status_list"})
_STATUS_LIST: Final = frozenset({"idx", "uri"})
_ONE: Final = frozenset({"type", "actions", "locations", "datatypes", "parameters", "identifier"})
_SET: Final = frozenset({"type", "actions", "locations", "datatypes", "parameters", "set"})

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND: Final = 253402300799  # 9999-12-31T23:59:59Z, the last that a datetime can say
_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SPIFFE_ID: Final = r"(?=[!-~]{1,2048}(?:\n|\Z))spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:[/\n]|\Z))[A-Za-z0-9._-]+)+"
# Every claim that is text, with its form. No form admits a line end: they are matched together, a line each.
_TEXTS: Final = {
    "iss": "[!-~]{1,1024}",
    "sub": _SPIFFE_ID,
    "client_id": _SPIFFE_ID,
    "aud": _SPIFFE_ID,
    "jti": "cred_" + _UUID,
    "tenant": "[a-z0-9][a-z0-9._/-]{0,127}",
    "txn": "txn_" + _UUID,
    "intent": "sha-256:[A-Za-z0-9_-]{43}",
    "use": "many|once",
}
_TOGETHER: Final = re.compile("\n".join(f"(?:{form})" for form in _TEXTS.values()))
_read_texts: Final = itemgetter(*_TEXTS)
_TASK: Final = re.compile("task_" + _UUID)
_THUMBPRINT: Final = re.compile("[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """What a token that was verified says; a Grant without what only the broker knows.

    Attributes:
        issuer: `iss`.
        agent: `sub` and `client_id`, which are the same until persons are authenticated.
        credential_id: `jti`.
        tenant: the tenant it is pinned to.
        task: id of its task, or empty.
        transaction_id: `txn`.
        scope: what it covers; holds parameters, so it is not shown.
        intent_digest: of the intent that was decided; could be guessed back, so it is not shown.
        thumbprint: `cnf.x5t#S256`, the leaf it is bound to.
        status_index: its index in the list of its audience.
        issued_at: UTC.
        not_before: UTC.
        expires_at: UTC; from this instant on it is over.
        use: how often it may be used.
        redemption: of one that was spent on this call: the position of that event in the audit log.

    """

    issuer: str
    agent: str
    credential_id: str
    tenant: str
    task: str
    transaction_id: str
    scope: Scope = field(repr=False)
    intent_digest: str = field(repr=False)
    thumbprint: str
    status_index: int
    issued_at: datetime
    not_before: datetime
    expires_at: datetime
    use: Literal["many", "once"]
    redemption: int | None = None


@lru_cache(maxsize=64)
def status_uri(issuer: str, audience: str) -> str:
    """Return the name of an audience's status list: issuer, "/status/", unpadded base64url of SHA-256(audience)."""
    return f"{issuer}/status/{_base64url(sha256(audience.encode()).digest())}"


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def authorization_details(scope: Scope) -> list[Json]:
    """Return RFC 9396 details of a scope: one object, actions in order."""
    resource = scope.resource
    detail: dict[str, Json] = {
        "type": DETAIL_TYPE,
        "actions": sorted(scope.actions),
        "locations": [scope.audience],
        "datatypes": [resource.type],
        "parameters": {name: constraint.to_json() for name, constraint in scope.constraints.items()},
    }
    return [detail | ({"identifier": resource.id} if resource.id else {"set": resource.set})]


def to_claims(grant: Grant, issuer: str) -> dict[str, Json]:
    """Return the claims of a grant's token."""
    audience = grant.scope.audience
    claims: dict[str, Json] = {
        "iss": issuer,
        "sub": grant.agent,
        "client_id": grant.agent,
        "aud": audience,
        "iat": _seconds(grant.issued_at),
        "nbf": _seconds(grant.issued_at),
        "exp": _seconds(grant.expires_at),
        "jti": grant.credential_id,
        "tenant": grant.tenant,
        "txn": grant.transaction_id,
        "authorization_details": authorization_details(grant.scope),
        "intent": grant.intent_digest,
        "use": grant.use,
        "cnf": {"x5t#S256": grant.thumbprint},
        "status": {"status_list": {"idx": grant.status_index, "uri": status_uri(issuer, audience)}},
    }
    return claims | {"task": grant.task} if grant.task else claims


def _seconds(when: datetime) -> int:
    return (when - _EPOCH) // timedelta(seconds=1)


# --- reading -------------------------------------------------------------------------------------------------------


def from_claims(claims: Mapping[str, object]) -> VerifiedToken:
    """Read the claims of a token; for whom it is and whether it is still valid, the caller compares.

    Args:
        claims: as `strict.parse_object` gives them.

    Raises:
        Refusal: TOKEN_CLAIMS_REFUSED with the name of the claim.

    """
    if claims.keys() not in _CLOSED:
        raise _refused(", ".join(sorted(REQUIRED - claims.keys())) or "an unknown claim")
    issuer, agent, client, audience, credential, tenant, transaction, digest, use = _texts(claims)
    if client != agent:
        raise _refused("client_id")
    issued, start, end = _time(claims, "iat"), _time(claims, "nbf"), _time(claims, "exp")
    if issued >= end or start >= end:
        raise _refused("exp")
    return VerifiedToken(
        issuer=issuer,
        agent=agent,
        credential_id=credential,
        tenant=tenant,
        task=_text(claims, "task", _TASK) if "task" in claims else "",
        transaction_id=transaction,
        scope=_scope(claims["authorization_details"], audience),
        intent_digest=digest,
        thumbprint=_text(_only(claims, "cnf", _CONFIRMATION), "x5t#S256", _THUMBPRINT),
        status_index=_status_index(claims, status_uri(issuer, audience)),
        issued_at=issued,
        not_before=start,
        expires_at=end,
        use="once" if use == "once" else "many",
    )


def _refused(claim: str) -> Refusal:
    return Refusal(Reason.TOKEN_CLAIMS_REFUSED, claim)


def _texts(claims: Mapping[str, object]) -> tuple[str, ...]:
    """Return the claims of _TEXTS, all of the right form."""
    texts = _read_texts(claims)
    try:
        if _TOGETHER.fullmatch("\n".join(texts)):
            return cast(tuple[str, ...], texts)
    except TypeError:  # one that is not text
        pass
    for name, form in _TEXTS.items():
        _text(claims, name, re.compile(form))
    raise _refused("text")


def _text(claims: Mapping[str, object], name: str, form: re.Pattern[str]) -> str:
    value = claims[name]
    if type(value) is not str or not form.fullmatch(value):
        raise _refused(name)
    return value


def _time(claims: Mapping[str, object], name: str) -> datetime:
    value = claims[name]
    if type(value) is not int or not 0 <= value <= _LAST_SECOND:
        raise _refused(name)
    return _EPOCH + timedelta(seconds=value)


def _only(claims: Mapping[str, object], name: str, members: frozenset[str]) -> Mapping[str, object]:
    """Return an object claim that has exactly these members."""
    value = claims[name]
    if not isinstance(value, dict) or value.keys() != members:
        raise _refused(name)
    return value


def _status_index(claims: Mapping[str, object], uri: str) -> int:
    entry = _only(_only(claims, "status", _STATUS), "status_list", _STATUS_LIST)
    index = entry["idx"]
    if type(index) is not int or not 0 <= index <= MAX_STATUS_INDEX or entry["uri"] != uri:
        raise _refused("status")
    return index


def _scope(details: object, audience: str) -> Scope:
    """Read the one detail; whatever is wrong in it, the claim is refused."""
    try:
        return _read_detail(details, audience)
    except (Refusal, ValueError, TypeError) as problem:  # TypeError: a member of another type
        raise _refused("authorization_details") from problem


def _read_detail(details: object, audience: str) -> Scope:
    if not isinstance(details, list) or len(details) != 1 or not isinstance(details[0], dict):
        raise ValueError("one object")
    detail = cast(dict[str, Any], details[0])
    if detail.keys() not in (_ONE, _SET):
        raise ValueError("members")
    which = "identifier" if "identifier" in detail else "set"
    actions, kinds, name = detail["actions"], detail["datatypes"], detail[which]
    if detail["type"] != DETAIL_TYPE or detail["locations"] != [audience] or type(name) is not str:
        raise ValueError("type, locations or resource")
    if not actions or sorted(set(actions)) != actions or type(kinds) is not list or len(kinds) != 1:
        raise ValueError("actions or datatypes")
    resource = Resource(type=kinds[0], id=name) if which == "identifier" else Resource(type=kinds[0], set=name)
    return Scope(
        actions=frozenset([require_name(action, "actions") for action in actions]),
        resource=resource,
        constraints=_constraints(detail["parameters"]),
        audience=audience,
    )


def _constraints(value: object) -> dict[str, Constraint]:
    if not isinstance(value, dict):
        raise ValueError("parameters")  # noqa: TRY004 - bad input, not a misuse
    require_plain(value)
    return {name: constraint_from_json(constraint) for name, constraint in value.items()}
