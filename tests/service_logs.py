"""What a serving process writes on standard error, as production sets it up."""

import io
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog

from broker.app.logs import configure_logs


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Give what is written; afterwards the tests' own logging is as it was."""
    root, lines, before = logging.getLogger(), io.StringIO(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()  # those of the tests' own
    monkeypatch.setattr("sys.stderr", lines)
    for owner, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    configure_logs()
    yield lines
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)
