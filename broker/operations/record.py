"""How operations write what happened: sealed entries, and refusals within a rate.

One source that is refused for one reason again and again must not fill the log: at most `REFUSALS_A_SECOND` events a
second for one (source, reason, tenant); what is over is counted and written as one `refusals.suppressed`. The tenant is
one of three, so that what a caller does for one of its tenants hides nothing from the view of another.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from broker.audit.event import (
    Caller,
    Entry,
    Event,
    ExchangeRefused,
    RefusalsSuppressed,
    RequestRefused,
    Salt,
    seal,
)
from broker.errors import Reason, Refusal
from broker.operations.calls import Context
from broker.store.interface import Answer, Committed, Effects, Item, Store, StoreUnavailable
from broker.svid.principal import Principal

REFUSALS_A_SECOND: Final = 10
MAX_SOURCES: Final = 10_000
_SECOND: Final = timedelta(seconds=1)


@dataclass(slots=True)
class _Bucket:
    began: datetime
    written: int = 0
    suppressed: int = 0


@dataclass(slots=True, kw_only=True)
class RefusalMeter:
    """Counts refusals by source, reason and tenant; bounded: the oldest bucket gives way, its count written first."""

    _buckets: OrderedDict[tuple[str, str, str], _Bucket] = field(default_factory=OrderedDict)
    _overdue: list[RefusalsSuppressed] = field(default_factory=list)

    def admits(self, source: str, reason: str, now: datetime, *, tenant: str = "") -> bool:
        """Whether this refusal may be an event of its own; otherwise it is counted."""
        key = (source, reason, tenant)
        bucket = self._buckets.get(key)
        if bucket is None or now - bucket.began >= _SECOND:
            self._close(key, now)
            bucket = self._buckets[key] = _Bucket(began=now)
            if len(self._buckets) > MAX_SOURCES:
                self._close(next(iter(self._buckets)), now)
        if bucket.written < REFUSALS_A_SECOND:
            bucket.written += 1
            return True
        bucket.suppressed += 1
        return False

    def _close(self, key: tuple[str, str, str], now: datetime) -> None:
        bucket = self._buckets.pop(key, None)
        if bucket is not None and bucket.suppressed:
            source, reason, tenant = key
            self._overdue.append(
                RefusalsSuppressed(at=now, source=source, reason=reason, count=bucket.suppressed, tenant=tenant),
            )

    def drain(self, now: datetime, *, everything: bool = False) -> Sequence[RefusalsSuppressed]:
        """Return the counts of every bucket whose second is over, or of all of them."""
        over = [key for key, bucket in self._buckets.items() if everything or now - bucket.began >= _SECOND]
        for key in over:
            self._close(key, now)
        drained, self._overdue = self._overdue, []
        return drained

    def take_back(self, counts: Sequence[RefusalsSuppressed]) -> None:
        """Keep counts that could not be written, for the next time."""
        self._overdue = [*counts, *self._overdue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """Seals events, and commits refusals.

    Attributes:
        store: where to.
        salt: gives 32 fresh random bytes.
        meter: keeps refusals within their rate.

    """

    store: Store
    salt: Salt
    meter: RefusalMeter

    def entry(self, event: Event) -> Entry:
        """Return the event as it is stored."""
        return seal(event, self.salt)

    def refusal(self, event: ExchangeRefused | RequestRefused) -> Entry | None:
        """Return the entry of a refusal, or None when it is over the rate and counted."""
        admitted = self.meter.admits(source_of(event.caller), event.reason, event.at, tenant=event.tenant)
        return self.entry(event) if admitted else None

    def commit_refusals(self, entries: Sequence[Entry | None]) -> None:
        """Write refusals.

        Raises:
            Refusal: AUDIT_UNAVAILABLE, which is then the answer.

        """
        items = [Item(accepted=_constant(entry)) for entry in entries if entry is not None]
        if items:
            commit(self.store, items)

    def flush_suppressed(self, now: datetime, *, everything: bool = False) -> None:
        """Write the counts of the seconds that are over; at the end of all work, of every second.

        Raises:
            Refusal: AUDIT_UNAVAILABLE; the counts are kept.

        """
        counts = self.meter.drain(now, everything=everything)
        try:
            self.commit_refusals([self.entry(event) for event in counts])
        except Refusal:
            self.meter.take_back(counts)
            raise


def _constant(entry: Entry) -> Callable[[object], Entry]:
    return lambda _: entry


def commit(store: Store, items: Sequence[Item]) -> Sequence[Answer]:
    """Commit, or refuse: what cannot be recorded does not happen.

    Raises:
        Refusal: AUDIT_UNAVAILABLE.

    """
    try:
        return store.commit(items)
    except StoreUnavailable as problem:
        raise Refusal(Reason.AUDIT_UNAVAILABLE) from problem


def caller_of(context: Context, principal: Principal | None) -> Caller:
    """Return what events say of who called."""
    return Caller(
        spiffe_id=str(principal.spiffe_id) if principal else "",
        login=principal.login if principal else "",
        source=context.evidence.source,
        request=context.request,
        trace=context.trace,
    )


def source_of(caller: Caller) -> str:
    """Return whose refusals are counted together: a verified ID, else the peer's address without its port."""
    return caller.spiffe_id or caller.source.rpartition(":")[0] or caller.source


def ranges_by_audience(revoked: Effects) -> Mapping[str, tuple[tuple[int, int], ...]]:
    """Return the status indexes that a write revoked, as ascending inclusive ranges by audience."""
    audiences: dict[str, list[int]] = {}
    for each in revoked:
        audiences.setdefault(each.audience, []).append(each.status_index)
    return {audience: tuple(_ranges(sorted(indexes))) for audience, indexes in audiences.items()}


def _ranges(ascending: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = ascending[0]
    for index in ascending[1:]:
        if index != last + 1:
            yield first, last
            first = index
        last = index
    yield first, last


def position_of(answer: Committed) -> int:
    """Return where the event of an item stands that always has one."""
    if answer.position is None:
        raise AssertionError("every change has its event")
    return answer.position
