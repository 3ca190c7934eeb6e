"""Event: one audit entry. A closed set of types; fields are only ever added.

Events carry plain values, so that they outlive the code that made them. How one becomes bytes, and what stays out of
them, is in `entry`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypeAlias

from broker.audit.approval_events import ApprovalEvent
from broker.audit.entry import Caller, Decided, Entry, Opening, Salt, flatten, seal_members, timestamp
from broker.audit.exchange_events import CredentialGranted, CredentialReissued, ExchangeRefused
from broker.audit.outcome_events import OutcomeReported, ReportsDropped, UsageAccepted, UsageRefused
from broker.audit.override_event import OverrideImposed, OverrideLifted
from broker.audit.redemption_event import CredentialRedeemed
from broker.audit.task_events import (
    TaskBegun,
    TaskDrifted,
    TaskEnded,
    TaskEscalated,
    TaskJudged,
    TaskNarrowed,
    TaskResumed,
)

__all__ = [
    "BrokerStarted",
    "Caller",
    "CredentialGranted",
    "CredentialRedeemed",
    "CredentialReissued",
    "Decided",
    "Entry",
    "Event",
    "ExchangeRefused",
    "KeyChanged",
    "KeysRotated",
    "Opening",
    "OutcomeReported",
    "OverrideImposed",
    "OverrideLifted",
    "PolicyActivated",
    "PolicyRejected",
    "RefusalsSuppressed",
    "ReportsDropped",
    "RequestRefused",
    "RevocationLifted",
    "RevocationMade",
    "Salt",
    "StreamOpened",
    "TaskBegun",
    "TaskDrifted",
    "TaskEnded",
    "TaskEscalated",
    "TaskJudged",
    "TaskNarrowed",
    "TaskResumed",
    "UsageAccepted",
    "UsageRefused",
    "seal",
    "timestamp",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused:
    """Any other request was refused, or a caller could not be authenticated. `tenant` is the caller's, if it is one.

    A refused redemption of a credential that is the caller's to redeem names it, with its tenant, task and agent.
    """

    TYPE: ClassVar = "request.refused"
    at: datetime
    caller: Caller
    operation: str
    reason: str
    detail: str
    decided: Decided | None = None
    tenant: str = ""
    task: str = ""
    credential: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalsSuppressed:
    """More refusals for one reason from one source, for one tenant, than the log takes; counted instead."""

    TYPE: ClassVar = "refusals.suppressed"
    at: datetime
    source: str
    reason: str
    count: int
    tenant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationMade:
    """A rule came into force, and ended the credentials that its transaction expanded it to.

    `revoked` counts them; `status_indexes` names them, as inclusive ranges by audience. `approvals` were withdrawn.
    """

    TYPE: ClassVar = "revocation.made"
    at: datetime
    caller: Caller
    decided: Decided
    revocation: str
    rule: str
    name: str
    tenant: str
    text: str
    revoked: int
    status_indexes: Mapping[str, tuple[tuple[int, int], ...]]
    approvals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationLifted:
    """A rule no longer blocks new grants."""

    TYPE: ClassVar = "revocation.lifted"
    at: datetime
    caller: Caller
    decided: Decided
    revocation: str
    tenant: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyActivated:
    """A policy bundle became the one that decides."""

    TYPE: ClassVar = "policy.activated"
    at: datetime
    bundle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRejected:
    """A new bundle on disk did not load; the active one stays."""

    TYPE: ClassVar = "policy.rejected"
    at: datetime
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChanged:
    """A key changed its state: "next", "current", "retired" or "removed". `use` is "token" or "checkpoint".

    A checkpoint key is introduced here: `key` is its verifier key, and `note` the signed note by which the key that
    signs checkpoints at that moment vouches for it (docs/formats/log.md).
    """

    TYPE: ClassVar = "key.changed"
    at: datetime
    use: str
    kid: str
    state: str
    key: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysRotated:
    """An operator changed the keys: the `key.changed` that follow at once, in the same transaction, are what changed.

    `cause` is "asked" or "emergency", `kid` the key that signs from now on, `replaced` the one that does not any more.
    """

    TYPE: ClassVar = "keys.rotated"
    at: datetime
    caller: Caller
    decided: Decided
    use: str
    cause: str
    kid: str
    replaced: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOpened:
    """A reader began to follow a stream."""

    TYPE: ClassVar = "stream.opened"
    at: datetime
    caller: Caller
    decided: Decided
    stream: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStarted:
    """The issuer opened this log."""

    TYPE: ClassVar = "broker.started"
    at: datetime
    spiffe_id: str
    version: str


Event: TypeAlias = (
    CredentialGranted
    | CredentialReissued
    | ExchangeRefused
    | RequestRefused
    | RefusalsSuppressed
    | TaskBegun
    | TaskNarrowed
    | TaskJudged
    | TaskEnded
    | RevocationMade
    | RevocationLifted
    | PolicyActivated
    | PolicyRejected
    | KeyChanged
    | KeysRotated
    | StreamOpened
    | BrokerStarted
    | OverrideImposed
    | OverrideLifted
    | CredentialRedeemed
    | UsageAccepted
    | UsageRefused
    | OutcomeReported
    | ReportsDropped
    | TaskDrifted
    | TaskEscalated
    | TaskResumed
    | ApprovalEvent
)


def seal(event: Event, salt: Salt) -> Entry:
    """Return the event's exact bytes and the openings of its personal values.

    Args:
        event: the event.
        salt: gives 32 fresh random bytes at each call.

    """
    return seal_members(event.TYPE, flatten(event), salt)
