"""Ring: the keys of one use, and how they follow one another (next, current, retired).

A next key is published before it signs, for longer than a validator may lag behind, so that no validator meets a
signature before the key. A retired key stays published until the last token that it signed has expired. A checkpoint
key stays for good: what it signed stays true.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeAlias

from broker.credential.keys import MAX_KEYS
from broker.errors import Reason, Refusal


class KeyUse(Enum):
    """What a key signs; the values are what the store and events hold. Each use has a ring of its own."""

    TOKENS = "token"
    CHECKPOINTS = "checkpoint"


class KeyState(Enum):
    """Where a key stands in its life; the values are what the store holds."""

    NEXT = "next"
    CURRENT = "current"
    RETIRED = "retired"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RingKey:
    """A key of the ring, never its private half.

    Attributes:
        kid: RFC 7638 thumbprint.
        public_jwk: RFC 7517 JSON as text.
        state: where it stands.
        since: when it took this state, UTC.
        published: when it was first published; None when that is not known any more.
        activated: when it began to sign; None before, and when that is not known any more.
        until: of a retired key, when it is removed: what it signed is over by then. None: not by itself.
        endorsement: for a checkpoint key, the signed note by which the key before it introduced it.

    """

    kid: str
    public_jwk: str
    state: KeyState
    since: datetime
    published: datetime | None = None
    activated: datetime | None = None
    until: datetime | None = None
    endorsement: str = ""

    def becoming(self, state: KeyState, now: datetime, until: datetime | None = None) -> "RingKey":
        """Return the key as it is from now on."""
        activated = now if state is KeyState.CURRENT else self.activated
        return replace(self, state=state, since=now, activated=activated, until=until)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """How keys follow one another.

    Attributes:
        period: how long a key signs.
        lead: how long a next key is published before it signs; at least validators' staleness bound.

    """

    period: timedelta
    lead: timedelta

    def __post_init__(self) -> None:
        """Refuse a plan that could never be kept."""
        if not timedelta(0) < self.lead <= self.period:
            raise ValueError("keys: lead must be positive and not above period")


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """Make a new key pair and put its public half into the ring in this state."""

    state: KeyState


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Put a key of the ring into another state; `key` is as it will be."""

    key: RingKey


Change: TypeAlias = Make | Move


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The keys of one use that are not removed; at most one signs, at most one is next."""

    keys: tuple[RingKey, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a ring in which it is not clear which key signs."""
        states = [key.state for key in self.keys]
        if len({key.kid for key in self.keys}) != len(self.keys) or KeyState.REMOVED in states:
            raise ValueError("keys: a key stands twice, or was removed")
        if states.count(KeyState.CURRENT) > 1 or states.count(KeyState.NEXT) > 1:
            raise ValueError("keys: two current keys, or two next ones")

    def find(self, state: KeyState) -> RingKey | None:
        """Return the key in this state (any of them, when several are retired)."""
        return next((key for key in self.keys if key.state is state), None)

    def signing(self) -> RingKey:
        """Return the key that signs now.

        Raises:
            Refusal: SIGNING_UNAVAILABLE when there is none.

        """
        current = self.find(KeyState.CURRENT)
        if current is None:
            raise Refusal(Reason.SIGNING_UNAVAILABLE, "no current key")
        return current

    def jwks(self) -> str:
        """Return the public keys as RFC 7517 JWK Set text, in an order that does not depend on their state."""
        keys = (key.public_jwk for key in sorted(self.keys, key=lambda key: key.kid))
        return '{"keys":[' + ",".join(keys) + "]}"

    def with_key(self, key: RingKey) -> "KeyRing":
        """Return the ring with this key added, or in its new state, or gone when that is REMOVED."""
        others = tuple(other for other in self.keys if other.kid != key.kid)
        return KeyRing(keys=others if key.state is KeyState.REMOVED else (*others, key))


# --- what is to be done ---------------------------------------------------------------------------------------------


def plan(ring: KeyRing, now: datetime, settings: KeySettings, until: datetime | None) -> list[Change]:
    """Return what is due, in the order in which to do it; all of it belongs into one transaction.

    Without a current key the next one signs at once, published long enough or not: validators that lag refuse for a
    moment, which is better than a broker that cannot sign.

    Args:
        ring: as it is.
        now: UTC.
        settings: how keys follow one another.
        until: when all that was signed so far is over: how long a key that retires now stays. None: for good.

    """
    changes: list[Change] = []
    for key in ring.keys:
        if key.state is KeyState.RETIRED and key.until is not None and key.until <= now:
            changes.append(Move(key=key.becoming(KeyState.REMOVED, now)))
            ring = ring.with_key(key.becoming(KeyState.REMOVED, now))
    current, following = ring.find(KeyState.CURRENT), ring.find(KeyState.NEXT)
    if current is None and following is None:
        return [*changes, Make(state=KeyState.CURRENT), Make(state=KeyState.NEXT)]
    if following is None:
        return [*changes, Make(state=KeyState.NEXT)]
    if current is None:
        return [*changes, *_succession(following, now)]
    due = now - current.since >= settings.period and ready_at(ring, settings) <= now
    return [*changes, *rotation(ring, now, until)] if due else changes


def rotation(ring: KeyRing, now: datetime, until: datetime | None) -> list[Change]:
    """Return how the next key follows the current one; both have to be there, and `ready_at` to have come."""
    current, following = ring.find(KeyState.CURRENT), ring.find(KeyState.NEXT)
    if current is None or following is None:
        raise Refusal(Reason.SIGNING_UNAVAILABLE, "no key to follow, or none to follow with")
    return [Move(key=current.becoming(KeyState.RETIRED, now, until)), *_succession(following, now)]


def removal(ring: KeyRing, kid: str, now: datetime, *, lost: bool) -> list[Change]:
    """Return how a key goes at once, and what stands in for it: the next key for the current one, a new one for that.

    Args:
        ring: as it is.
        kid: which key.
        now: UTC.
        lost: the private half of the next key is not there; it goes as well.

    Raises:
        Refusal: KEY_UNKNOWN.

    """
    following = ring.find(KeyState.NEXT)
    gone = [key for key in ring.keys if key.kid == kid]
    if not gone:
        raise Refusal(Reason.KEY_UNKNOWN)
    if lost and following is not None and following.kid != kid:
        gone.append(following)
    changes: list[Change] = [Move(key=key.becoming(KeyState.REMOVED, now)) for key in gone]
    for key in gone:
        ring = ring.with_key(key.becoming(KeyState.REMOVED, now))
    current, following = ring.find(KeyState.CURRENT), ring.find(KeyState.NEXT)
    if current is None and following is not None:
        return [*changes, *_succession(following, now)]
    if current is None:
        changes.append(Make(state=KeyState.CURRENT))
    return changes if following is not None else [*changes, Make(state=KeyState.NEXT)]


def ready_at(ring: KeyRing, settings: KeySettings) -> datetime:
    """Return when the next key may sign: published for the lead, and with room for its own successor.

    A key set is at most `MAX_KEYS` long, since validators read no longer one; a key leaves it only when what it signed
    is over.

    Raises:
        Refusal: SIGNING_UNAVAILABLE: there is no next key.

    """
    following = ring.find(KeyState.NEXT)
    if following is None:
        raise Refusal(Reason.SIGNING_UNAVAILABLE, "no next key")
    leaving = [key.until for key in ring.keys if key.until is not None]
    published = following.since + settings.lead
    return max(published, min(leaving)) if leaving and len(leaving) + 2 >= MAX_KEYS else published


def _succession(following: RingKey, now: datetime) -> list[Change]:
    return [Move(key=following.becoming(KeyState.CURRENT, now)), Make(state=KeyState.NEXT)]
