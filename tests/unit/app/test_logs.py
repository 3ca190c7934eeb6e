"""A defect's log line says where, never with what."""

import io
import logging
import sys
import threading
from typing import Any

import pytest
import structlog

from broker.app.logs import without_values
from tests.service_logs import written

__all__ = ["written"]

CANARY = "canary-eyJhbGciOiJFUzI1NiJ9"


def fail(secret: str) -> None:
    value = {"secret": secret}
    raise ValueError(f"cannot use {value}")


def test_neither_a_local_variable_nor_a_message_is_logged() -> None:
    try:
        fail(CANARY)
    except ValueError as problem:
        event: Any = without_values(None, "error", {"event": "defect", "exc_info": problem})
    assert CANARY not in repr(event)
    assert event["exception"] == "ValueError"
    assert "test_logs.py" in event["at"]
    assert "fail" in event["at"]


def test_a_serving_process_logs_that_way(written: io.StringIO) -> None:
    log = structlog.get_logger("test")
    try:
        fail(CANARY)
    except ValueError:
        log.exception("defect")
    assert "defect" in written.getvalue()
    assert "ValueError" in written.getvalue()
    assert CANARY not in written.getvalue()


def end_badly() -> None:
    thread = threading.Thread(target=fail, args=(CANARY,))
    thread.start()
    thread.join()


class Leaving:
    """Something that fails when it goes."""

    def __del__(self) -> None:
        fail(CANARY)


def raise_to_the_top() -> None:
    try:
        fail(CANARY)
    except ValueError as problem:
        sys.excepthook(ValueError, problem, problem.__traceback__)


@pytest.mark.parametrize("happens", [end_badly, Leaving, raise_to_the_top])
def test_what_nobody_catches_comes_without_its_values(written: io.StringIO, happens: Any) -> None:
    happens()
    assert "nobody caught this" in written.getvalue()
    assert "exception='ValueError'" in written.getvalue()
    assert "test_logs.py" in written.getvalue()
    assert CANARY not in written.getvalue()


@pytest.mark.parametrize("level", [logging.WARNING, 35, logging.CRITICAL, 60])
def test_whatever_level_a_library_logs_at_nothing_ends(written: io.StringIO, level: int) -> None:
    logging.getLogger("library").log(level, "a line")
    assert "a line" in written.getvalue()
