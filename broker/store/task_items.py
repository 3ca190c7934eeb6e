"""What is written of a task that goes on."""

from dataclasses import dataclass
from datetime import datetime

from broker.boundary import Boundary
from broker.credential.grant import Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class HearTask:
    """Put off when a task's silence would end it."""

    task: str
    silent_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrowTask:
    """Give a task another boundary, and count it; guard it with the revision that it was narrowed from."""

    task: str
    boundary: Boundary


@dataclass(frozen=True, slots=True, kw_only=True)
class EndCredentials:
    """Revoke these credentials, as far as they are live."""

    credentials: tuple[str, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldGrant:
    """A grant that counts, with what its scope does not say of its intent, a JSON object; and its approval, if any."""

    grant: Grant
    declared: str
    approval: str = ""
