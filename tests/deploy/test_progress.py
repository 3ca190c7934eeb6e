"""Progress of long steps, on a terminal and in a log."""

import io
import time
from collections.abc import Callable

import pytest

from deploy.progress import duration, step


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def await_that(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (59.6, "1 min 00 s"), (245, "4 min 05 s")]
)
def test_duration_reads_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_whole_lines_only() -> None:
    stream = io.StringIO()
    with step("Building", stream=stream, seconds_between_lines=0.02) as current:
        current.update(5, 10, "a/package")
        await_that(lambda: "5/10" in stream.getvalue())
    lines = stream.getvalue().splitlines()
    assert lines[0] == "Building ..."
    assert lines[1].endswith("5/10 (50 %)  a/package")
    assert lines[-1].startswith("Building: done in ")
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_one_line_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with step("Building", stream=stream) as current:
        current.update(5, 10)
        await_that(lambda: "############------------" in stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert "############------------" in stream.getvalue()
    assert "\x1b[36m" in stream.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with step("Building", stream=stream):
        pass
    assert "\x1b[3" not in stream.getvalue()


def test_a_failed_step_says_so_and_lets_the_error_through() -> None:
    stream = io.StringIO()
    with pytest.raises(LookupError), step("Building", stream=stream):
        raise LookupError
    assert "Building: failed after" in stream.getvalue()


def test_a_reader_who_went_away_does_not_end_the_work() -> None:
    stream = io.StringIO()
    with step("Building", stream=stream):
        stream.close()
