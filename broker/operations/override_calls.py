"""Calls and answers about overrides: what operators ask and are told, in nouns."""

from dataclasses import dataclass

from broker.operations.calls import Context
from broker.override import Override, Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class ImposeCall:
    """Something to stop, and why."""

    context: Context
    stop: Stop
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftOverrideCall:
    """An override to lift, and why."""

    context: Context
    override: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overridden:
    """What imposing or lifting did: its event's position, the override's id, how many live credentials ended."""

    position: int
    override: str
    revoked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideList:
    """The overrides in force that concern the caller's tenants, the oldest first."""

    overrides: tuple[Override, ...]
