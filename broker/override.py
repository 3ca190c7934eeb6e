"""Override: people stop an agent, a tenant, a kind of action or everything, whatever policy says."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class StopKind(Enum):
    """What an override stops; the value is what people, events and streams call it."""

    AGENT = "agent"
    TENANT = "tenant"
    CLASS = "class"
    ACTION = "action"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What is stopped.

    Attributes:
        kind: what the name is.
        name: SPIFFE ID of an agent, name of a tenant, of a class or of an action; empty for everything.
        tenant: of a class or an action: within this tenant only; empty for every tenant. Else empty.

    """

    kind: StopKind
    name: str = ""
    tenant: str = ""

    @property
    def within(self) -> str:
        """The one tenant that it cannot reach beyond, as far as its own words say; empty when it may."""
        return self.name if self.kind is StopKind.TENANT else self.tenant

    def covers(self, *, agent: str, tenant: str, action: str = "", action_class: str = "") -> bool:
        """Whether somebody, or what somebody wants to do, is stopped.

        Args:
            agent: SPIFFE ID.
            tenant: empty when none is settled yet.
            action: empty when it is about no action.
            action_class: empty when nobody knows it: then every class that is stopped covers it.

        """
        match self.kind:
            case StopKind.AGENT:
                return self.name == agent
            case StopKind.TENANT:
                return self.name == tenant
            case StopKind.CLASS:
                return bool(action) and self.tenant in ("", tenant) and action_class in ("", self.name)
            case StopKind.ACTION:
                return self.tenant in ("", tenant) and self.name == action
            case StopKind.EVERYTHING:
                return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A stop in force from `at` until another person lifts it.

    Attributes:
        id: ovr_ and a UUIDv7.
        stop: what it stops.
        at: UTC.
        by: SPIFFE ID of who imposed it, and so may not lift it.
        text: why, in the words of who imposed it.

    """

    id: str
    stop: Stop
    at: datetime
    by: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopper:
    """Somebody whom the last good bundle let stop things, for when no bundle is active.

    Attributes:
        spiffe_id: who.
        tenant: that may be stopped; empty for everything.

    """

    spiffe_id: str
    tenant: str = ""
