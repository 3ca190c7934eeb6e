"""View: what a validator knows of revocations and keys, and how fresh that knowledge is.

It never guesses: a range of the log that does not join on to the last one, or a first message without a snapshot, makes
the whole view worthless until a snapshot comes, and a worthless view refuses.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric import ec
from pyroaring import BitMap

from broker.credential.keys import read_jwks
from broker.credential.status_list import read_status_list, require_few
from broker.errors import Reason, Refusal


class UpdateRefused(Exception):
    """A message of the stream does not fit the view; the view was dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The broker's public keys, as sent: the issuer's name and RFC 7517 text."""

    issuer: str
    jwks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One message of the revocation stream.

    Attributes:
        start: first position of the log that it covers.
        stop: one past the last.
        snapshot: everything revoked below `start` for the own audience, as portable roaring bitmap; None: no snapshot.
        revoked: status indexes revoked within the range.
        size: size of the log that had been read at `read_at`.
        read_at: the broker's clock before it read; None: the message says nothing of freshness.
        key_set: None when it did not change.

    """

    start: int
    stop: int
    snapshot: bytes | None = None
    revoked: tuple[int, ...] = ()
    size: int = 0
    read_at: datetime | None = None
    key_set: KeySet | None = None


class RevocationView:
    """The revoked status indexes of one audience, and the keys of one issuer.

    Args:
        issuer: the only issuer whose keys are taken.
        monotonic: seconds from any start, by a clock that nobody can set. A view ages by both clocks, whichever says
            more: one that was set back would else make it look fresher, and this one may stand still during suspend.

    Attributes:
        tick: the clock that nobody can set.
        version: rises with every change; while it stands, what was worked out from the view holds.

    """

    def __init__(self, *, issuer: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self.tick = monotonic
        self._revoked: BitMap | None = None
        self._stop = 0
        self._fresh_at: datetime | None = None
        self._fresh_tick = 0.0
        self._jwks = ""
        self._keys: Mapping[str, ec.EllipticCurvePublicKey] = MappingProxyType({})
        self._key_epoch = 0
        self.version = 0

    @property
    def keys(self) -> Mapping[str, ec.EllipticCurvePublicKey]:
        """The broker's public keys by kid."""
        return self._keys

    @property
    def key_epoch(self) -> int:
        """Rises with every change of the keys; what was verified before may have been by a key that is gone."""
        return self._key_epoch

    @property
    def stop(self) -> int:
        """One past the last position of the log that is known."""
        return self._stop

    @property
    def count(self) -> int:
        """How many status indexes are known as revoked."""
        return 0 if self._revoked is None else len(self._revoked)

    def is_revoked(self, status_index: int) -> bool:
        """Whether an index is revoked; without a snapshot all are."""
        return self._revoked is None or status_index in self._revoked

    def staleness(self, now: datetime) -> timedelta | None:
        """Return how long ago everything that is known was all there was to know; None when nothing is known."""
        if self._revoked is None or self._fresh_at is None or not self._keys:
            return None
        return max(now - self._fresh_at, timedelta(seconds=self.tick() - self._fresh_tick))

    def fresh_until(self, bound: timedelta) -> tuple[datetime, float] | None:
        """Return the last instant at which the view is no older than `bound`, by either clock; None: it never is."""
        if self._revoked is None or self._fresh_at is None or not self._keys:
            return None
        return self._fresh_at + bound, self._fresh_tick + bound.total_seconds()

    def is_fresh(self, now: datetime, bound: timedelta) -> bool:
        """Whether what is known is known, and no older than `bound`."""
        until = self.fresh_until(bound)
        return until is not None and now <= until[0] and self.tick() <= until[1]

    def require_fresh(self, now: datetime, bound: timedelta) -> None:
        """Refuse to judge on knowledge that is older than `bound`.

        Raises:
            Refusal: VIEW_STALE.

        """
        if not self.is_fresh(now, bound):
            raise Refusal(Reason.VIEW_STALE)

    def drop(self) -> None:
        """Forget what is revoked; from now on everything is refused until a snapshot comes. Keys stay known."""
        self.version += 1
        self._revoked = None
        self._fresh_at = None
        self._stop = 0

    def apply(self, update: Update, now: datetime) -> None:
        """Take in the next message.

        Args:
            update: the message.
            now: own clock. A freshness that lies ahead of it counts as now: with a broker whose clock is fast a view
                would else stay fresh without any message.

        Raises:
            UpdateRefused: the message does not fit; nothing of it was taken, and the view was dropped.

        """
        try:
            keys = self._read_keys(update.key_set)
            additions = BitMap(update.revoked)
            revoked = self._join(update)
            revoked |= additions
            require_few(revoked)
        except (Refusal, ValueError, LookupError, OverflowError) as problem:
            self.drop()
            raise UpdateRefused(str(problem)) from problem
        self.version += 1
        self._revoked, self._stop = revoked, update.stop
        if update.read_at is not None and update.size <= update.stop:  # else more pages follow: not yet that fresh
            self._fresh_at = min(update.read_at, now)
            self._fresh_tick = self.tick() - (now - self._fresh_at).total_seconds()
        if keys is not None and update.key_set is not None:
            self._keys, self._jwks = MappingProxyType(keys), update.key_set.jwks
            self._key_epoch += 1

    def _join(self, update: Update) -> BitMap:
        """Return the bitmap that the update's indexes go into."""
        if update.stop < update.start:
            raise ValueError("a range that ends before it starts")
        if update.snapshot is not None:
            self._fresh_at = None
            return read_status_list(update.snapshot)
        if self._revoked is None:
            raise ValueError("no snapshot yet")
        if update.start != self._stop:
            raise ValueError(f"a gap: [{self._stop}, {update.start}) is missing")
        return self._revoked

    def _read_keys(self, key_set: KeySet | None) -> dict[str, ec.EllipticCurvePublicKey] | None:
        """Return the new keys; None when they are the ones that are known."""
        if key_set is None:
            return None
        if key_set.issuer != self._issuer:
            raise Refusal(Reason.TOKEN_ISSUER_REFUSED, "the key set is of another issuer")
        return None if key_set.jwks == self._jwks else read_jwks(key_set.jwks)
