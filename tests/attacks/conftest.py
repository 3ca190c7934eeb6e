"""One house for the attacks that leave it as it was, a new one for those that do not."""

from collections.abc import AsyncIterator

import pytest

from tests.attacks.house import House, open_house


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    """The house of a module."""
    async with open_house() as opened:
        yield opened


@pytest.fixture
async def own_house() -> AsyncIterator[House]:
    """A house that a test may ruin."""
    async with open_house() as opened:
        yield opened
