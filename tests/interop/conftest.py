"""The Go client, a SPIRE, a broker and the example's service on it: one of each for all these tests."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.spire.deployment import Deployment, start
from tests.interop.build import build
from tests.interop.workloads import GoStage
from tests.spire.stage import stage


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The program, built as the page says."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    return build(tmp_path_factory.mktemp("go") / "checkout", aside=capture.global_and_fixture_disabled)


@pytest.fixture(scope="session")
async def spire() -> AsyncIterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="spire-test-") as folder:
        deployment = await asyncio.to_thread(start, Path(folder) / "spire", detached=False)
        try:
            yield deployment
        finally:
            await asyncio.to_thread(deployment.stop)


@pytest.fixture(scope="session")
async def go(spire: Deployment, program: Path) -> AsyncIterator[GoStage]:
    with tempfile.TemporaryDirectory(prefix="broker-test-") as folder:
        async with stage(spire, Path(folder)) as opened:
            yield GoStage(stage=opened, program=program)


@pytest.fixture(scope="session")
async def orders(go: GoStage) -> str:
    """The address of the orders service."""
    return await go.orders_service()
