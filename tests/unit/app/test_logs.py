"""A defect's log line says where, never with what."""

import io
from typing import Any

import structlog

from broker.app.logs import configure_logs, without_values

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


def test_a_serving_process_logs_that_way(monkeypatch: Any) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    configure_logs()
    try:
        log = structlog.get_logger("test")
        try:
            fail(CANARY)
        except ValueError:
            log.exception("defect")
    finally:
        structlog.reset_defaults()
    assert "defect" in written.getvalue()
    assert "ValueError" in written.getvalue()
    assert CANARY not in written.getvalue()
