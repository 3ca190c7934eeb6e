"""Outcome: what a service says of the credentials that are for it: accepted (a use) or not, and what came of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, unique
from types import MappingProxyType
from typing import Final

from broker.errors import Reason, Refusal
from broker.intent import canonical_json, digest, is_opaque_id
from broker.svid.spiffe_id import SpiffeId

_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DIGEST: Final = re.compile(r"(?:sha-256:[A-Za-z0-9_-]{43})?")
_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@unique
class ReportKind(Enum):
    """What a report says. The value is what the store, the log and people call it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    DONE = "done"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    UNKNOWN = "unknown"
    DROPPED = "dropped"

    @property
    def is_outcome(self) -> bool:
        """Whether it says what came of a use."""
        return self in _OUTCOMES


_OUTCOMES: Final = frozenset({ReportKind.DONE, ReportKind.FAILED, ReportKind.ROLLED_BACK, ReportKind.UNKNOWN})
# What may follow an outcome of one use: what was done may be undone, and what was unknown may become known.
_FOLLOWS: Final[Mapping[ReportKind, frozenset[ReportKind]]] = MappingProxyType(
    {
        ReportKind.DONE: frozenset({ReportKind.ROLLED_BACK}),
        ReportKind.UNKNOWN: frozenset({ReportKind.DONE, ReportKind.FAILED, ReportKind.ROLLED_BACK}),
    }
)


def may_follow(kind: ReportKind, before: ReportKind) -> bool:
    """Whether an outcome may be said of a use of which another was said last."""
    return kind in _FOLLOWS.get(before, ())


def _is_spiffe_id(text: str) -> bool:
    try:
        SpiffeId.parse(text)
    except Refusal:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Something that happened at a service, in its own words.

    Attributes:
        id: the service's own, a UUID; counted once.
        kind: what it says.
        at: UTC, by the service's clock.
        credential: its id; empty only when reports are lost.
        use: of an outcome: the id of the report that said the credential was accepted.
        call_digest: of the call, or empty; personal.
        reason: of a refusal: the validator's stable reason.
        presented_by: of a refusal: SPIFFE ID of who presented the credential, or empty.
        reference: of an outcome: the service's own name for it, opaque; personal.
        rolled_back_by: of what was rolled back: by whom, opaque; personal.
        count: how many reports are lost.

    """

    id: str
    kind: ReportKind
    at: datetime
    credential: str = ""
    use: str = ""
    call_digest: str = field(default="", repr=False)
    reason: str = ""
    presented_by: str = ""
    reference: str = field(default="", repr=False)
    rolled_back_by: str = field(default="", repr=False)
    count: int = 0

    def __post_init__(self) -> None:
        """Refuse what says nothing, or more than its kind has.

        Raises:
            Refusal: REQUEST_INVALID, with the member's name.

        """
        kind = self.kind
        wrong = {
            "report_id": not _ID.fullmatch(self.id),
            "credential_id": bool(self.credential) == (kind is ReportKind.DROPPED),
            "use_id": not _ID.fullmatch(self.use) if kind.is_outcome else bool(self.use),
            "call_digest": not _DIGEST.fullmatch(self.call_digest),
            "refused.reason": not _REASON.fullmatch(self.reason)
            if kind is ReportKind.REFUSED
            else bool(self.reason or self.presented_by),
            "refused.presented_by": bool(self.presented_by) and not _is_spiffe_id(self.presented_by),
            "outcome.reference": not is_opaque_id(self.reference) or bool(self.reference and not kind.is_outcome),
            "outcome.rolled_back_by": not is_opaque_id(self.rolled_back_by)
            or bool(self.rolled_back_by and kind is not ReportKind.ROLLED_BACK),
            "dropped.count": (self.count > 0) != (kind is ReportKind.DROPPED),
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise Refusal(Reason.REQUEST_INVALID, name)

    def digest(self) -> str:
        """Return a digest of all that it says, by which a report that is sent again is told from another one."""
        members = {
            "kind": self.kind.value,
            "at": self.at.isoformat(timespec="microseconds"),
            "credential": self.credential,
            "use": self.use,
            "call_digest": self.call_digest,
            "reason": self.reason,
            "presented_by": self.presented_by,
            "reference": self.reference,
            "rolled_back_by": self.rolled_back_by,
            "count": self.count,
        }
        return digest(canonical_json(members))
