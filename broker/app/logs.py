"""Logs: one line an event on stderr, key=value. An error's trace is where it happened, never with what."""

import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog


class Unfailing:
    """A stream whose failures end nothing: a full disk under the log must not take the broker with it.

    Args:
        stream: where lines go; those that it does not take are lost.

    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or lose, the text."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush as far as it goes."""
        with suppress(OSError, ValueError):
            self._stream.flush()


class Libraries(logging.Handler):
    """Takes what libraries log by Python's own logging into the same lines.

    Its default prints an exception with its message, and asyncio what a lost task had in hand: of those only the first
    line of the text, the type and the places are kept.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line. Whatever is wrong with a record, logging it ends nothing."""
        try:
            first = record.getMessage().partition("\n")[0]
        except Exception:  # noqa: BLE001 - arguments that do not fit, or that cannot be shown
            first = "a line that cannot be shown"
        log = structlog.get_logger(record.name)
        level = min(record.levelno // 10 * 10, logging.CRITICAL)  # of those between, structlog knows none
        log.log(level, first, logger=record.name, exc_info=record.exc_info[1] if record.exc_info else None)


def configure_logs() -> None:
    """Set up structlog, and Python's logging after it, for a serving process.

    The default would print the local variables of each frame, and so tokens and keys.
    """
    logging.basicConfig(handlers=[Libraries()], level=logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            without_values,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=cast(TextIO, Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    # Python's own print the message of what nobody caught: of the process, of a thread, of an object that goes.
    sys.excepthook = lambda _kind, problem, _trace: _uncaught(problem)
    threading.excepthook = lambda args: _uncaught(args.exc_value)
    sys.unraisablehook = lambda args: _uncaught(args.exc_value)


def _uncaught(problem: BaseException | None) -> None:
    structlog.get_logger().error("nobody caught this", exc_info=problem)


def without_values(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace exc_info by the type of the exception and the places it came through; its message may hold a value."""
    problem = event.pop("exc_info", None)
    if problem is True:
        problem = sys.exc_info()[1]
    if isinstance(problem, BaseException):
        frames = traceback.extract_tb(problem.__traceback__)
        event["exception"] = type(problem).__name__
        event["at"] = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    return event
