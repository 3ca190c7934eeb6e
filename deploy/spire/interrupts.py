"""Signals that end a program, turned into exceptions, so that what was begun is cleared away."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(SystemExit):
    """SIGTERM or SIGHUP arrived. Uncaught, the process ends with the status a shell would show."""

    def __init__(self, number: int) -> None:
        """Remember which signal it was."""
        super().__init__(128 + number)
        self.number = number


def _taken_by(number: int) -> "Interrupts | None":
    owner = getattr(signal.getsignal(number), "__self__", None)
    return owner if isinstance(owner, Interrupts) else None


class Interrupts:
    """While entered, an ending signal raises in the main thread, and can be held back for a moment.

    Entered inside another, it is that other one: what is held there is held here. A signal the
    program ignores, or handles itself, is left alone. Outside the main thread nothing is changed,
    because Python delivers signals to the main thread only.
    """

    def __init__(self) -> None:
        """Nothing is held and nothing is pending."""
        self._replaced: dict[signal.Signals, signal._HANDLER] = {}
        self._holding = 0
        self._pending: int | None = None

    def __enter__(self) -> "Interrupts":  # noqa: PYI034  not always itself
        """Take over the signals that would otherwise end the process at once."""
        outer = next(filter(None, map(_taken_by, _ENDING)), None)
        if outer:
            return outer
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                current = signal.getsignal(number)
                if current in (signal.SIG_DFL, signal.default_int_handler):
                    self._replaced[number] = current
                    signal.signal(number, self._arrived)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._replaced.items():
            signal.signal(number, handler)
        self._replaced.clear()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put off an interruption until the block has ended: for what must not be left half done."""
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1
            self._deliver()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside ``held``, let interruptions through again for a while: cleaning up stays held."""
        holding, self._holding = self._holding, 0
        try:
            self._deliver()
            yield
        finally:
            self._holding += holding

    def _deliver(self) -> None:
        if not self._holding and self._pending is not None:
            number, self._pending = self._pending, None
            self._raise(number)

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        if self._holding:
            self._pending = number
        else:
            self._raise(number)

    @staticmethod
    def _raise(number: int) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else Interrupted(number)
