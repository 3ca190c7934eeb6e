"""Exchanges of one generation: one alone goes by itself, several at once go together over one stream."""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import grpc

from broker.client.errors import BrokerError, Unavailable, Unreachable, from_rpc, from_status
from broker.client.line import Line
from broker.v1 import exchange_pb2, exchange_pb2_grpc, types_pb2

# What the broker takes in one message: items, and half of the bytes.
MOST_ITEMS: Final = 256
MOST_BYTES: Final = 512 * 1024
# After a stream died without an answer: seconds in which each goes by itself.
REST: Final = 1.0
_Item = exchange_pb2.ExchangeStreamResponse.Item


class Conversation:
    """One ExchangeStream. What piles up while a message is being sent goes in the next one.

    Args:
        call: the stream, just opened.

    """

    def __init__(self, call: Any) -> None:  # noqa: ANN401 - the generated stub's StreamStreamCall
        self._call = call
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[_Item | None]] = {}
        self._unsent: deque[exchange_pb2.ExchangeStreamRequest.Item] = deque()
        self._more = asyncio.Event()
        self.over = False
        self.answered = False
        loop = asyncio.get_running_loop()
        self._tasks = (loop.create_task(self._write()), loop.create_task(self._read()))

    async def ask(self, request: exchange_pb2.ExchangeRequest) -> _Item | None:
        """Return the answer to a request; None when the stream died without one."""
        number = next(self._numbers)
        answer: asyncio.Future[_Item | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._unsent.append(exchange_pb2.ExchangeStreamRequest.Item(correlation=number, request=request))
        self._more.set()
        try:
            return await answer
        finally:  # who no longer waits is not sent, or not heard
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End it; who still waits is told that it died."""
        self._end()
        await asyncio.wait(self._tasks)

    async def _write(self) -> None:
        try:
            while True:
                await self._more.wait()
                self._more.clear()
                while items := self._batch():
                    await self._call.write(exchange_pb2.ExchangeStreamRequest(items=items))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            self._end()

    def _batch(self) -> list[exchange_pb2.ExchangeStreamRequest.Item]:
        items: list[exchange_pb2.ExchangeStreamRequest.Item] = []
        size = 0
        while self._unsent and len(items) < MOST_ITEMS:
            size += self._unsent[0].ByteSize()
            if items and size > MOST_BYTES:
                break
            item = self._unsent.popleft()
            if item.correlation in self._waiting:
                items.append(item)
        return items

    async def _read(self) -> None:
        try:
            while isinstance(message := await self._call.read(), exchange_pb2.ExchangeStreamResponse):
                self.answered = True
                for item in message.items:
                    answer = self._waiting.get(item.correlation)
                    if answer is not None and not answer.done():
                        answer.set_result(item)
        except grpc.aio.AioRpcError:
            pass  # who waits asks again by itself, and hears why
        finally:
            self._end()

    def _end(self) -> None:
        self.over = True
        self._call.cancel()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(None)


class Exchanges:
    """How the exchanges of one generation are asked.

    Args:
        line: the way to the broker in this generation.
        deadline: seconds that one exchange may take, however it is asked.
        alone: how many go by themselves before the next ones go together.

    """

    def __init__(self, *, line: Callable[[], Line], deadline: float, alone: int = 1) -> None:
        self._line = line
        self._deadline = deadline
        self._alone = alone
        self._underway = 0
        self._conversation: Conversation | None = None
        self._rest_until = 0.0

    async def ask(self, request: exchange_pb2.ExchangeRequest) -> types_pb2.Credential:
        """Return the broker's answer. The request has an id, so that it can be asked again when the answer is lost.

        Raises:
            BrokerError: a refusal, or no answer in time.

        """
        self._underway += 1
        try:
            async with asyncio.timeout(self._deadline):
                if self._underway > self._alone and asyncio.get_running_loop().time() >= self._rest_until:
                    answer = await self._ask_together(request)
                    if answer is not None:
                        return answer
                return await self._ask_alone(request)
        except TimeoutError as late:
            error = self._line().tunnel.last_error
            raise Unreachable(f"The broker did not answer: {error or 'not in time'}") from (error or late)
        finally:
            self._underway -= 1

    async def close(self) -> None:
        """End the stream."""
        if self._conversation is not None:
            await self._conversation.close()

    async def _ask_together(self, request: exchange_pb2.ExchangeRequest) -> types_pb2.Credential | None:
        """Return the answer; None when the request has to be asked again by itself."""
        conversation = self._conversation
        if conversation is None or conversation.over:
            stub = exchange_pb2_grpc.ExchangeServiceStub(self._line().channel)
            conversation = self._conversation = Conversation(stub.ExchangeStream())
        item = await conversation.ask(request)
        if item is None:
            if not conversation.answered:
                self._rest_until = asyncio.get_running_loop().time() + REST
            return None
        if item.WhichOneof("outcome") == "credential":
            return item.credential
        refusal = from_status(item.refusal) or BrokerError("The broker gave an answer that this SDK cannot read.")
        if isinstance(refusal, Unavailable):  # asked alone it is asked again by the channel's own rule
            return None
        raise refusal

    async def _ask_alone(self, request: exchange_pb2.ExchangeRequest) -> types_pb2.Credential:
        line = self._line()
        try:
            stub = exchange_pb2_grpc.ExchangeServiceStub(line.channel)
            answer = await stub.Exchange(request, timeout=self._deadline)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, connection=line.tunnel.last_error) from error
        return answer.credential
