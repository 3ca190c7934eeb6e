"""The events of overrides."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from broker.audit.entry import Caller, Decided


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideImposed:
    """Somebody stopped something, and ended the credentials that the transaction expanded it to.

    `rule` is "agent", "tenant", "class", "action" or "everything"; `tenant` the one tenant that it is about, if it is
    about one. `decision` names no policy when no bundle was active. `revoked`, `status_indexes` and
    `approvals` as in `revocation.made`.
    """

    TYPE: ClassVar = "override.imposed"
    at: datetime
    caller: Caller
    decided: Decided
    override: str
    rule: str
    name: str
    tenant: str
    text: str
    revoked: int
    status_indexes: Mapping[str, tuple[tuple[int, int], ...]]
    approvals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideLifted:
    """A second person let it go on; `imposed_by` is the first."""

    TYPE: ClassVar = "override.lifted"
    at: datetime
    caller: Caller
    decided: Decided
    override: str
    tenant: str
    imposed_by: str
    text: str
