"""Items of redemptions: the guards under which a credential is spent, and what is remembered of it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NotOver:
    """The credential's grant is remembered, and it has not ended by itself at `now`.

    Refused with CREDENTIAL_UNKNOWN or TOKEN_EXPIRED.
    """

    credential_id: str
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unspent:
    """Nobody has redeemed the credential. Refused with CREDENTIAL_SPENT."""

    credential_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRedemption:
    """Remember that a credential was spent, for as long as its grant; guard it with Unspent.

    Attributes:
        credential_id: cred_….
        key: the service's own, of the attempt that it was spent on.
        call_digest: of the call that it was spent on.
        at: when, UTC.

    """

    credential_id: str
    key: str
    call_digest: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRedemption:
    """A credential that was spent: on which attempt at which call, where that is recorded, and when."""

    key: str
    call_digest: str
    position: int
    at: datetime
