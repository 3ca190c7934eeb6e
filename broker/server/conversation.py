"""Conversation: one ExchangeStream. What piled up goes to the issuer as one group and comes back as one message.

Three tasks share it: one reads, one answers, one watches that the caller's SVID still counts. An item that is refused
is answered like any other; what ends the conversation is a message that is not one, which leaves no item to answer, and
the end of the caller's authentication.
"""

import asyncio
from collections import deque
from datetime import datetime
from typing import Final

from broker.errors import Category, Reason, Refusal
from broker.issuer.port import ExchangeAnswer, ExchangeCall, ReadCall
from broker.server.convert import credential, exchange_call, parse
from broker.server.hub import Hub
from broker.server.limits import MAX_STREAM_ITEMS
from broker.server.reception import Call, Reception
from broker.server.status import status_of
from broker.v1 import exchange_pb2

_CLOCK_STEP: Final = 0.05


class Conversation:
    """One ExchangeStream, from open to end."""

    def __init__(self, *, reception: Reception, hub: Hub, call: Call) -> None:
        self._reception = reception
        self._hub = hub
        self._call = call
        self._waiting: deque[tuple[int, ExchangeCall]] = deque()
        self._finished = False
        self._moved = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Serve until the caller has finished and everything is answered.

        Raises:
            Refusal: what ended the conversation before that.

        """
        authority = self._hub.authority
        valid_until = await self._authenticate()
        loop = asyncio.get_running_loop()
        answering = loop.create_task(self._answer())
        tasks = {answering, loop.create_task(self._read()), loop.create_task(self._watch(authority, valid_until))}
        try:
            while not answering.done():
                done, _ = await asyncio.wait(
                    {task for task in tasks if not task.done()}, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _authenticate(self) -> datetime:
        return await self._reception.ask(
            self._call, self._reception.issuer.authenticate(ReadCall(context=self._call.context))
        )

    # --- reading ---------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while (raw := await self._call.read()) is not None:
            self._waiting.extend(await self._items(raw))
            self._moved.set()
            while len(self._waiting) > MAX_STREAM_ITEMS:
                self._room.clear()
                await self._room.wait()
        self._finished = True
        self._moved.set()

    async def _items(self, raw: bytes) -> list[tuple[int, ExchangeCall]]:
        try:
            message = _parse(raw)
        except Refusal as refusal:
            raise await self._reception.recorded(self._call, refusal) from refusal
        return [(item.correlation, exchange_call(item.request, self._call.context)) for item in message.items]

    # --- answering -------------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        while True:
            self._moved.clear()
            if self._waiting:
                await self._answer_group()
            elif self._finished:
                return
            else:
                await self._moved.wait()

    async def _answer_group(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(MAX_STREAM_ITEMS, len(self._waiting)))]
        self._room.set()
        try:
            calls = [call for _, call in group]
            answers = await self._reception.ask(self._call, self._reception.issuer.exchange(calls))
        except Refusal as refusal:  # the issuer is away or busy: so every item is told, and the stream goes on
            answers = [refusal] * len(group)
        message = exchange_pb2.ExchangeStreamResponse()
        for (correlation, _), answer in zip(group, answers, strict=True):
            self._add(message, correlation, answer)
        await self._call.write(message)

    def _add(self, message: exchange_pb2.ExchangeStreamResponse, correlation: int, answer: ExchangeAnswer) -> None:
        item = message.items.add(correlation=correlation)
        if isinstance(answer, Refusal):
            item.refusal.CopyFrom(status_of(answer, request=self._call.context.request))
        else:
            item.credential.CopyFrom(credential(answer))

    # --- watching --------------------------------------------------------------------------------------------------

    async def _watch(self, authority: int, valid_until: datetime) -> None:
        """Authenticate again whenever who may do what has changed, and when the SVID ends."""
        while True:
            version = self._hub.version
            left = (valid_until - self._reception.clock()).total_seconds()
            if self._hub.authority == authority and left > 0:
                await self._hub.beyond(version, left)
                continue
            authority = self._hub.authority
            try:
                valid_until = await self._authenticate()
            except Refusal as refusal:
                # Each item is authenticated anyway; an issuer that is away for a moment does not end a valid SVID.
                if left <= 0 or refusal.reason.category not in (Category.UNAVAILABLE, Category.EXHAUSTED):
                    raise
                authority = -1
            await asyncio.sleep(_CLOCK_STEP)


def _parse(raw: bytes) -> exchange_pb2.ExchangeStreamRequest:
    message = parse(raw, exchange_pb2.ExchangeStreamRequest)
    if not message.items:
        raise Refusal(Reason.REQUEST_INVALID, "items: repeated.min_items")
    if len(message.items) > MAX_STREAM_ITEMS:
        raise Refusal(Reason.LIMIT_STREAM_ITEMS)
    return message
