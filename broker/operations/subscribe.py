"""Pages of the two streams. Each page is authenticated, authorised and read anew; a stream is pages one after another.

A page states the range [start, stop) that it scanned, so that a filtered stream is checkably gap-free. `read_at` is
taken before the read: at that time everything below `size` had been read.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from broker.audit.cursor import Place, seal, short_leaf, unseal
from broker.audit.event import Decided, StreamOpened
from broker.intent import canonical_json, digest
from broker.operations.attempt import Attempt, Visit
from broker.operations.calls import (
    AuditEvent,
    AuditFilter,
    AuditPage,
    AuditPageCall,
    KeySet,
    Page,
    RevocationPage,
    RevocationPageCall,
    Revoked,
    Snapshot,
    Start,
)
from broker.policy.decision import Target, TargetKind
from broker.store.interface import Item, RevokedCredential, RevokedRange, Store, StoredEvent

EVENTS_A_PAGE: Final = 256
BYTES_A_PAGE: Final = 1024 * 1024
POSITIONS_A_REVOCATION_PAGE: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    """What is needed to record that a stream was opened."""

    stream: str
    position: int
    decided: Decided


def _record_opening(attempt: Attempt, visit: Visit, opening: _Opening) -> None:
    event = StreamOpened(
        at=visit.now,
        caller=visit.caller,
        decided=opening.decided,
        stream=opening.stream,
        position=opening.position,
    )
    entry = attempt.recorder.entry(event)
    attempt.commit(Item(accepted=lambda _: entry))


def resume(store: Store, place: Place, cursor: str, size: int) -> int:
    """Return where a cursor of this place goes on.

    Raises:
        Refusal: CURSOR_*.

    """
    return unseal(cursor, place, store.cursor_key, size, lambda position: _leaf_before(store, position))


def _leaf_before(store: Store, position: int) -> str:
    """Return the short leaf of the entry before a position; empty at 0."""
    entries = store.events(position - 1, position, openings=False) if position else ()
    return "".join(short_leaf(entry.content) for entry in entries)


def page_of(attempt: Attempt, visit: Visit, place: Place, start: int, stop: int, size: int) -> Page:
    """Return what every page says of the range [start, stop) that it scanned."""
    return Page(
        start=start,
        stop=stop,
        cursor=seal(place, stop, _leaf_before(attempt.recorder.store, stop), attempt.recorder.store.cursor_key),
        read_at=visit.now,
        size=size,
        valid_until=visit.principal.not_after,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRevocations:
    """A reader's revocations: a service those of its own audience, an agent those of its own credentials.

    Attributes:
        attempt: the way in.
        key_set: the public keys as they are now.
        bitmap: makes the serialised roaring bitmap of status indexes.

    """

    attempt: Attempt
    key_set: Callable[[], KeySet]
    bitmap: Callable[[list[int]], bytes]

    def __call__(self, call: RevocationPageCall) -> RevocationPage:
        """Return the next page."""
        return self.attempt(call.context, "subscribe_revocations", lambda visit: self._read(visit, call))

    def _read(self, visit: Visit, call: RevocationPageCall) -> RevocationPage:
        reader = str(visit.principal.spiffe_id)
        is_service = self.attempt.policy().service(reader) is not None
        target = Target(kind=TargetKind.SERVICE if is_service else TargetKind.AGENT, id=reader)
        decided = self.attempt.allowed(visit, "broker.revocations.follow", target)
        store = self.attempt.recorder.store
        view = {"audience": reader} if is_service else {"agent": reader}
        place = Place(log=store.log_id, stream="revocations", reader=reader, view=digest(canonical_json({**view})))
        size = store.size()
        start = resume(store, place, call.cursor, size) if call.cursor else None
        if call.opening:
            _record_opening(
                self.attempt, visit, _Opening(stream="revocations", position=start or size, decided=decided)
            )
        snapshot = None
        if start is None:
            start, held = store.revoked_now(visit.now, **view)
            size = stop = start
            snapshot = self._snapshot(held, is_service=is_service)
        else:
            stop = min(size, start + POSITIONS_A_REVOCATION_PAGE)
        ranges = store.revoked_in(start, stop, **view)
        key_set = self.key_set()
        return RevocationPage(
            page=page_of(self.attempt, visit, place, start, stop, size),
            snapshot=snapshot,
            revoked=tuple(_revoked(each, is_service=is_service) for each in ranges),
            key_set=key_set if is_service and key_set.digest != call.known_keys else None,
        )

    def _snapshot(self, held: Sequence[RevokedCredential], *, is_service: bool) -> Snapshot:
        if is_service:
            return Snapshot(status_indexes=self.bitmap([each.status_index for each in held]))
        return Snapshot(credential_ids=tuple(each.credential_id for each in held))


def _revoked(each: RevokedRange, *, is_service: bool) -> Revoked:
    indexes = tuple(sorted(one.status_index for one in each.credentials)) if is_service else ()
    ids = () if is_service else tuple(one.credential_id for one in each.credentials)
    return Revoked(position=each.position, at=each.at, rule=each.rule, status_indexes=indexes, credential_ids=ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAudit:
    """The audit log, or what a filter leaves of it."""

    attempt: Attempt

    def __call__(self, call: AuditPageCall) -> AuditPage:
        """Return the next page."""
        return self.attempt(call.context, "subscribe_audit", lambda visit: self._read(visit, call))

    def _read(self, visit: Visit, call: AuditPageCall) -> AuditPage:
        store = self.attempt.recorder.store
        decided = self._authorise(visit, call)
        place = Place(log=store.log_id, stream="audit", reader=str(visit.principal.spiffe_id), view=_view(call.filter))
        size = store.size()
        start = size if call.start is Start.END else 0
        if call.cursor:
            start = resume(store, place, call.cursor, size)
        if call.opening:
            _record_opening(self.attempt, visit, _Opening(stream="audit", position=start, decided=decided))
        events = _within(BYTES_A_PAGE, store.events(start, min(size, start + EVENTS_A_PAGE), openings=call.personal))
        return AuditPage(
            page=page_of(self.attempt, visit, place, start, start + len(events), size),
            events=tuple(_shown(event) for event in events if _matches(call.filter, event)),
        )

    def _authorise(self, visit: Visit, call: AuditPageCall) -> Decided:
        """A filter by tenant asks for that tenant's events; anything else asks for the whole log."""
        target = Target(kind=TargetKind.LOG, id="audit", tenant=call.filter.tenant)
        decided = self.attempt.allowed(visit, "broker.audit.read", target)
        return self.attempt.allowed(visit, "broker.audit.read_personal", target) if call.personal else decided


def _within(limit: int, events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
    """Return as many of the first events as fit the limit, one at the least."""
    taken = 0
    for count, event in enumerate(events):
        taken += len(event.content) + sum(len(opening.value) for opening in event.openings)
        if count and taken > limit:
            return events[:count]
    return events


def _view(wanted: AuditFilter) -> str:
    members = {
        "kinds": sorted(wanted.kinds),
        "tenant": wanted.tenant,
        "agent": wanted.agent,
        "task": wanted.task,
        "credential": wanted.credential,
    }
    return digest(canonical_json(members))


def _shown(event: StoredEvent) -> AuditEvent:
    return AuditEvent(position=event.position, content=event.content, openings=event.openings)


def _matches(wanted: AuditFilter, event: StoredEvent) -> bool:
    if wanted == AuditFilter():
        return True
    members: Mapping[str, object] = json.loads(event.content)
    asked = {"tenant": wanted.tenant, "task": wanted.task}
    return (
        (not wanted.kinds or members["type"] in wanted.kinds)
        and all(not value or members.get(name) == value for name, value in asked.items())
        and (not wanted.agent or wanted.agent in (members.get("spiffe_id"), members.get("agent"), members.get("name")))
        and (not wanted.credential or wanted.credential in (members.get("credential"), members.get("name")))
    )
