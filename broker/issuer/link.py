"""The door's end of one link: what waits for an answer, and how exchanges gather into frames.

At most `GROUPS_IN_FLIGHT` frames of exchanges are unanswered at a time. What is asked meanwhile waits here and goes out
together with the next frame: groups form by themselves, without a timer, and the cost of a frame is shared.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog

from broker.errors import Reason, Refusal
from broker.issuer.bounds import Bounds
from broker.issuer.checked import busy, decoded, encoded, exchange_answer, internal, packed, refusal_in, unavailable
from broker.issuer.convert import CONVERSION_PROBLEMS
from broker.issuer.convert_answers import decode_change
from broker.issuer.convert_exchange import encode_exchange_call
from broker.issuer.port import Change, ExchangeAnswer, ExchangeCall
from broker.issuer.v1 import port_pb2 as v1
from broker.issuer.verb import Verb
from broker.issuer.wire import MAX_CALLS_A_FRAME, LinkBroken, frame_of, pack, read_frame

GROUPS_IN_FLIGHT: Final = 4
MAX_WAITING: Final = 16_384
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
# Answers repeat what was asked about three times; an eighth of a frame leaves room for that.
MAX_GROUP_BYTES: Final = 1024 * 1024

Call = TypeVar("Call")
Answer = TypeVar("Answer")

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Asked:
    """One caller's exchanges, some answered, some not yet."""

    answers: list[ExchangeAnswer | None]
    missing: int
    done: asyncio.Future[None]

    def put(self, index: int, answer: ExchangeAnswer) -> None:
        self.answers[index] = answer
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, kw_only=True)
class _Item:
    """One exchange on its way: whose, which of theirs, and its message until it is sent."""

    asked: _Asked
    index: int
    message: v1.ExchangeCall
    size: int


@dataclass(slots=True, kw_only=True)
class _Called:
    """Any other call on its way."""

    future: asyncio.Future[v1.Frame]
    weight: tuple[int, int]


@dataclass(slots=True, kw_only=True)
class Link:
    """One connected socket and everything that waits for it. `run` ends when the link does, and nobody waits then."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    alive: bool = True
    waiting: Bounds = field(default_factory=lambda: Bounds(max_calls=MAX_WAITING, max_bytes=MAX_WAITING_BYTES))
    _number: int = 0
    _queue: deque[_Item] = field(default_factory=deque)
    _groups: dict[int, list[_Item]] = field(default_factory=dict)
    _calls: dict[int, _Called] = field(default_factory=dict)
    _work: asyncio.Event = field(default_factory=asyncio.Event)
    _change: Change | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Carry calls and answers until the link ends."""
        self.writer.write(pack(frame_of(self._next_number(), "watch", v1.WatchCall())))
        writing = asyncio.create_task(self._write_groups())
        try:
            while (read := await read_frame(self.reader)) is not None:
                self._take(read[0])
        except LinkBroken as problem:
            _log.warning("port link broken", problem=str(problem))
        finally:
            self.end()
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    def end(self) -> None:
        """Close the link, and tell everyone who waits that no answer will come."""
        self.alive = False
        self.writer.transport.abort()
        for called in self._calls.values():
            if not called.future.done():
                called.future.set_exception(unavailable())
        for item in [*self._queue, *(item for group in self._groups.values() for item in group)]:
            item.asked.put(item.index, unavailable())
        self._calls.clear()
        self._queue.clear()
        self._groups.clear()
        self._news.set()

    async def ask(self, verb: Verb[Call, Answer], call: Call) -> Answer:
        """Ask one call.

        Raises:
            Refusal: the issuer's, or ISSUER_UNAVAILABLE, LIMIT_BUSY, REQUEST_MALFORMED, INTERNAL of this end.

        """
        if not self.alive:
            raise unavailable()
        message = encoded(verb, call)
        number = self._next_number()
        content = packed(frame_of(number, verb.call, message))
        weight = (0, 0) if verb.urgent else (1, message.ByteSize())  # how many are urgent, the reception bounds
        if not self.waiting.enter(*weight):
            raise busy()
        future: asyncio.Future[v1.Frame] = asyncio.get_running_loop().create_future()
        self._calls[number] = _Called(future=future, weight=weight)
        self.writer.write(content)
        return decoded(verb, await future)

    async def exchange(self, calls: Sequence[ExchangeCall]) -> list[ExchangeAnswer]:
        """Ask exchanges; each has its answer, whatever happens."""
        if not calls:
            return []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asked = _Asked(answers=[None] * len(calls), missing=len(calls), done=done)
        for index, call in enumerate(calls):
            self._queue_one(asked, index, call)
        self._work.set()
        await done
        return [answer if answer is not None else internal() for answer in asked.answers]

    def _queue_one(self, asked: _Asked, index: int, call: ExchangeCall) -> None:
        if not self.alive:
            asked.put(index, unavailable())
            return
        try:
            message = encode_exchange_call(call)
        except CONVERSION_PROBLEMS:
            asked.put(index, Refusal(Reason.REQUEST_MALFORMED, "port"))
            return
        size = message.ByteSize()
        if self.waiting.enter(1, size):
            self._queue.append(_Item(asked=asked, index=index, message=message, size=size))
        else:
            asked.put(index, busy())

    async def changes(self) -> AsyncIterator[Change]:
        """Yield the newest change at once, then each newer one, until the link ends."""
        told: Change | None = None
        while self.alive:
            news, change = self._news, self._change
            if change is not None and change is not told:
                told = change
                yield change
            elif self.alive:
                await news.wait()

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    async def _write_groups(self) -> None:
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._queue and len(self._groups) < GROUPS_IN_FLIGHT:
                    self._send_group()
                    await self.writer.drain()
        except ConnectionError:
            pass  # the reader sees the same end

    def _send_group(self) -> None:
        group = self._next_group()
        if not group:
            return
        number = self._next_number()
        self._groups[number] = group
        frame = v1.Frame(number=number, exchange=v1.ExchangeCalls(calls=[item.message for item in group]))
        try:
            self.writer.write(packed(frame))
        except Refusal as refusal:
            self._refuse_group(number, refusal)

    def _next_group(self) -> list[_Item]:
        """Take what waits, as far as one frame goes; what nobody waits for any more is dropped."""
        group: list[_Item] = []
        size = 0
        while self._queue and len(group) < MAX_CALLS_A_FRAME:
            item = self._queue[0]
            if item.asked.done.done():
                self.waiting.leave(1, item.size)
            elif group and size + item.size > MAX_GROUP_BYTES:
                break
            else:
                size += item.size
                group.append(item)
            self._queue.popleft()
        return group

    def _take(self, frame: v1.Frame) -> None:
        """Give an answer to whom it belongs."""
        number = frame.number
        if frame.HasField("changed"):
            self._change, news, self._news = decode_change(frame.changed), self._news, asyncio.Event()
            news.set()
        elif number in self._groups:
            if frame.HasField("refused"):
                self._refuse_group(number, refusal_in(frame))
            else:
                self._take_group(number, frame)
        elif number in self._calls:
            called = self._calls.pop(number)
            self.waiting.leave(*called.weight)
            if not called.future.done():
                called.future.set_result(frame)
        else:
            raise LinkBroken("an answer to nothing")

    def _take_group(self, number: int, frame: v1.Frame) -> None:
        group = self._end_group(number)
        messages = frame.exchanged.answers
        if len(messages) != len(group):
            _log.error("port answered another number of exchanges", asked=len(group), answered=len(messages))
            for item in group:
                item.asked.put(item.index, internal())
            return
        for item, message in zip(group, messages, strict=True):
            item.asked.put(item.index, exchange_answer(message))

    def _end_group(self, number: int) -> list[_Item]:
        """Give back the room of a group, and let the next one go."""
        group = self._groups.pop(number)
        self.waiting.leave(len(group), sum(item.size for item in group))
        self._work.set()
        return group

    def _refuse_group(self, number: int, refusal: Refusal) -> None:
        for item in self._end_group(number):
            item.asked.put(item.index, Refusal(refusal.reason, refusal.detail))
