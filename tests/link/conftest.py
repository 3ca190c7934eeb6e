"""Fixtures of the tests over loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.workload_api import WorkloadApi


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[WorkloadApi]:
    api = WorkloadApi(tmp_path / "agent.sock").start()
    yield api
    api.stop()
