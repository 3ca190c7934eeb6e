"""Subscriber: a stream that is read once. What was acknowledged never comes again, not even after a crash.

    with CursorFile("siem.cursor") as cursors:
        async with follow_audit(session, cursors) as subscriber:
            async for received in subscriber:
                await send(received.value)
                await subscriber.ack(received)

It goes on by itself when a connection, the broker or this process's SVID ends. It ends with an error when the broker
refuses the reader for good (RefusedError), and when what comes is not what follows (Gap, Fork).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Self, TypeVar

from broker.client.bookmark import Bookmark, leaf_of
from broker.client.cursors import Cursors
from broker.client.errors import BrokerError
from broker.client.session import Session
from broker.client.streams import Gap, Ranged
from broker.v1 import audit_pb2, revoke_pb2

Message = TypeVar("Message", bound=Ranged)
Value = TypeVar("Value")
_BEGINNING: Final = Bookmark(cursor="", start=0, position=0)


class Fork(BrokerError):
    """The log that the broker reads from is not the one that was read before: another history stands there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received(Generic[Value]):
    """Something that came over a stream.

    Attributes:
        value: an event; of the revocations, and of `messages`, a whole message. As the API has it.
        bookmark: goes on after it, for those who keep it themselves: pass it to `load` of their own Cursors.
        order: counts what this subscriber has received.

    """

    value: Value
    bookmark: str
    order: int = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Generic[Value]):
    """One item of a message: its position, and its leaf hash when it can be acknowledged without its neighbours."""

    position: int
    value: Value
    leaf: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page(Generic[Message, Value]):
    """A message, what in it was not acknowledged before, and the cursor that it came after."""

    message: Message
    parts: Sequence[Part[Value]]
    cursor: str

    @property
    def end(self) -> Bookmark:
        position = self.message.to_position
        return Bookmark(cursor=self.message.cursor, start=position, position=position)

    def after(self, part: Part[Value]) -> Bookmark:
        """Return what goes on after one part: after the last one the whole message is done with."""
        if part is self.parts[-1]:
            return self.end
        start = self.message.from_position
        return Bookmark(cursor=self.cursor, start=start, position=part.position + 1, leaf=part.leaf)


class Subscriber(Generic[Message, Value]):
    """An iterator over what a stream brings; made by `follow_audit` and `follow_revocations`.

    One task iterates, item by item or by `messages`. A consumer that is slow slows its own stream and nobody else's;
    nothing is dropped and nothing piles up. A wait that is cancelled, also by a timeout, ends it: open another.

    Args:
        cursors: where the bookmark is kept; None keeps none.
        open_at: opens the stream at a cursor.
        split: what is waited for in a message, in order.

    """

    def __init__(
        self,
        *,
        cursors: Cursors | None,
        open_at: Callable[[str], AsyncGenerator[Message, None]],
        split: Callable[[Message], Sequence[Part[Value]]],
    ) -> None:
        self._cursors = cursors
        self._open_at = open_at
        self._split = split
        self._given = 0
        self._acknowledged = 0
        self._kept = ""
        self._saving = asyncio.Lock()
        self._cancelled = False
        self._pages = self._until_cancelled()
        self._items = self._each()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received[Value]:
        self._check_open()
        return await anext(self._items)

    async def messages(self) -> AsyncGenerator[Received[tuple[Message, Sequence[Value]]], None]:
        """Yield message by message, each with what in it was not acknowledged before; mere heartbeats are left out.

        To acknowledge one is to acknowledge all that is in it.
        """
        self._check_open()
        async for page in self._pages:
            if page.parts:
                yield self._received((page.message, [part.value for part in page.parts]), page.end)

    async def ack(self, received: Received[Any]) -> None:
        """Acknowledge this, and everything that came before it; it is durable when this returns.

        Raises:
            CursorUnusable: it could not be kept; it may be tried again.

        """
        async with self._saving:
            if received.order > self._acknowledged:
                await self._keep(received.bookmark)
                self._acknowledged = received.order

    async def close(self) -> None:
        """End the stream; what was not acknowledged comes again to the next subscriber."""
        await self._items.aclose()
        await self._pages.aclose()

    async def _each(self) -> AsyncGenerator[Received[Value], None]:
        async for page in self._pages:
            for part in page.parts:
                yield self._received(part.value, page.after(part))

    def _received(self, value: Any, mark: Bookmark) -> Received[Any]:  # noqa: ANN401 - its callers say what it is
        self._given += 1
        return Received(value=value, bookmark=mark.text, order=self._given)

    async def _read(self) -> AsyncGenerator[_Page[Message, Value], None]:
        self._kept = await self._cursors.load() if self._cursors else ""
        mark = Bookmark.parse(self._kept) if self._kept else _BEGINNING
        expected = mark.start if self._kept else None
        cursor = mark.cursor
        async with aclosing(self._open_at(cursor)) as messages:
            async for message in messages:
                _check_range(message, expected)
                page = _Page(message=message, parts=_rest(message, self._split(message), mark), cursor=cursor)
                yield page
                if not page.parts and message.to_position >= mark.position and self._given == self._acknowledged:
                    async with self._saving:
                        await self._keep(page.end.text)
                expected, cursor = message.to_position, message.cursor

    async def _until_cancelled(self) -> AsyncGenerator[_Page[Message, Value], None]:
        async with aclosing(self._read()) as pages:
            try:
                async for page in pages:
                    yield page
            except asyncio.CancelledError:
                self._cancelled = True
                raise

    def _check_open(self) -> None:
        """Python ends a generator that is cancelled; nobody must take that for the end of the log."""
        if self._cancelled:
            raise BrokerError(
                "This subscriber was cancelled while it waited. Open another: it goes on at the bookmark."
            )

    async def _keep(self, bookmark: str) -> None:
        if self._cursors and bookmark != self._kept:
            await self._cursors.save(bookmark)
            self._kept = bookmark


def _check_range(message: Ranged, expected: int | None) -> None:
    if expected is not None and message.from_position != expected:
        raise Gap(f"The stream goes on at {message.from_position} instead of {expected}.")
    if message.to_position < message.from_position:
        raise Gap(f"A message covers [{message.from_position}, {message.to_position}).")


def _check_order(message: Ranged, positions: Sequence[int]) -> None:
    """Refuse what stands outside its message's range, or not in order, or twice."""
    at = message.from_position
    for position in positions:
        if not at <= position < message.to_position:
            raise Gap(f"Position {position} comes where one of [{at}, {message.to_position}) is expected.")
        at = position + 1


def _rest(message: Ranged, parts: Sequence[Part[Value]], mark: Bookmark) -> Sequence[Part[Value]]:
    """Return what was not acknowledged before; what was last has to stand where it stood."""
    last = mark.position - 1
    if mark.leaf and message.from_position <= last < message.to_position:
        found = next((part.leaf for part in parts if part.position == last), None)
        if found != mark.leaf:
            raise Fork(
                f"Position {last} does not hold the event that was acknowledged there: this is another log, or "
                "another filter, or the log was restored and has grown again. Nothing was skipped."
            )
    return [part for part in parts if part.position >= mark.position]


@asynccontextmanager
async def follow_audit(
    session: Session,
    cursors: Cursors | None = None,
    *,
    wanted: audit_pb2.AuditFilter | None = None,
    from_end: bool = False,
    forever: bool = True,
    personal: bool = False,
) -> AsyncIterator[Subscriber[audit_pb2.SubscribeAuditResponse, audit_pb2.AuditEvent]]:
    """Follow the audit log, event by event.

    Args:
        session: with the broker.
        cursors: where the bookmark is kept; None begins anew each time.
        wanted: which events; None for all. A bookmark is good for the same filter only.
        from_end: without a bookmark, begin with what comes from now on.
        forever: False ends at the log's size as of now.
        personal: with the openings of personal values.

    """

    def open_at(cursor: str) -> AsyncGenerator[audit_pb2.SubscribeAuditResponse, None]:
        return session.subscribe_audit(
            wanted=wanted, cursor=cursor, from_end=from_end, forever=forever, personal=personal
        )

    filtered = wanted is not None and wanted != audit_pb2.AuditFilter()
    subscriber = Subscriber(cursors=cursors, open_at=open_at, split=_events if filtered else _every_event)
    try:
        yield subscriber
    finally:
        await subscriber.close()


@asynccontextmanager
async def follow_revocations(
    session: Session, cursors: Cursors | None = None
) -> AsyncIterator[Subscriber[revoke_pb2.SubscribeRevocationsResponse, revoke_pb2.SubscribeRevocationsResponse]]:
    """Follow the revocations that concern this caller, message by message; without a bookmark a snapshot comes first.

    Args:
        session: with the broker.
        cursors: where the bookmark is kept; None begins anew each time.

    """

    def open_at(cursor: str) -> AsyncGenerator[revoke_pb2.SubscribeRevocationsResponse, None]:
        return session.subscribe_revocations(cursor=cursor)

    subscriber = Subscriber(cursors=cursors, open_at=open_at, split=_news)
    try:
        yield subscriber
    finally:
        await subscriber.close()


def _events(message: audit_pb2.SubscribeAuditResponse) -> Sequence[Part[audit_pb2.AuditEvent]]:
    _check_order(message, [event.position for event in message.events])
    return [Part(position=event.position, value=event, leaf=leaf_of(event.event)) for event in message.events]


def _every_event(message: audit_pb2.SubscribeAuditResponse) -> Sequence[Part[audit_pb2.AuditEvent]]:
    """Where no filter leaves anything out, every position of the range holds an event."""
    parts = _events(message)
    if len(parts) != message.to_position - message.from_position:
        raise Gap(
            f"A message covers [{message.from_position}, {message.to_position}) and brings {len(parts)} events of it."
        )
    return parts


def _news(
    message: revoke_pb2.SubscribeRevocationsResponse,
) -> Sequence[Part[revoke_pb2.SubscribeRevocationsResponse]]:
    _check_order(message, [revoked.position for revoked in message.revoked])
    news = message.HasField("snapshot") or message.HasField("key_set") or message.revoked
    return [Part(position=message.to_position, value=message)] if news else []
