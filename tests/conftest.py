"""What holds for every test."""

import signal
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.load.build import build

# The same examples each time, however long a busy machine takes to make them up; fuzzing tries others (tests/fuzz).
settings.register_profile(
    "steady", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


def pytest_configure() -> None:
    """Take signals as a terminal gives them: a job in the background starts with SIGINT and SIGHUP ignored.

    What the tests start inherits it, and tests of interruptions would test nothing. And show a defect's trace plainly:
    to draw a frame around it, with all that was in hand, takes a busy machine minutes.
    """
    *before, _ = structlog.get_config()["processors"]
    shown = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*before, shown])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def load_program(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The compiled load, built when it is first asked for."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    return build(tmp_path_factory.mktemp("go") / "checkout", aside=capture.global_and_fixture_disabled)
