"""The supervisor with real processes: what dies is started again and joined, and nothing is left behind."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from broker.supervisor.child import MOST_AT_ONCE, Backoff, Child

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATIENCE = 90.0


@dataclass(slots=True, kw_only=True)
class Run:
    """A supervisor, and what its halves have reported."""

    process: "subprocess.Popen[str]"
    reports: socket.socket
    told: list[tuple[str, int, str]] = field(default_factory=list)

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Read reports until the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{what}; reported: {self.told}"
            if select.select([self.reports], [], [], 0.02)[0]:
                role, pid, text = self.reports.recv(4096).decode().split(" ", 2)
                self.told.append((role, int(pid), text))

    def pids(self, role: str) -> list[int]:
        return [pid for who, pid, text in self.told if who == role and text.startswith("started")]

    def linked(self, one: int, other: int) -> bool:
        """Whether both have heard from each other."""
        heard = {(pid, text) for _, pid, text in self.told}
        return {(one, f"linked {other}"), (other, f"linked {one}")} <= heard

    def until_linked(self, starts: tuple[int, int]) -> tuple[int, int]:
        """Wait for so many starts of issuer and door, and for the newest of both to be linked; return their pids."""

        def reached() -> bool:
            issuers, doors = self.pids("issuer"), self.pids("door")
            return (len(issuers), len(doors)) == starts and self.linked(issuers[-1], doors[-1])

        self.until(f"linked after {starts} starts", reached)
        return self.pids("issuer")[-1], self.pids("door")[-1]

    def until_all_gone(self) -> None:
        pids = [pid for _, pid, text in self.told if text.startswith("started")]
        assert pids
        self.until("every process gone", lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie (ours are reaped by whoever adopts them)."""
    try:
        return not re.search(r"^State:\s+[ZX]", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def supervisor(tmp_path: Path, issuer: str = "well", door: str = "well") -> Iterator[Run]:
    address = str(tmp_path / "reports")
    reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    reports.bind(address)
    process = subprocess.Popen(
        [sys.executable, str(HERE / "run_supervisor.py"), address, issuer, door],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
    )
    run = Run(process=process, reports=reports)
    try:
        yield run
    finally:
        process.kill()
        process.communicate()
        reports.close()


def end(run: Run, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    run.process.send_signal(number)
    run.until("supervisor ends", lambda: run.process.poll() is not None)
    out, err = run.process.communicate()
    run.until_all_gone()
    return run.process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda each: each.name)
def test_it_starts_both_joins_them_and_ends_the_door_before_the_issuer(tmp_path: Path, number: signal.Signals) -> None:
    with supervisor(tmp_path) as run:
        run.until_linked((1, 1))
        assert run.process.stdout is not None
        out = run.process.stdout.readline()
        status, rest, err = end(run, number)
    assert (status, rest, err) == (0, "", "")
    line = "broker: ready: the door is up; the issuer is up; issuer and door run as the same user, so the separation"
    assert out.splitlines() == [f"{line} between them is not enforced"]
    assert [who for who, _, text in run.told if text == "told to end"] == ["door", "issuer"]
    started = [text for _, _, text in run.told if text.startswith("started")]
    assert started == ["started core=1,1 grpc=False config=/tmp/x.toml"] * 2


def test_a_half_has_no_say_in_how_the_terminal_looks(tmp_path: Path) -> None:
    with supervisor(tmp_path, door="painted") as run:
        run.until_linked((1, 1))
        assert run.process.stdout is not None
        assert run.process.stdout.readline().startswith("broker: ready: the door is ?[31m?up; the issuer is up; ")
        assert end(run)[0] == 0


class Talkative:
    """A control socket with always one more message."""

    def recv(self, _: int) -> bytes:
        return b"ask"


def test_a_half_that_talks_on_is_heard_for_a_while_only() -> None:
    child = Child(role="door", argv=[], control=cast(socket.socket, Talkative()))
    assert len(child.messages(0.0)) == MOST_AT_ONCE


@pytest.mark.parametrize("role", ["issuer", "door"])
def test_a_half_that_is_killed_is_started_again_and_joined(tmp_path: Path, role: str) -> None:
    with supervisor(tmp_path) as run:
        pids = dict(zip(("issuer", "door"), run.until_linked((1, 1)), strict=True))
        os.kill(pids[role], signal.SIGKILL)
        starts = (2, 1) if role == "issuer" else (1, 2)
        again = dict(zip(("issuer", "door"), run.until_linked(starts), strict=True))
        survivor = "door" if role == "issuer" else "issuer"
        assert again[survivor] == pids[survivor]
        # The survivor has heard that its old link ended.
        gone = (survivor, pids[survivor], f"unlinked {pids[role]}")
        run.until("the old link is dropped", lambda: gone in run.told)
        status, _, err = end(run)
    assert status == 0
    assert f"broker: the {role} was ended by SIGKILL; it is started again in 0.1 s" in err


def test_both_killed_at_once_are_started_again_and_joined(tmp_path: Path) -> None:
    with supervisor(tmp_path) as run:
        for pid in run.until_linked((1, 1)):
            os.kill(pid, signal.SIGKILL)
        run.until_linked((2, 2))
        assert end(run)[0] == 0


def test_a_supervisor_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    with supervisor(tmp_path, issuer="stubborn", door="stubborn") as run:
        run.until_linked((1, 1))
        assert all(alive(pid) for _, pid, _ in run.told)
        run.process.kill()
        run.process.wait()
        run.until_all_gone()


@pytest.mark.parametrize("role", ["issuer", "door"])
def test_a_wrong_configuration_ends_it_all_with_its_message(tmp_path: Path, role: str) -> None:
    with supervisor(tmp_path, **{role: "misconfigured"}) as run:
        run.until("supervisor ends", lambda: run.process.poll() is not None)
        out, err = run.process.communicate()
        assert run.process.returncode == 78
        assert out == ""
        assert err == f"broker: the {role} cannot start: no such key: [lisen]\n"
        assert len(run.pids(role)) <= 1


def test_a_status_is_waited_for_when_the_control_socket_ends_before_the_process(tmp_path: Path) -> None:
    # The other half dies meanwhile, so that a link is made while this one is between its last word and its end.
    with supervisor(tmp_path, issuer="dies", door="hesitant") as run:
        run.until("supervisor ends", lambda: run.process.poll() is not None)
        _, err = run.process.communicate()
    assert run.process.returncode == 78
    assert err.endswith("broker: the door cannot start: no such key: [lisen]\n")
    assert len(run.pids("door")) == 1
    assert len(run.pids("issuer")) > 1


def test_a_half_that_closes_its_control_socket_and_goes_on_is_replaced(tmp_path: Path) -> None:
    with supervisor(tmp_path, door="dead-eared") as run:
        run.until("second door", lambda: len(run.pids("door")) == 2)
        _, _, err = end(run)
    assert "broker: the door was ended by SIGKILL" in err


def test_a_half_that_dies_at_once_is_started_again_with_longer_pauses(tmp_path: Path) -> None:
    with supervisor(tmp_path, door="dies") as run:
        run.until("four starts", lambda: len(run.pids("door")) == 4)
        _, out, err = end(run)
    assert re.findall(r"ended with status 3; it is started again in ([\d.]+) s", err)[:3] == ["0.1", "0.2", "0.4"]
    assert out == ""
    assert len(run.pids("issuer")) == 1


def test_a_program_that_cannot_be_run_is_said_and_tried_again(tmp_path: Path) -> None:
    with supervisor(tmp_path, door="missing") as run:
        run.until("issuer starts", lambda: len(run.pids("issuer")) == 1)
        status, _, err = end(run)
    assert status == 0
    assert "broker: the door cannot be run: " in err


def test_a_half_that_ignores_sigterm_is_killed_when_nobody_wants_to_wait(tmp_path: Path) -> None:
    with supervisor(tmp_path, door="stubborn") as run:
        run.until_linked((1, 1))
        run.process.send_signal(signal.SIGTERM)
        run.until("door told", lambda: any(who == "door" and text == "told to end" for who, _, text in run.told))
        assert run.process.poll() is None
        # Two different ones: two of a kind may arrive as one.
        run.process.send_signal(signal.SIGINT)
        run.process.send_signal(signal.SIGHUP)
        run.until("supervisor ends", lambda: run.process.poll() is not None)
        status, (_, err) = run.process.returncode, run.process.communicate()
        run.until_all_gone()
    assert status == 1
    assert "broker: the door does not end; it is killed" in err


def test_the_pause_doubles_to_a_bound_and_starts_over_after_a_healthy_life() -> None:
    backoff = Backoff()
    assert [backoff.after(0.0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.after(29.9) == 5.0
    assert [backoff.after(30.0), backoff.after(0.0)] == [0.1, 0.2]


def test_the_supervisor_does_not_load_grpc() -> None:
    check = "import broker.supervisor, sys; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0
