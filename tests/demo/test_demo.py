"""`make demo` on a real SPIRE: it does what it says, tells no token, and leaves nothing, however it ends."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from deploy.spire.build import find_binaries

pytestmark = pytest.mark.spire

ROOT = Path(__file__).resolve().parents[2]
MARK = "SUPPORT_DESK_DEMO"
# Three base64url parts, the first one a JOSE header: what no output may hold.
RAW_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")
STEPS = 19
PATIENCE = 180.0
SEED = 20_260
MOMENTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """One run of the demonstration in a temporary directory of its own."""

    process: subprocess.Popen[str]
    temporary: Path

    def marked(self) -> list[int]:
        """Return every process that the demonstration started, and itself."""
        wanted = f"{MARK}={self.temporary}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                if wanted in entry.read_bytes():
                    found.append(int(entry.parent.name))
            except OSError:
                continue
        return found

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def output(self) -> str:
        """Return what it has said, once it has ended."""
        told, _ = self.process.communicate(timeout=PATIENCE)
        return told


class Start(Protocol):
    """Starts a demonstration, in a temporary directory that it alone uses unless one is named."""

    def __call__(self, temporary: Path | None = None) -> Demo: ...


@pytest.fixture
def begin() -> Iterator[Start]:
    """Give what starts a demonstration as `make demo` does; none is left when the test ends."""
    find_binaries()  # a build is not what is tested here
    begun: list[Demo] = []
    folders = ExitStack()

    def start(temporary: Path | None = None) -> Demo:
        # Short, as sockets below it have to be.
        temporary = temporary or Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
        process = subprocess.Popen(
            [sys.executable, "examples/support-desk/demo.py"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": ".", "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        begun.append(Demo(process=process, temporary=temporary))
        return begun[-1]

    with folders:
        yield start
        for demo in begun:
            demo.kill()


def await_that(holds: Callable[[], bool], *, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ports_in(output: str) -> list[int]:
    return [int(port) for port in re.findall(r"(?:on port |127\.0\.0\.1:)(\d+)", output)]


def holds_token(output: str) -> bool:
    """Whether there is a token in it, also one that is broken over lines."""
    return RAW_TOKEN.search("".join(output.split())) is not None


def require_nothing_left(demo: Demo, output: str) -> None:
    assert demo.marked() == []
    assert list(demo.temporary.iterdir()) == []
    assert [port for port in ports_in(output) if listens(port)] == []
    assert str(demo.temporary) not in Path("/proc/self/mountinfo").read_text()


def test_every_step_does_what_it_says_and_nothing_is_left(begin: Start) -> None:
    demo = begin()
    output = demo.output()
    assert demo.process.returncode == 0, output
    assert re.findall(r"^ *(\d+)  \S", output, flags=re.MULTILINE)[:STEPS]
    assert f"All {STEPS} steps did what they say" in output
    for told in (
        "order-readers-may-look-up-orders",
        "TOKEN_HOLDER_MISMATCH",
        "no-refund-beyond-limit",
        "POLICY_NOT_PERMITTED",
        "TOKEN_REVOKED",
        "ms after the call to revoke",
        "held by policy large-refund-when-approved",
        "A person has to approve this first.",
        "refused: CREDENTIAL_SPENT; it was paid once",
        "TASK_BOUNDARY_EXCEEDED",
        "refused: TASK_SUSPENDED",
        "now suspended: nothing is given in it",
        "held by policy address-change-when-the-customer-confirms",
        "This needs your own yes first.",
        "a yes by another customer of the same chat: APPROVAL_UNKNOWN",
        "order 1230 goes there",
        "refund-1233-2",
        "vouches for",
        "NOT intact",
        "12 of 12",
        "0 of 12",
    ):
        assert told in " ".join(output.split()), told
    assert not holds_token(output)
    assert "\x1b[" not in output, "colour is for terminals"
    assert len(ports_in(output)) >= 3, "the check for open ports has something to look at"
    require_nothing_left(demo, output)


def test_the_patterns_of_these_tests_find_what_they_look_for() -> None:
    assert holds_token("token: eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZ2VudCJ9.MEUCIQDxmZ4J8s")
    assert holds_token("token: eyJhbGciOiJFUzI1\n     NiJ9.eyJzdWIiOiJh\n     Z2VudCJ9.MEUCIQDxmZ4J8s")
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listens(server.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_interrupted_at_a_random_instant_it_leaves_nothing(begin: Start, number: signal.Signals, moment: int) -> None:
    demo = begin()
    # From the start of SPIRE to about the end; the same instants in every run, so that a failure can be repeated.
    seconds = random.Random(SEED + moment).uniform(0.3, 5.0)  # noqa: S311  not for secrets
    try:
        demo.process.wait(seconds)
    except subprocess.TimeoutExpired:
        demo.process.send_signal(number)
    output = demo.output()
    assert demo.process.returncode in (0, 128 + number), output
    assert "Traceback" not in output
    require_nothing_left(demo, output)


def test_killed_in_the_middle_it_leaves_no_process_and_the_next_run_removes_its_files(begin: Start) -> None:
    demo = begin()
    await_that(lambda: len(demo.marked()) >= 8, what="SPIRE and the broker are up")
    demo.kill()
    await_that(lambda: demo.marked() == [], what="every process dies with the demonstration")
    (left,) = demo.temporary.iterdir()
    following = begin(demo.temporary)
    await_that(lambda: not left.exists(), what="the next run removes what is left")
    following.process.send_signal(signal.SIGINT)
    require_nothing_left(following, following.output())


def test_a_run_beside_it_leaves_a_running_one_alone(begin: Start) -> None:
    first = begin()
    await_that(lambda: len(first.marked()) >= 2, what="the first one is under way")
    second = begin(first.temporary)
    for demo in (first, second):
        output = demo.output()
        assert demo.process.returncode == 0, output
    require_nothing_left(first, "")
