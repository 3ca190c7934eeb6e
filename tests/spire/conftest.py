"""One SPIRE for all these tests, with SVIDs that live a minute, and one broker on it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.spire.deployment import Deployment, start
from tests.spire.stage import Stage
from tests.spire.stage import stage as set_stage


@pytest.fixture(scope="session")
async def spire() -> AsyncIterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="spire-test-") as folder:
        deployment = await asyncio.to_thread(start, Path(folder) / "spire", svid_ttl="60s", detached=False)
        try:
            yield deployment
        finally:
            await asyncio.to_thread(deployment.stop)


@pytest.fixture(scope="session")
async def stage(spire: Deployment) -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="broker-test-") as folder:
        async with set_stage(spire, Path(folder)) as opened:
            yield opened
