"""Waiting for a condition: the one place in the tests that lets time pass."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
PAUSE = 0.02


async def eventually(probe: Callable[[], Awaitable[T | None]], *, within: float = 60.0) -> T:
    """Return the first truthy answer of the probe.

    Raises:
        TimeoutError: there was none within these seconds.

    """
    async with asyncio.timeout(within):
        while not (answer := await probe()):  # noqa: ASYNC110  # nothing signals what a probe looks for
            await asyncio.sleep(PAUSE)
    return answer
