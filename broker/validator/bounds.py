"""Bounds: how old the view of revocations may be, by what a call may do."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, unique
from typing import Any, TypeAlias

from broker.validator.call import Call

Mapper: TypeAlias = Callable[[Any], Call | Awaitable[Call]]
"""From a request to what it touches. Runs once the caller and its credential are proven; may look the tenant up."""


@unique
class Impact(Enum):
    """What a call may do, at most."""

    READ = "reads"
    WRITE = "writes"
    HIGH = "high-impact calls"


Within: TypeAlias = Impact | timedelta
"""A class of calls, whose bound the service has set, or one call's own bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How old a view may be to judge a call of each class; the service's choice.

    The broker says every 2 s (its default) that all is known, so that a healthy view is at most that old, and a bound
    below its heartbeat refuses now and then for nothing. The defaults: a read may miss four heartbeats, a write one, a
    call of high impact none.

    Attributes:
        read: for reads.
        write: for writes, and for whatever the mapping does not say.
        high: for calls of high impact.

    """

    read: timedelta = timedelta(seconds=10)
    write: timedelta = timedelta(seconds=4)
    high: timedelta = timedelta(seconds=2.5)

    def __post_init__(self) -> None:
        """Refuse bounds that nothing could keep, or that are the wrong way round."""
        if not timedelta(0) < self.high <= self.write <= self.read:
            raise ValueError("bounds: 0 < high <= write <= read")

    @classmethod
    def same(cls, bound: timedelta) -> "Bounds":
        """Return one bound for every class."""
        return cls(read=bound, write=bound, high=bound)

    def of(self, within: Within) -> timedelta:
        """Return the bound of a class, or the one that is given."""
        match within:
            case timedelta():
                return within
            case Impact.READ:
                return self.read
            case Impact.WRITE:
                return self.write
            case Impact.HIGH:
                return self.high


def named(within: Within, bound: timedelta) -> str:
    """Say which bound it is, for whoever reads a VIEW_STALE."""
    whose = f"the bound for {within.value}" if isinstance(within, Impact) else "this call's own bound"
    return f"{whose}, {bound.total_seconds():g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A mapping, with how old the view may be to judge its calls.

    Attributes:
        mapper: from a request to what it touches.
        within: the class of its calls, or a bound of their own.

    """

    mapper: Mapper
    within: Within = Impact.WRITE

    def __post_init__(self) -> None:
        """Refuse a bound that nothing could keep."""
        if isinstance(self.within, timedelta) and self.within <= timedelta(0):
            raise ValueError("a bound is positive")


Entry: TypeAlias = Mapper | Mapped
"""What `calls` holds: a mapping alone counts as a write."""


def reads(mapper: Mapper) -> Mapped:
    """Map calls that only read."""
    return Mapped(mapper=mapper, within=Impact.READ)


def writes(mapper: Mapper) -> Mapped:
    """Map calls that change something."""
    return Mapped(mapper=mapper, within=Impact.WRITE)


def high_impact(mapper: Mapper) -> Mapped:
    """Map calls that must not be judged on a view that has missed a heartbeat."""
    return Mapped(mapper=mapper, within=Impact.HIGH)


def mapped(given: Entry) -> Mapped:
    """Return a mapping with its bound; one that says nothing is a write."""
    return given if isinstance(given, Mapped) else Mapped(mapper=given)
