"""One child: started, spoken to over its control socket, ended."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from broker.supervisor.control import LINK, MAX_MESSAGE
from broker.supervisor.user import User

FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 5.0
HEALTHY_AFTER: Final = 30.0
ENDS_WITHIN: Final = 5.0

# More than a control socket holds, so that a half that has ended is heard out, and one that talks on keeps nobody busy.
MOST_AT_ONCE: Final = 1024

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


@dataclass(slots=True, kw_only=True)
class Backoff:
    """How long to wait before a child is started again: doubles with each death, until one has lived for a while."""

    _delay: float = FIRST_DELAY

    def after(self, lived: float) -> float:
        """Return the seconds to wait after a child that lived for `lived` seconds."""
        delay = FIRST_DELAY if lived >= HEALTHY_AFTER else self._delay
        self._delay = min(delay * 2, LONGEST_DELAY)
        return delay


@dataclass(slots=True, kw_only=True)
class Child:
    """One of the two halves, across its restarts.

    Attributes:
        role: "issuer" or "door".
        argv: what starts it, without --control-fd.
        user: whom it runs as; None: as this process does.
        ready: what it said when it was ready; empty until then.
        failure: what it said is wrong with its configuration; may be empty.
        start_at: monotonic time at which it is due to be started; None while it runs.
        kill_at: monotonic time at which it is ended by force, because it closed its control socket and went on.

    """

    role: str
    argv: list[str]
    user: User | None = None
    ready: str = ""
    failure: str = ""
    start_at: float | None = 0.0
    kill_at: float | None = None
    started_at: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    control: socket.socket | None = None
    backoff: Backoff = field(default_factory=Backoff)

    @property
    def running(self) -> bool:
        """Whether there is a process that has not been reaped."""
        return self.process is not None

    def start(self, now: float) -> None:
        """Start it.

        Raises:
            OSError: the program cannot be run.

        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.process = _spawn(self.argv, theirs, self.user)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(0)
        self.control, self.ready, self.failure = ours, "", ""
        self.start_at, self.kill_at, self.started_at = None, None, now

    @property
    def ended(self) -> bool:
        """Whether there is a process that has ended and waits to be reaped; it says nothing more from here on."""
        return self.process is not None and self.process.poll() is not None

    def reap(self, now: float) -> int:
        """Return the exit status of the process that has ended (negative: the signal); set when to start it again."""
        status = self.process.wait() if self.process is not None else 0
        self.process = self.kill_at = None
        self._close_control()
        self.start_at = now + self.backoff.after(now - self.started_at)
        return status

    def messages(self, now: float) -> list[bytes]:
        """Return what it has said since the last time, or the first of it."""
        said: list[bytes] = []
        while self.control is not None and len(said) < MOST_AT_ONCE:
            try:
                message = self.control.recv(MAX_MESSAGE)
            except BlockingIOError:
                break
            except ConnectionError:
                # Told once, when it ended with a message of ours unread; what it had said comes after that.
                continue
            if not message:
                # It has closed its end, or ended; reaping tells which.
                self._close_control()
                self.kill_at = now + ENDS_WITHIN
                break
            said.append(message)
        return said

    def give(self, link: socket.socket) -> None:
        """Hand it one end of a link.

        One that has closed its control socket is about to end, maybe with something to say by its status: it is left
        alone, and its restart brings a link. One that has not read hundreds of messages will never end by itself.
        """
        if self.control is None:
            return
        try:
            socket.send_fds(self.control, [LINK], [link.fileno()])
        except BlockingIOError:
            self.signal(signal.SIGKILL)
        except OSError:
            pass  # it is ending; reaping tells how

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self.process is not None:
            self.process.send_signal(number)

    def _close_control(self) -> None:
        if self.control is not None:
            self.control.close()
            self.control = None


def _spawn(argv: list[str], control: socket.socket, user: User | None) -> subprocess.Popen[bytes]:
    """Start a process that dies with this one, in a session of its own.

    So Ctrl-C reaches us alone, and a captured half of another user cannot type into our terminal (ioctl_tty(2)).
    """
    parent = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def bound() -> None:
        # Popen has changed the user before this runs, which it has to: that would take back the signal (prctl(2)).
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # no program that it could start is root's by its mode
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(
        [*argv, "--control-fd", str(control.fileno())],
        stdin=subprocess.DEVNULL,
        pass_fds=[control.fileno()],
        start_new_session=True,
        # Groups, then setregid, then setreuid, each with both ids, which sets the saved one too: there is no way back.
        extra_groups=None if user is None else user.groups,
        group=None if user is None else user.gid,
        user=None if user is None else user.uid,
        preexec_fn=bound,  # noqa: PLW1509 -- this process has one thread
    )


def describe(status: int) -> str:
    """Return how a child ended, for people."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def say(text: str) -> None:
    """Tell people what happens, on stderr. When nobody can be told, it happens all the same."""
    with suppress(OSError):
        print(f"broker: {text}", file=sys.stderr, flush=True)  # noqa: T201 -- the supervisor has no log of its own
