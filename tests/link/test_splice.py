"""Closing a stream: what is left is sent, and nobody is waited for too long."""

import asyncio
import socket

from broker.link.splice import discard

LEFT = b"x" * (4 << 20)


async def a_writer() -> tuple[asyncio.StreamWriter, socket.socket]:
    near, far = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=near)
    return writer, far


def read_all(far: socket.socket) -> int:
    far.settimeout(10)
    total = 0
    while piece := far.recv(1 << 20):
        total += len(piece)
    return total


async def test_what_is_left_is_sent() -> None:
    writer, far = await a_writer()
    with far:
        writer.write(LEFT)
        closing = asyncio.create_task(discard(writer))
        assert await asyncio.to_thread(read_all, far) == len(LEFT)
        await closing


async def test_a_peer_that_does_not_read_is_not_waited_for() -> None:
    writer, far = await a_writer()
    with far:
        writer.write(LEFT)
        async with asyncio.timeout(10):
            await discard(writer)
        assert 0 < await asyncio.to_thread(read_all, far) < len(LEFT)
