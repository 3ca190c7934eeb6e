"""Items of keys: what is written of them, and of requests to change them."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key of a ring, as far as the store knows it: never a private key.

    Attributes:
        kid: RFC 7638 thumbprint.
        public_jwk: RFC 7517 JSON as text.
        state: "next", "current", "retired" or "removed".
        since: when it took this state, UTC.
        use: "token" or "checkpoint".
        published: when it was first published.
        activated: when it began to sign.
        until: when it is removed, once it is retired.
        endorsement: the signed note that introduced it, of a checkpoint key.

    """

    kid: str
    public_jwk: str
    state: str
    since: datetime
    use: str = "token"
    published: datetime | None = None
    activated: datetime | None = None
    until: datetime | None = None
    endorsement: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKeyRequest:
    """A change of the keys that was asked for under a request id.

    Attributes:
        caller: SPIFFE ID of who asked.
        request_id: the caller's own id.
        digest: of what was asked.
        answer: what was answered, as JSON text.
        at: when, UTC.

    """

    caller: str
    request_id: str
    digest: str
    answer: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PutKey:
    """Set the state of a key in its ring. One that was removed stays removed, whatever is written later."""

    key: StoredKey


@dataclass(frozen=True, slots=True, kw_only=True)
class AddKeyRequest:
    """Remember a request to change the keys, and its answer, for a day."""

    request: StoredKeyRequest
