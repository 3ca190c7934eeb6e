"""The folder of a process's tunnels: private, gone with the process, and swept up after one that was killed."""

import fcntl
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.link.folder import Folder
from tests.operations.world import ROOT

HOLD = """
import sys, time
from broker.link.folder import Folder
folder = Folder()
folder.socket().touch()
print(folder.socket().parent, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made, here and in the processes of the test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def holder(place: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a folder, and that folder."""
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.parent == place
        yield process, folder
        process.kill()


def test_nobody_else_may_enter_and_no_path_comes_twice(place: Path) -> None:
    folder = Folder()
    first, second = folder.socket(), folder.socket()
    assert first != second
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    folder.close()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_removed(holder: tuple[subprocess.Popen[str], Path]) -> None:
    process, left = holder
    Folder().close()
    assert left.exists(), "its process lives"
    process.kill()
    process.wait()
    assert left.exists(), "it had no time to tidy up"
    Folder().close()
    assert not left.exists()


def test_what_is_not_a_folder_of_ours_is_left_alone(place: Path) -> None:
    other, file, link = place / "other", place / "broker-tunnel-file", place / "broker-tunnel-link"
    other.mkdir()
    (other / "kept").touch()
    file.touch()
    link.symlink_to(other)
    Folder().close()
    assert (other / "kept").exists()
    assert file.exists()
    assert link.is_symlink()


@pytest.mark.parametrize("late", [False, True], ids=["before it is opened", "before it is locked"])
def test_one_that_is_swept_away_while_it_is_made_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    make, lock, made = tempfile.mkdtemp, fcntl.flock, []

    def swept(**named: str) -> str:
        path = make(**named)
        made.append(path)
        if len(made) == 1 and not late:
            Path(path).rmdir()
        return path

    def locked(file: int, how: int) -> None:
        if len(made) == 1 and late:
            Path(made[0]).rmdir()
        lock(file, how)

    monkeypatch.setattr(tempfile, "mkdtemp", swept)
    monkeypatch.setattr(fcntl, "flock", locked)
    folder = Folder()
    assert folder.socket().parent == Path(made[1])
    folder.close()
    assert list(place.iterdir()) == []
