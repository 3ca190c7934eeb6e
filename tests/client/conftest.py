"""One stage for the tests that leave it as it was; a door with a fake issuer for what only that can do."""

from collections.abc import AsyncIterator

import pytest

from broker.client import Session
from tests.client.stage import Stage, open_stage
from tests.server.supply import Supply, session_with
from tests.server.world import World, open_world


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    """The stage of a module."""
    async with open_stage() as opened:
        yield opened


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A door whose issuer does as it is told."""
    async with open_world(heartbeat=0.1) as opened:
        yield opened


@pytest.fixture
async def supply(world: World) -> Supply:
    """Identities that a test replaces."""
    return Supply(world.domain, world.agent)


@pytest.fixture
async def session(world: World, supply: Supply) -> AsyncIterator[Session]:
    """A session with that door."""
    opened = session_with(world, supply)
    yield opened
    await opened.close()
