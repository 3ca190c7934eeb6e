"""What services report of the credentials that are for them. The union of all events is in `event`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from broker.audit.entry import Caller, Decided


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageAccepted:
    """A service says that it accepted a credential for a call, at `used_at` by its own clock. `use` names that use."""

    TYPE: ClassVar = "usage.accepted"
    at: datetime
    caller: Caller
    decided: Decided
    tenant: str
    task: str
    agent: str
    transaction: str
    credential: str
    use: str
    used_at: datetime
    call_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRefused:
    """A service says that it did not accept a credential, and why. `presented_by` is who showed it, verified."""

    TYPE: ClassVar = "usage.refused"
    at: datetime
    caller: Caller
    decided: Decided
    tenant: str
    task: str
    agent: str
    transaction: str
    credential: str
    report: str
    used_at: datetime
    reason: str
    presented_by: str = ""
    call_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeReported:
    """A service says what came of a use: `outcome` is "done", "failed", "rolled_back" or "unknown".

    When nothing came of any use of a credential, it ends: `revoked` counts it; `status_indexes` names it, as inclusive
    ranges by audience.
    """

    TYPE: ClassVar = "outcome.reported"
    at: datetime
    caller: Caller
    decided: Decided
    tenant: str
    task: str
    agent: str
    transaction: str
    credential: str
    use: str
    report: str
    used_at: datetime
    outcome: str
    reference: str = ""
    rolled_back_by: str = ""
    call_digest: str = ""
    revoked: int | None = None
    status_indexes: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportsDropped:
    """A service says that it could not keep so many reports: what they would have said stands nowhere."""

    TYPE: ClassVar = "reports.dropped"
    at: datetime
    caller: Caller
    decided: Decided
    report: str
    count: int
