"""What goes in one message of the stream."""

import asyncio
from typing import Any

import grpc

from broker.client.exchanging import MOST_BYTES, MOST_ITEMS, Conversation
from broker.v1 import exchange_pb2, types_pb2


class Call:
    """The stream: takes what it is sent, and answers nothing."""

    def __init__(self) -> None:
        self.sent: list[exchange_pb2.ExchangeStreamRequest] = []
        self.open = asyncio.Event()
        self.ended = asyncio.Event()

    async def write(self, message: exchange_pb2.ExchangeStreamRequest) -> None:
        await self.open.wait()
        self.sent.append(message)

    async def read(self) -> Any:
        await self.ended.wait()
        return grpc.aio.EOF

    def cancel(self) -> None:
        self.ended.set()


def request(size: int = 0) -> exchange_pb2.ExchangeRequest:
    return exchange_pb2.ExchangeRequest(intent=types_pb2.Intent(parameters="x" * size))


async def sent(sizes: list[int], *, cancelled: int = 0) -> list[int]:
    """Ask for as many as there are sizes while a message is being sent; return how many went in each one after it."""
    call = Call()
    conversation = Conversation(call)
    asking = [asyncio.ensure_future(conversation.ask(request()))]
    await until_idle()
    asking += [asyncio.ensure_future(conversation.ask(request(size))) for size in sizes]
    await until_idle()
    for each in asking[1 : cancelled + 1]:
        each.cancel()
    call.open.set()
    await until_idle()
    await conversation.close()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert answers[cancelled + 1 :] == [None] * (len(sizes) - cancelled), "who still waits is told that it died"
    return [len(message.items) for message in call.sent[1:]]


async def until_idle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_more_items_than_the_broker_takes() -> None:
    groups = await sent([0] * (2 * MOST_ITEMS + 5))
    assert max(groups) == MOST_ITEMS
    assert len(groups) == 3


async def test_no_more_bytes_than_the_broker_takes() -> None:
    assert await sent([MOST_BYTES // 2 - 100] * 4) == [2, 2]
    assert await sent([MOST_BYTES + 1, 0, MOST_BYTES + 1]) == [1, 1, 1]


async def test_who_no_longer_waits_is_not_sent() -> None:
    assert sum(await sent([0] * 10, cancelled=4)) == 6
