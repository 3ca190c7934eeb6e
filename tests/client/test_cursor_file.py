"""A bookmark in a file: whole or not at all, for one subscriber at a time."""

import asyncio
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.client import BookmarkInvalid, CursorFile, CursorUnusable
from broker.client.bookmark import Bookmark

ONE = Bookmark(cursor="one.cursor", start=1, position=1).text
TWO = Bookmark(cursor="two.cursor", start=2, position=2).text


def modes_in(folder: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}


async def test_what_was_saved_is_there_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    with CursorFile(path) as cursors:
        assert await cursors.load() == ""
        for text in (ONE, TWO):
            await cursors.save(text)
            assert await cursors.load() == text
    with CursorFile(path) as cursors:
        assert await cursors.load() == TWO
    assert path.read_text() == TWO + "\n"
    assert modes_in(tmp_path) == {"cursor": 0o600, "cursor.lock": 0o600}


async def test_a_mode_that_lets_others_in_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    for each in (path, tmp_path / "cursor.new"):
        each.write_text("")
        each.chmod(0o666)
    with CursorFile(path) as cursors:
        await cursors.save(ONE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_one_file_serves_one_subscriber(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    with CursorFile(path) as held, pytest.raises(CursorUnusable, match="another subscriber"), CursorFile(path):
        pass
    with pytest.raises(CursorUnusable, match="enter the CursorFile"):
        await held.save(ONE)
    with pytest.raises(CursorUnusable, match="enter the CursorFile"):
        await held.load()
    with CursorFile(path):  # given back
        pass


HOLDER = """
import sys
import threading
from broker.client import CursorFile
with CursorFile(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    argv = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(CursorUnusable, match="another subscriber"), CursorFile(path):
            pass
        other.kill()
        other.wait()
    with CursorFile(path):
        pass


FOREIGN = {
    "empty": b"",
    "cut": ONE.encode()[:-3],
    "a-plain-cursor": b"eyJ.abc\n",
    "binary": b"\xff\x00\xfe",
    "huge": b"{" * 100_000,
    "two": (ONE + "\n" + TWO + "\n").encode(),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
async def test_what_is_no_bookmark_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cursor"
    path.write_bytes(content)
    with CursorFile(path) as cursors:
        with pytest.raises(BookmarkInvalid, match="Name another file") as refused:
            await cursors.load()
        assert str(path) in str(refused.value)
        assert path.read_bytes() == content
        await cursors.save(ONE)  # the control
        assert await cursors.load() == ONE


async def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "target").write_text(ONE + "\n")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder"):
        with CursorFile(tmp_path / name) as cursors, pytest.raises(CursorUnusable, match=name):
            await cursors.load()
    with CursorFile(tmp_path / "folder") as cursors, pytest.raises(CursorUnusable, match="folder"):
        await cursors.save(ONE)
    (tmp_path / "trap.new").symlink_to(tmp_path / "target")
    with CursorFile(tmp_path / "trap") as cursors, pytest.raises(CursorUnusable, match="trap"):
        await cursors.save(TWO)
    assert (tmp_path / "target").read_text() == ONE + "\n"
    with pytest.raises(CursorUnusable, match="absent"), CursorFile(tmp_path / "absent" / "cursor"):
        pass


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process grow: what a write meets then is what it meets on a full disk (EFBIG for ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_on_a_full_disk_the_bookmark_before_stands(tmp_path: Path) -> None:
    with CursorFile(tmp_path / "cursor") as cursors:
        await cursors.save(ONE)
        with full_disk(), pytest.raises(CursorUnusable, match="too large"):
            await cursors.save(TWO)
        assert await cursors.load() == ONE
        await cursors.save(TWO)  # and with room again it goes on
        assert await cursors.load() == TWO


async def test_it_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        done.append("file" if stat.S_ISREG(os.fstat(descriptor).st_mode) else "directory")
        real_sync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    with CursorFile(tmp_path / "cursor") as cursors:
        await cursors.save(ONE)
    assert done == ["file", "rename", "directory"]


async def test_a_save_that_was_cut_off_is_over_before_the_next_subscriber_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited for it was cancelled; the thread that writes was not, and must not write behind the next one."""
    path, writing, go_on = tmp_path / "cursor", threading.Event(), threading.Event()
    real = os.fsync

    def slow(descriptor: int) -> None:
        writing.set()
        go_on.wait(60)
        real(descriptor)

    with CursorFile(path) as cursors:
        monkeypatch.setattr(os, "fsync", slow)
        saving = asyncio.create_task(cursors.save(ONE))
        await asyncio.to_thread(writing.wait)
        saving.cancel()
        await asyncio.wait({saving})
        assert saving.cancelled()
        monkeypatch.setattr(os, "fsync", real)
        threading.Timer(0.1, go_on.set).start()
    with CursorFile(path) as cursors:
        assert await cursors.load() == ONE
        await cursors.save(TWO)
        assert await cursors.load() == TWO


async def test_saves_at_the_same_time_follow_one_another(tmp_path: Path) -> None:
    texts = [Bookmark(cursor="c", start=n, position=n).text for n in range(20)]
    with CursorFile(tmp_path / "cursor") as cursors:
        await asyncio.gather(*(cursors.save(text) for text in texts))
        assert await cursors.load() in texts


@pytest.mark.parametrize("name", ["cursor", "cursor.new", "cursor.lock"])
async def test_a_pipe_in_the_place_of_a_file_holds_nobody(tmp_path: Path, name: str) -> None:
    """A thread that opens a pipe waits for the other end for good, and the process with it."""
    os.mkfifo(tmp_path / name)
    cursors = CursorFile(tmp_path / "cursor")

    async def use() -> None:
        with cursors:
            await cursors.load()
            await cursors.save(ONE)

    with pytest.raises(CursorUnusable):
        await asyncio.wait_for(use(), 60)
    (tmp_path / name).unlink()
    await use()
    assert (tmp_path / "cursor").read_text() == ONE + "\n"
