"""The supervisor: starts the two halves, joins them, starts again what dies, and ends both in order."""

import resource
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.supervisor.child import Child, describe, say
from broker.supervisor.control import ASK, FAILED, NO_CORE, READY
from broker.supervisor.user import Users

CONFIGURATION: Final = 78
STOP_WITHIN: Final = 10.0
LINK_AGAIN_AFTER: Final = 0.1
TOGETHER: Final = "issuer and door run as the same user, so the separation between them is not enforced"
_STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def supervise(config_path: Path | None, *, argv_for: Callable[[str], list[str]], users: Users | None = None) -> int:
    """Run issuer and door until SIGTERM, SIGINT or SIGHUP, or until one finds its configuration wrong.

    Args:
        config_path: handed to both as --config; None: nothing is handed.
        argv_for: the command of a role, "issuer" or "door"; --control-fd and --config are added to it.
        users: whom the halves run as, which only root can let them; None: as this process does.

    Returns:
        The exit status: 0 ended in order, 1 something had to be killed, 78 the configuration is wrong.

    """
    resource.setrlimit(resource.RLIMIT_CORE, NO_CORE)
    config = [] if config_path is None else ["--config", str(config_path)]
    with _signals() as wake:
        return _Supervisor(
            issuer=Child(
                role="issuer", argv=[*argv_for("issuer"), *config], user=None if users is None else users.issuer
            ),
            door=Child(role="door", argv=[*argv_for("door"), *config], user=None if users is None else users.door),
            wake=wake,
            separation=TOGETHER if users is None else str(users),
        ).run()


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Turn the signals that concern us into bytes on a socket, so that one `select` waits for everything."""
    reading, writing = socket.socketpair()
    reading.settimeout(0)
    writing.settimeout(0)
    # Under nohup a hang-up is ignored, and stays so.
    hangup = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    ours = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, *hangup)
    before = {number: signal.signal(number, lambda *_: None) for number in ours}
    old = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        reading.close()
        writing.close()


@dataclass(slots=True, kw_only=True)
class _Supervisor:
    issuer: Child
    door: Child
    wake: socket.socket
    separation: str
    link_at: float | None = None
    announced: bool = False
    stops: int = 0

    def run(self) -> int:
        status = 0
        try:
            while not self.stops and not status:
                status = self._step()
        finally:
            killed = self._stop()
        return status or int(killed)

    @property
    def children(self) -> tuple[Child, Child]:
        return self.issuer, self.door

    def _step(self) -> int:
        """Do what is due, then wait for the next thing to happen. Returns an exit status, or 0 to go on."""
        now = time.monotonic()
        for child in self.children:
            ended = child.ended
            # Only now, so that nothing that it said before its end is missed.
            self._listen(child, now)
            if ended and self._bury(child, now) == CONFIGURATION:
                return CONFIGURATION
            if child.kill_at is not None and child.kill_at <= now:
                child.kill_at = None
                child.signal(signal.SIGKILL)
        self._start_due(now)
        if self.link_at is not None and self.link_at <= now:
            self._join()
        self._wait(now)
        return 0

    def _bury(self, child: Child, now: float) -> int:
        """Reap a child, and say what becomes of it."""
        status = child.reap(now)
        if status == CONFIGURATION:
            say(f"the {child.role} cannot start: {child.failure or 'its configuration is wrong'}")
        else:
            seconds = max(0.0, (child.start_at or now) - now)
            say(f"the {child.role} {describe(status)}; it is started again in {seconds:.1f} s")
        return status

    def _start_due(self, now: float) -> None:
        for child in self.children:
            if child.start_at is None or child.start_at > now:
                continue
            try:
                child.start(now)
            except OSError as problem:
                child.start_at = now + child.backoff.after(0.0)
                say(f"the {child.role} cannot be run: {problem}")
            else:
                self.link_at = now

    def _join(self) -> None:
        """Give both halves the two ends of a new link; each drops the link it had."""
        self.link_at = None
        if not (self.issuer.running and self.door.running):
            return  # the one that is missing brings a link when it is started
        ends = socket.socketpair()
        try:
            for child, end in zip(self.children, ends, strict=True):
                child.give(end)
        finally:
            for end in ends:
                end.close()

    def _listen(self, child: Child, now: float) -> None:
        for message in child.messages(now):
            if message.startswith(READY):
                child.ready = _shown(message.removeprefix(READY)) or "ready"
                self._announce(child)
            elif message.startswith(FAILED):
                child.failure = _shown(message.removeprefix(FAILED))
            elif message == ASK and self.link_at is None:
                # Not at once: when the other half has just died, its restart brings the link.
                self.link_at = now + LINK_AGAIN_AFTER

    def _announce(self, child: Child) -> None:
        """Print the one line for people, once, when both halves serve; later only that one of them serves again."""
        if self.announced:
            say(f"the {child.role} serves again")
            return
        if not all(child.ready for child in self.children):
            return
        self.announced = True
        parts = [self.door.ready, self.issuer.ready, self.separation]
        print(f"broker: ready: {'; '.join(parts)}", flush=True)  # noqa: T201 -- the line that people wait for

    def _wait(self, now: float) -> None:
        times = [self.link_at, *(each for child in self.children for each in (child.start_at, child.kill_at))]
        due = [each for each in times if each is not None]
        self._select(max(0.0, min(due) - now) if due else None)

    def _select(self, timeout: float | None) -> None:
        """Wait until a signal or a message comes, or the time is up; count the signals that ask to stop."""
        sockets = [self.wake, *(child.control for child in self.children if child.control is not None)]
        with selectors.DefaultSelector() as selector:
            for each in sockets:
                selector.register(each, selectors.EVENT_READ)
            selector.select(timeout)
        try:
            while numbers := self.wake.recv(64):
                self.stops += sum(number in _STOPS for number in numbers)
        except BlockingIOError:
            pass

    def _stop(self) -> bool:
        """End the door, then the issuer; kill what does not end in time. Returns whether something was killed."""
        killed = False
        for child in (self.door, self.issuer):
            child.signal(signal.SIGTERM)
            if not self._ended(child, time.monotonic() + STOP_WITHIN):
                say(f"the {child.role} does not end; it is killed")
                child.signal(signal.SIGKILL)
                killed = True
                self._ended(child, None)
        return killed

    def _ended(self, child: Child, deadline: float | None) -> bool:
        """Wait for the end of a child; two more signals to stop mean that nobody wants to wait.

        One more means nothing: a terminal and a `make` above us may both have passed on the same wish.
        """
        patience = self.stops + 1
        while child.running:
            now = time.monotonic()
            for each in self.children:
                each.messages(now)
                if each.ended:
                    each.reap(now)
            if not child.running:
                break
            if deadline is not None and (now >= deadline or self.stops > patience):
                return False
            self._select(None if deadline is None else deadline - now)
        return True


def _shown(said: bytes) -> str:
    """Return what a half said, for people: a captured one has no say in how the terminal looks."""
    return "".join(each if each.isprintable() else "?" for each in said.decode(errors="replace"))
