"""Fixtures of the tests over loopback."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.server.world import World, open_world


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    async with open_world(heartbeat=0.1) as opened:
        yield opened
