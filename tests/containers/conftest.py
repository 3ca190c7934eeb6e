"""SPIRE of two trust domains in containers, and a broker on the host that has its SVIDs from there."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from deploy.spire.deployment import Deployment
from tests.containers.composed import ComposedSpire, composed, images
from tests.spire.stage import BOTH, Stage
from tests.spire.stage import stage as set_stage


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say it when these tests are left out, as they are unless asked for by their mark."""
    if config.option.markexpr != "not containers":
        return []
    return ["tests/containers: left out, because they need a Docker engine (make test-containers)"]


@pytest.fixture(scope="session")
def spire() -> Iterator[ComposedSpire]:
    registry = f"tests-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="containers-") as name:
        folder = Path(name)
        with images(folder, registry), composed(folder, registry, BOTH) as opened:
            yield opened


@pytest.fixture(scope="session")
async def stage(spire: ComposedSpire) -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="broker-test-") as folder:
        async with set_stage(cast(Deployment, spire), Path(folder)) as opened:  # of which it asks two methods
            yield opened
