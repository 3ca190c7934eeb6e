"""Spawned brokers, one of each kind for the tests of a module."""

from collections.abc import AsyncIterator

import pytest

from tests.faults.spawned import Spawned, spawn


@pytest.fixture(scope="module")
async def halves(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Spawned]:
    """Issuer and door, supervised."""
    async with spawn(tmp_path_factory.mktemp("b")) as spawned:
        yield spawned


@pytest.fixture(scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Spawned]:
    """Both in one process."""
    async with spawn(tmp_path_factory.mktemp("b"), embedded=True) as spawned:
        yield spawned
