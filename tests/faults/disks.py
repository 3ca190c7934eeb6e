"""Disks that lose their power, or are full: file systems in files, mounted over loop devices.

A file system image lies on XFS with reflinks, where a copy of it takes milliseconds, whatever is written meanwhile. The
copy is what a disk holds after a power cut: all that was flushed, and of the rest what had happened to be written. It
is never frozen first, which would flush it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_PROGRAMS = ("mkfs.xfs", "mkfs.ext4", "mount", "umount", "losetup")


def why_no_loops() -> str:
    """Return in one line why no disk can be made here; empty when one can."""
    if os.geteuid() != 0:
        return "power cuts need root, for loop devices"
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"power cuts need {', '.join(missing)} (Debian: apt-get install xfsprogs e2fsprogs mount)"
    found = subprocess.run(["losetup", "-f"], capture_output=True, text=True, check=False)
    return "" if found.returncode == 0 else f"power cuts need a free loop device: {found.stderr.strip()}"


def why_no_mounts() -> str:
    """Return in one line why nothing can be mounted here; empty when it can."""
    return "" if os.geteuid() == 0 else "disks of a small size need root, to mount them"


def _run(*argv: object) -> None:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"


@contextmanager
def _mounted(source: object, target: Path, *options: str) -> Iterator[Path]:
    target.mkdir(exist_ok=True)
    _run("mount", *options, source, target)
    try:
        yield target
    finally:
        # Lazily: whoever died a moment ago may still hold a file.
        _run("umount", "--lazy", target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk in use.

    Attributes:
        files: where it is mounted.

    """

    files: Path
    _image: Path
    _copy: Path
    _other: Path

    def cut(self) -> None:
        """Keep what the disk would hold if the power went now."""
        _run("cp", "--reflink=always", self._image, self._copy)

    @contextmanager
    def after(self) -> Iterator[Path]:
        """Mount what was kept, which replays its journal."""
        with _mounted(self._copy, self._other, "-o", "loop"):
            yield self._other

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Mount what was kept in the place of the disk: the machine has its power again."""
        with _mounted(self._copy, self.files, "-o", "loop"):
            yield


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """Make a disk, and take it away."""
    with ExitStack() as stack:
        host = folder / "host.img"
        host.touch()
        os.truncate(host, 1 << 30)  # sparse
        _run("mkfs.xfs", "-q", "-m", "reflink=1", host)
        under = stack.enter_context(_mounted(host, folder / "host", "-o", "loop"))
        image = under / "disk.img"
        image.touch()
        os.truncate(image, 128 << 20)
        _run("mkfs.ext4", "-q", image)
        files = stack.enter_context(_mounted(image, folder / "disk", "-o", "loop"))
        yield Disk(files=files, _image=image, _copy=under / "cut.img", _other=folder / "cut")


@contextmanager
def small(folder: Path, size: str) -> Iterator[Path]:
    """Make a file system of a size in memory, and take it away."""
    with _mounted("tmpfs", folder / "small", "-t", "tmpfs", "-o", f"size={size}"):
        yield folder / "small"
