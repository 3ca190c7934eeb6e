"""Two ends of a real link in one process: the door's RemoteIssuer and the issuer's server."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from broker.issuer.bounds import Bounds
from broker.issuer.client import RemoteIssuer
from broker.issuer.port import Issuer
from broker.issuer.server import serve_link


@asynccontextmanager
async def linked(issuer: Issuer, in_flight: Bounds | None = None) -> AsyncIterator[RemoteIssuer]:
    """Serve an issuer over a socket pair; give the door's end."""
    ours, theirs = socket.socketpair()
    serving = asyncio.create_task(serve_link(theirs, issuer, in_flight=in_flight))
    remote = RemoteIssuer()
    await remote.attach(ours)
    try:
        yield remote
    finally:
        await remote.close()
        await asyncio.wait_for(serving, 60)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- any condition, not an event
            await asyncio.sleep(0)
