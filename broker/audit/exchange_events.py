"""What comes of exchanges. The union of all events is in `event`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from broker.audit.entry import Caller, Decided
from broker.intent import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialGranted:
    """A credential was given; its token left the broker only after this was durable.

    `charged` names the limits that it counts under, each by its policy and per what it adds up.
    `approval` is the one that it was given on, `approved_by` whose yes counted; `bypass` the approval that let it pass
    without asking.
    """

    TYPE: ClassVar = "credential.granted"
    at: datetime
    caller: Caller
    intent: Mapping[str, Json]
    intent_digest: str
    decided: Decided
    tenant: str
    task: str
    transaction: str
    credential: str
    token_digest: str
    audience: str
    status_index: int
    expires_at: datetime
    charged: tuple[Mapping[str, Json], ...] = ()
    trail: Mapping[str, Json] = field(default_factory=dict)
    approval: str = ""
    approved_by: tuple[str, ...] = ()
    bypass: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialReissued:
    """A lost reply was asked again; the same credential was signed again."""

    TYPE: ClassVar = "credential.reissued"
    at: datetime
    caller: Caller
    intent_digest: str
    tenant: str
    task: str
    transaction: str
    credential: str
    token_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRefused:
    """An intent was refused. `intent` is empty when it could not be understood; `approval` is the one it waits for."""

    TYPE: ClassVar = "exchange.refused"
    at: datetime
    caller: Caller
    intent: Mapping[str, Json]
    intent_digest: str
    decided: Decided | None
    tenant: str
    task: str
    transaction: str
    reason: str
    detail: str
    trail: Mapping[str, Json] = field(default_factory=dict)
    approval: str = ""
