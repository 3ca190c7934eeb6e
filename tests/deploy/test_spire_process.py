"""Processes on record: what is ours is ended, what only looks like it is left alone."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.spire import deployment, launch
from deploy.spire.errors import DeployError
from deploy.spire.interrupts import Interrupted, Interrupts
from deploy.spire.process import Daemon, Process

SLEEP = ("/bin/sleep", "60")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(command=SLEEP, log=tmp_path / "it.log", record=tmp_path / "it.pid")
    yield made
    made.end(kill=True)


def test_begun_recorded_and_ended(daemon: Daemon) -> None:
    daemon.begin(detached=False)
    process = daemon.process()
    assert process
    assert os.getsid(process.pid) == process.pid
    assert daemon.end()
    assert not process.alive()
    assert not daemon.record.exists()
    assert not daemon.end()


def test_one_that_will_not_start_shows_why(tmp_path: Path) -> None:
    missing = Daemon(command=(str(tmp_path / "none"),), log=tmp_path / "log", record=tmp_path / "no-such" / "pid")
    with pytest.raises(DeployError, match="cannot start"):
        missing.begin(detached=True)


def test_one_that_ends_while_it_is_looked_for_has_started(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    look = os.waitpid
    monkeypatch.setattr(os, "waitpid", lambda pid, _options: look(pid, 0))  # an answer that comes when all is over
    dataclasses.replace(daemon, command=("/bin/true",)).begin(detached=False)
    assert daemon.process() is None


def test_a_number_used_again_is_somebody_else(daemon: Daemon) -> None:
    daemon.begin(detached=True)
    process = daemon.process()
    assert process
    for other in (dataclasses.replace(process, started=process.started - 1), dataclasses.replace(process, boot="old")):
        assert not other.alive()
        assert not other.end()
    assert process.alive()


def test_stop_leaves_a_stranger_with_our_number_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEP)
    try:
        record = tmp_path / "example.org" / "agent.pid"
        record.parent.mkdir()
        record.write_text(json.dumps({"pid": stranger.pid, "started": 1, "boot": launch.boot_id()}))
        assert deployment.stop(tmp_path) == 0
        assert stranger.poll() is None
        assert not record.exists()
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "started": 1, "boot": ""}'])
def test_a_record_nobody_understands_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "it.pid").write_text(text)
    assert Process.recorded(tmp_path / "it.pid") is None
    assert Process.recorded(tmp_path / "missing.pid") is None


def orphan(daemon: Daemon, *, once_it_says: str = "") -> None:
    """Have the daemon begun by a process that is then killed, and wait until the daemon has ended too."""
    program = (
        "import os, signal; from pathlib import PosixPath; from deploy.spire.process import Daemon;"
        f"begun = Daemon(command={daemon.command!r}, log={daemon.log!r}, record={daemon.record!r},"
        f"death_signal=signal.Signals({int(daemon.death_signal)}))\n"
        f"begun.begin(detached=False)\nwhile {once_it_says!r} not in begun.tail(): pass\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(deployment.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == -signal.SIGKILL
    deadline = time.monotonic() + 5
    while daemon.process() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert daemon.record.exists()
    assert daemon.process() is None


def test_a_child_dies_with_a_parent_that_is_killed(daemon: Daemon) -> None:
    orphan(daemon)


def test_a_child_that_has_to_clear_away_is_asked_to_end(daemon: Daemon) -> None:
    waits = "trap 'echo asked; exit' TERM; echo up; while :; do /bin/sleep 0.02; done"
    command = ("/bin/sh", "-c", waits)
    orphan(dataclasses.replace(daemon, command=command, death_signal=signal.SIGTERM), once_it_says="up")
    assert daemon.tail() == "up\nasked"


def signal_myself(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python runs handlers between its instructions


def test_signals_become_exceptions() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught, Interrupts():
        signal_myself(signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_interruption_waits_for_what_must_not_be_left_half_done() -> None:
    done: list[str] = []

    def work() -> None:
        with Interrupts(), Interrupts() as inner, inner.held():
            signal_myself(signal.SIGINT)
            done.append("to the end")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done


def test_clearing_away_is_not_disturbed_by_a_second_interruption() -> None:
    cleared: list[str] = []

    def work() -> None:
        with Interrupts() as interrupts, interrupts.held():
            try:
                with interrupts.allowed():
                    signal_myself(signal.SIGINT)
                    cleared.append("too early")
            finally:
                signal_myself(signal.SIGINT)
                cleared.append("all")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert cleared == ["all"]
