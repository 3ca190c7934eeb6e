"""What holds for every test."""

import signal


def pytest_configure() -> None:
    """Take signals as a terminal gives them: a job in the background starts with SIGINT and SIGHUP ignored.

    What the tests start inherits it, and tests of interruptions would test nothing.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
