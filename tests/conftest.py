"""What holds for every test."""

import signal
from pathlib import Path

import pytest

from tests.load.build import build


def pytest_configure() -> None:
    """Take signals as a terminal gives them: a job in the background starts with SIGINT and SIGHUP ignored.

    What the tests start inherits it, and tests of interruptions would test nothing.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def load_program(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The compiled load, built when it is first asked for."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    return build(tmp_path_factory.mktemp("go") / "checkout", aside=capture.global_and_fixture_disabled)
