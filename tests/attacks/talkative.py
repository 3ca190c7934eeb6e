"""Logs at their most talkative: both kinds of them, every level, with their traces."""

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from broker.app.logs import without_values


class _Kept(logging.Handler):
    """Keeps what is logged by whoever uses Python's own logging: libraries, the SDK, the validator."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, with its trace."""
        self._lines.append(self.format(record))


@contextmanager
def talkative() -> Iterator[list[str]]:
    """Keep every line as a log would show it; what production does to an exception is done here too."""
    lines: list[str] = []

    def captured(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        lines.append(repr(dict(event)))
        raise structlog.DropEvent

    before, root, kept = structlog.get_config(), logging.getLogger(), _Kept(lines)
    structlog.configure(
        processors=[structlog.processors.add_log_level, without_values, captured],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=False,
    )
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(kept)
    try:
        yield lines
    finally:
        root.removeHandler(kept)
        root.setLevel(level)
        structlog.configure(**before)
