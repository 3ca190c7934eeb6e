"""Fixtures of the tests over loopback."""

from collections.abc import AsyncIterator

import pytest_asyncio

from broker.client.session import Session
from tests.server.supply import Supply, session_with
from tests.server.world import World, open_world


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    async with open_world(heartbeat=0.1) as opened:
        yield opened


@pytest_asyncio.fixture
async def supply(world: World) -> Supply:
    return Supply(world.domain, world.agent)


@pytest_asyncio.fixture
async def session(world: World, supply: Supply) -> AsyncIterator[Session]:
    opened = session_with(world, supply)
    yield opened
    await opened.close()
