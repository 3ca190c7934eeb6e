"""The issuer's end of a link: every call in, its answer out, in any order.

Nothing here decides. What may be in flight is bounded in calls and in bytes; above that the link is not read, so that
the door's memory fills and not the issuer's. A frame that does not decode closes the link; a call that does not convert
is refused on its own.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from broker.errors import Reason, Refusal
from broker.issuer.bounds import Bounds
from broker.issuer.convert import CONVERSION_PROBLEMS, encode_refusal
from broker.issuer.convert_answers import encode_change
from broker.issuer.convert_exchange import decode_exchange_calls, encode_exchange_answers
from broker.issuer.port import ExchangeAnswer, Issuer
from broker.issuer.v1 import port_pb2 as v1
from broker.issuer.verb import Verb
from broker.issuer.verbs import VERBS
from broker.issuer.wire import MAX_CALLS_A_FRAME, FrameTooLarge, LinkBroken, frame_of, open_streams, pack, read_frame

MAX_CALLS_IN_FLIGHT: Final = 2048
MAX_BYTES_IN_FLIGHT: Final = 64 * 1024 * 1024

_log = structlog.get_logger(__name__)


async def serve_links(links: AsyncIterator[socket.socket], issuer: Issuer) -> None:
    """Serve the newest link; a new one ends the one before. Returns when no more can come."""
    newest: tuple[asyncio.Task[None], socket.socket] | None = None
    try:
        async for link in links:
            await _end(newest)
            newest = asyncio.create_task(serve_link(link, issuer)), link
    finally:
        await _end(newest)


async def _end(served: tuple[asyncio.Task[None], socket.socket] | None) -> None:
    if served is not None:
        serving, link = served
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        link.close()  # a task that is cancelled before its first step closes nothing


async def serve_link(link: socket.socket, issuer: Issuer, *, in_flight: Bounds | None = None) -> None:
    """Answer what comes over one link until it ends; never raises for what the peer does."""
    reader, writer = await open_streams(link)
    served = _Link(
        issuer=issuer,
        reader=reader,
        writer=writer,
        in_flight=in_flight or Bounds(max_calls=MAX_CALLS_IN_FLIGHT, max_bytes=MAX_BYTES_IN_FLIGHT),
    )
    try:
        await served.run()
    except LinkBroken as problem:
        _log.warning("port link broken", problem=str(problem))
    finally:
        await served.close()


@dataclass(slots=True, kw_only=True)
class _Link:
    issuer: Issuer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    in_flight: Bounds
    answering: set[asyncio.Task[None]] = field(default_factory=set)
    watched: bool = False

    async def run(self) -> None:
        while (read := await read_frame(self.reader)) is not None:
            frame, size = read
            if frame.HasField("watch"):
                self._start_watching(frame.number)
                continue
            calls, size = _weight(frame, size)
            if calls:
                await self.in_flight.wait_and_enter(calls, size)
            self._start(self._serve(frame, calls, size))

    async def close(self) -> None:
        """End what still runs. Work that the issuer has begun goes on there; its answer has nowhere to go."""
        for task in self.answering:
            task.cancel()
        await asyncio.gather(*self.answering, return_exceptions=True)
        # Not close(): it would wait until a peer that does not read has read everything.
        self.writer.transport.abort()

    def _start_watching(self, number: int) -> None:
        if self.watched:
            raise LinkBroken("watched twice")
        self.watched = True
        self._start(self._watch(number))

    def _start(self, work: Any) -> None:  # noqa: ANN401 -- a coroutine's three parameters say nothing here
        task = asyncio.create_task(work)
        self.answering.add(task)
        task.add_done_callback(self.answering.discard)

    async def _serve(self, frame: v1.Frame, calls: int, size: int) -> None:
        try:
            await self._send(frame.number, await self._answer(frame))
        except ConnectionError:
            pass  # the reader sees the same end
        finally:
            self.in_flight.leave(calls, size)

    async def _send(self, number: int, answer: v1.Frame) -> None:
        answer.number = number
        try:
            content = pack(answer)
        except FrameTooLarge as problem:
            _log.error("port answer too large", bytes=problem.args[0])
            content = pack(_refused(number, Refusal(Reason.INTERNAL, "an answer over the limit of the port")))
        self.writer.write(content)
        await self.writer.drain()

    async def _answer(self, frame: v1.Frame) -> v1.Frame:
        name = frame.WhichOneof("body") or ""
        try:
            if name == "exchange":
                return v1.Frame(exchanged=encode_exchange_answers(await self._exchange(frame.exchange)))
            verb = VERBS.get(name)
            if verb is None:
                raise Refusal(Reason.REQUEST_MALFORMED, "port: not a call")  # noqa: TRY301 -- one place answers all
            return await self._ask(verb, getattr(frame, name))
        except Refusal as refusal:
            return _refused(frame.number, refusal)
        except Exception as problem:  # noqa: BLE001 -- a defect costs one call its answer, never the others their link
            _log.error("defect", port_call=name, exc_info=problem)
            return _refused(frame.number, Refusal(Reason.INTERNAL))

    async def _exchange(self, message: v1.ExchangeCalls) -> Sequence[ExchangeAnswer]:
        if not 0 < len(message.calls) <= MAX_CALLS_A_FRAME:
            raise Refusal(Reason.REQUEST_MALFORMED, "port: number of calls")
        calls = decode_exchange_calls(message)
        understood = [call for call in calls if not isinstance(call, Refusal)]
        answers = iter(await self.issuer.exchange(understood) if understood else ())
        return [call if isinstance(call, Refusal) else next(answers) for call in calls]

    async def _ask(self, verb: Verb[Any, Any], message: object) -> v1.Frame:
        try:
            call = verb.decode_call(message)
        except CONVERSION_PROBLEMS as problem:
            raise Refusal(Reason.REQUEST_MALFORMED, "port") from problem
        answer = verb.encode_answer(await verb.ask(self.issuer, call))
        return frame_of(0, verb.answer, answer)

    async def _watch(self, number: int) -> None:
        """Tell every change; a slow peer hears the newest only, because the feed gathers while we wait to send."""
        try:
            async for change in self.issuer.changes():
                await self._send(number, v1.Frame(changed=encode_change(change)))
        except ConnectionError:
            pass  # the reader sees the same end
        finally:
            # The feed ends when the issuer does: so does the link, and the door hears of it.
            self.writer.close()


def _refused(number: int, refusal: Refusal) -> v1.Frame:
    return v1.Frame(number=number, refused=encode_refusal(refusal))


def _weight(frame: v1.Frame, size: int) -> tuple[int, int]:
    """Return how many calls a frame is, and how many bytes it and its answer may hold."""
    if frame.HasField("exchange"):
        # A credential repeats what was asked: once in its scope, once (in base64) in its token.
        return max(1, len(frame.exchange.calls)), size * 4
    verb = VERBS.get(frame.WhichOneof("body") or "")
    if verb and verb.urgent:
        return 0, 0  # it has a place even when there is none
    return 1, size + (verb.weight if verb else 0)
