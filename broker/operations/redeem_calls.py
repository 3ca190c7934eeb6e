"""Calls and answers about redemptions: what services ask and are told, in nouns."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from broker.errors import Refusal
from broker.operations.calls import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class RedeemCall:
    """A credential to spend.

    Attributes:
        context: the service that it is for.
        credential: its id, cred_….
        call_digest: of the call that it is spent on (`intent.call_digest`).
        key: of this attempt at the call; the service's own.

    """

    context: Context
    credential: str
    call_digest: str = field(repr=False)
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeemed:
    """A credential was spent: the position of its event, and when."""

    position: int
    at: datetime


RedeemAnswer: TypeAlias = Redeemed | Refusal
