"""Histories as they are recorded: from the journal of the compiled subscribers, and by subscribers of the SDK."""

import asyncio
import json
import random
from base64 import b64decode
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any, Final

from pyroaring import BitMap

from broker.client import CursorFile, Session, follow_audit, follow_revocations
from broker.client.bookmark import Bookmark
from broker.client.subscriber import Subscriber
from broker.v1 import audit_pb2, revoke_pb2
from tests.attacks.house import House
from tests.attacks.readers import session
from tests.streams.history import Acknowledged, Content, History, Opened, Step, Told
from tests.streams.truth import View, leaf_of

# How often a subscriber of the SDK acknowledges what it was given.
HASTE: Final = 0.2
PATIENCE: Final = 60.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def read_journal(path: Path) -> Mapping[str, History]:
    """Read what the compiled subscribers wrote. Whoever writes a message down has acknowledged it with that."""
    steps: dict[str, list[Step]] = {}
    with path.open() as lines:
        for line in lines:
            found = json.loads(line)
            own = steps.setdefault(found["name"], [])
            if "opened" in found:
                own.append(Opened(after=found["opened"] if found["opened"] >= 0 else None))
            else:
                told = _told(found["told"])
                own += [told, Acknowledged(position=told.stop)]
    return {name: History(name=name, steps=own) for name, own in steps.items()}


def _told(found: Mapping[str, Any]) -> Told:
    return Told(
        start=found["start"],
        stop=found["stop"],
        items=[(position, frozenset(str(each) for each in content)) for position, *content in found["items"] or ()],
        snapshot=_snapshot(found.get("snapshot")),
        size=found["size"],
        read_at=_EPOCH + timedelta(microseconds=found["at"]),
    )


def _snapshot(found: Mapping[str, Any] | None) -> Content | None:
    if found is None:
        return None
    bitmap = b64decode(found["indexes"] or "")
    return frozenset(found["credentials"] or ()) | indexes_of(bitmap)


def indexes_of(bitmap: bytes) -> Content:
    """Return the members of a serialised bitmap; none of an empty text."""
    return frozenset(str(index) for index in BitMap.deserialize(bitmap)) if bitmap else frozenset()


def begun_at(history: History, begins: int | None) -> History:
    """Say where a stream without a cursor begins, which only its view knows."""
    first = Opened(after=begins)
    return replace(history, steps=[first if step == Opened(after=None) else step for step in history.steps])


@dataclass(kw_only=True)
class SdkSubscriber:
    """A subscriber of the SDK that is cut off again and again at whatever instant, and goes on from its cursor file.

    It keeps its own cursors, in such a file, so that what becomes durable stands in the history.
    """

    name: str
    view: View
    house: House
    dice: random.Random
    until: int | None = None
    steps: list[Step] = field(default_factory=list)
    lives: int = 0
    reached: int = 0
    _file: CursorFile = field(init=False)
    _underway: int | None = None

    def history(self) -> History:
        return History(name=self.name, steps=self.steps)

    async def run(self) -> None:
        """Read until everything before `until` is acknowledged."""
        while self.until is None or self.reached < self.until:
            life = self._begin()
            await asyncio.wait({life}, timeout=self.dice.uniform(0.3, 4))
            await _cut_off(life)

    async def live_until(self, wanted: int) -> None:
        """Read until it has got to a position, and not one event further."""
        life = self._begin(wanted)
        try:
            await asyncio.wait({life}, timeout=PATIENCE)
            assert life.done(), f"it has got to {self.reached}, not to {wanted}"
        finally:
            await _cut_off(life)

    def _begin(self, wanted: float = inf) -> asyncio.Task[None]:
        self.lives += 1
        return asyncio.create_task(self._live(wanted))

    async def load(self) -> str:
        bookmark = await self._file.load()
        position = Bookmark.parse(bookmark).position if bookmark else self.view.begins
        if position is not None and position == self._underway:
            self.steps.append(Acknowledged(position=position))  # what was cut off had become durable
        self.steps.append(Opened(after=position))
        self.reached = position or 0
        return bookmark

    async def save(self, bookmark: str) -> None:
        self._underway = Bookmark.parse(bookmark).position
        await self._file.save(bookmark)
        self.steps.append(Acknowledged(position=self._underway))
        self.reached = max(self.reached, self._underway)

    async def _live(self, wanted: float) -> None:
        with CursorFile(self.house.folder / f"{self.name}.cursor") as self._file:
            async with session(self.house, self.view.reader) as opened, self._follow(opened) as subscriber:
                async for received in subscriber:
                    self._hear(received.value)
                    if self.until is not None or self.dice.random() < HASTE:
                        await subscriber.ack(received)
                    if self.reached >= wanted:
                        return

    def _follow(self, opened: Session) -> AbstractAsyncContextManager[Subscriber[Any, Any]]:
        if self.view.stream == "revocations":
            return follow_revocations(opened, self)
        wanted = audit_pb2.AuditFilter(kinds=self.view.kinds, tenant=self.view.tenant)
        return follow_audit(opened, self, wanted=wanted)

    def _hear(self, value: Any) -> None:
        """Write down what was yielded: with it everything is told that stands before it."""
        if isinstance(value, audit_pb2.AuditEvent):
            item = (value.position, frozenset({leaf_of(value.event)}))
            told = Told(start=self.reached, stop=value.position + 1, items=[item])
        else:
            told = revocations_told(value)
            told = told if told.snapshot is not None else replace(told, start=self.reached)
        self.steps.append(told)
        self.reached = told.stop


async def _cut_off(life: asyncio.Task[None]) -> None:
    life.cancel()
    with suppress(asyncio.CancelledError):
        await life


def revocations_told(message: revoke_pb2.SubscribeRevocationsResponse) -> Told:
    """Return what a message of revocations tells."""
    held = message.snapshot
    return Told(
        start=message.from_position,
        stop=message.to_position,
        items=[
            (each.position, frozenset(str(one) for one in (*each.status_indexes, *each.credential_ids)))
            for each in message.revoked
        ],
        snapshot=(frozenset(held.credential_ids) | indexes_of(held.status_indexes))
        if message.HasField("snapshot")
        else None,
        size=message.heartbeat.position,
        read_at=message.heartbeat.at.ToDatetime(tzinfo=UTC),
    )


def audit_told(message: audit_pb2.SubscribeAuditResponse) -> Told:
    """Return what a message of the log tells."""
    return Told(
        start=message.from_position,
        stop=message.to_position,
        items=[(event.position, frozenset({leaf_of(event.event)})) for event in message.events],
        size=message.heartbeat.position,
        read_at=message.heartbeat.at.ToDatetime(tzinfo=UTC),
    )
