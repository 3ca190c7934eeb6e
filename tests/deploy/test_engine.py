"""A Docker engine for one command: what stands in its way is said in one line, and nothing is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import engine

ROOT = Path(__file__).resolve().parents[2]
WORKS = "exit 0"
NO_ENGINE = 'case "$1" in compose) exit 0;; esac; echo "no engine" >&2; exit 1'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a PATH of nothing but programs made here, and a SPIRE that is none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("SPIRE_BIN_DIR", str(folder))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name, path=None: found(folder / name))  # noqa: ARG005
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("spire-server", "spire-agent"):
        program(folder, name, "echo 1.15.3")
    return folder


def found(path: Path) -> str | None:
    return str(path) if path.exists() else None


def program(folder: Path, name: str, does: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{does}\n")
    (folder / name).chmod(0o700)


def left_out(capfd: pytest.CaptureFixture[str], folder: Path) -> str:
    """Return why the command was not run, having seen that it was not, and that nothing else was said."""
    assert engine.main([sys.executable, "-c", f"open({str(folder / 'ran')!r}, 'w')"]) == 0
    assert not (folder / "ran").exists()
    assert not list(folder.parent.glob("engine-*"))
    told = capfd.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    return told.err.removeprefix("containers: left out, because ")


def test_without_docker(programs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert left_out(capfd, programs).startswith("there is no docker command (Debian: apt-get install ")


def test_without_compose(programs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program(programs, "docker", "exit 1")
    assert left_out(capfd, programs).startswith("there is no docker compose (")


def test_without_an_engine_and_without_dockerd(programs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program(programs, "docker", NO_ENGINE)
    assert left_out(capfd, programs).startswith("no engine answers, and there is no dockerd to start one (")


def test_without_an_engine_and_without_being_root(
    programs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs, "docker", NO_ENGINE)
    program(programs, "dockerd", WORKS)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert left_out(capfd, programs) == "no engine answers, and only root can start one.\n"


def test_a_dockerd_that_does_not_start(programs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program(programs, "docker", NO_ENGINE)
    program(programs, "dockerd", f'echo "$2" >> {programs}/tried; echo "may not mount"; exit 1')
    assert left_out(capfd, programs) == "dockerd does not start: may not mount.\n"
    assert (programs / "tried").read_text().split() == ["--storage-driver=overlay2", "--storage-driver=vfs"]


def test_a_dockerd_that_never_answers_is_ended(
    programs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs, "docker", NO_ENGINE)
    program(programs, "dockerd", f"echo $$ >> {programs}/tried; echo still thinking; exec /bin/sleep 600")
    monkeypatch.setattr(engine, "_START_SECONDS", 0.3)
    assert left_out(capfd, programs) == "dockerd does not start: still thinking.\n"
    pids = (programs / "tried").read_text().split()
    assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_an_engine_that_runs_nothing_of_this_machine(programs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program(programs, "docker", 'case "$1" in run) echo "no such file" >&2; exit 127;; esac')
    assert left_out(capfd, programs) == "the engine runs no container on this machine: no such file.\n"


def test_with_an_engine_the_commands_status_is_the_answer(
    programs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs, "docker", WORKS)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert engine.main([sys.executable, "-c", "import os; exit(7 + ('DOCKER_HOST' in os.environ))"]) == 7
    assert capfd.readouterr() == ("", "")


def test_an_older_compose_answers_as_the_plug_in(programs: Path) -> None:
    program(programs, "docker", 'case "$1" in compose) exit 1;; esac')
    program(programs, "docker-compose", 'echo "$@"')
    with engine.engine() as environment:
        plugin = Path(environment["DOCKER_CONFIG"]) / "cli-plugins/docker-compose"
        told = [
            subprocess.check_output([plugin, *words]) for words in (["docker-cli-plugin-metadata"], ["compose", "up"])
        ]
    assert told[0].startswith(b'{"SchemaVersion": "0.1.0"')
    assert told[1] == b"up\n"


def test_a_command_is_interrupted_and_waited_for(programs: Path) -> None:
    program(programs, "docker", WORKS)
    waits = "import signal\ntry: print('waits', flush=True); signal.pause()\nexcept KeyboardInterrupt: print('told')"
    run = [sys.executable, str(ROOT / "deploy/engine.py"), sys.executable, "-c", waits]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30)[0] == "told\n"
    assert process.returncode == 128 + signal.SIGTERM
