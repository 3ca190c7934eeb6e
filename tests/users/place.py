"""A place that other users can reach, and a broker's set-up in it.

The interpreter that runs the tests may lie under a private home, and so may the checkout; what other users cannot read
is linked or copied to where they can.
"""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.supervisor.reach import becoming
from broker.supervisor.user import User
from tests.cli.setups import AGENT, ROOT, House, build, clean_environment
from tests.faults.client import Client, supply_of
from tests.faults.ledger import Ledger

ISSUER, DOOR = 61001, 61002
_VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
_WASTE = shutil.ignore_patterns("test", "tests", "site-packages", "*.a", "_editable_impl_*")


def as_user(uid: int, argv: Sequence[str | Path], **more: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program as a user with no group but its own; as whoever runs the tests, simply run it."""
    become = [] if uid == os.geteuid() else becoming(User(name=str(uid), uid=uid, gid=uid, groups=(uid,)))
    return subprocess.run([*become, *argv], capture_output=True, text=True, check=False, timeout=90, cwd="/", **more)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A directory that everybody may enter, with a Python that everybody may run.

    Attributes:
        folder: the directory.
        python: a virtual environment's interpreter.
        environment: what programs are started with.

    """

    folder: Path
    python: Path
    environment: dict[str, str]

    @contextmanager
    def set_up(self) -> Iterator["TwoUsers"]:
        """Make a set-up, healthy where root makes it, on a fake SPIRE that gives everybody the broker's SVID."""
        folder = Path(tempfile.mkdtemp(prefix="h", dir=self.folder))
        folder.chmod(0o755)
        house = build(folder)
        (folder / "agent.sock").chmod(0o777)
        house.edit("\n[issuer]\n", f"\n[issuer]\nuser = {ISSUER}\n")
        house.edit("\n[door]\n", f'\n[door]\nuser = "{DOOR}"\n')
        if os.geteuid() == 0:
            os.chown(house.data / "issuer", ISSUER, ISSUER)
            os.chown(house.data / "door", DOOR, DOOR)
        made = TwoUsers(place=self, house=house)
        try:
            yield made
        finally:
            made.stop()
            house.spire.stop()

    def broker(self, *arguments: str | Path, python: Path | None = None) -> list[str]:
        """Return what runs the command, as its installed script does: with a safe path."""
        return [str(python or self.python), "-P", "-m", "broker", *map(str, arguments)]


@contextmanager
def make_place() -> Iterator[Place]:
    """Make one, and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="users-", dir=_open_to_all()))
    try:
        folder.chmod(0o755)
        yield _furnish(folder)
    finally:
        shutil.rmtree(folder)


def _furnish(folder: Path) -> Place:
    base = Path(sys.base_prefix)
    libraries, broker = Path(sysconfig.get_path("purelib")), ROOT / "broker"
    program = Path(os.path.realpath(sys.executable))
    if not _readable(program):
        (folder / "base" / "bin").mkdir(parents=True)
        _link(str(program), str(folder / "base" / "bin" / program.name))
        _copy(Path(sysconfig.get_path("stdlib")), folder / "base" / "lib" / _VERSION)
        for shared in Path(sysconfig.get_config_var("LIBDIR")).glob("libpython*.so*"):
            _link(str(shared.resolve()), str(folder / "base" / "lib" / shared.name))
        base, program = folder / "base", folder / "base" / "bin" / program.name
    if not _readable(libraries):
        _copy(libraries, folder / "libraries")
        libraries = folder / "libraries"
    if not _readable(broker / "__init__.py"):
        _copy(broker, folder / "code" / "broker")
        broker = folder / "code" / "broker"
    python = _venv(folder / "venv", base, program, libraries)
    environment = clean_environment(PYTHONPATH=str(broker.parent), LD_LIBRARY_PATH=str(base / "lib"))
    return Place(folder=folder, python=python, environment=environment)


def _venv(folder: Path, base: Path, program: Path, libraries: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / _VERSION).mkdir(parents=True)
    (folder / "lib" / _VERSION / "site-packages").symlink_to(libraries)
    (folder / "bin" / "python").symlink_to(program)
    (folder / "pyvenv.cfg").write_text(f"home = {base / 'bin'}\ninclude-system-site-packages = false\n")
    return folder / "bin" / "python"


def _open_to_all() -> Path:
    """Return a directory for passing things that everybody may enter: the usual one may be private."""
    for place in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")):  # noqa: S108
        if _readable(place):
            return place
    raise AssertionError("no directory for temporary files can be entered by everybody")


def _readable(path: Path) -> bool:
    """Whether just anybody can read it: of a file what is in it, of a directory what it holds."""
    program: list[str | Path] = (
        ["/bin/ls", path] if path.is_dir() else ["/bin/dd", f"if={path}", "of=/dev/null", "count=1"]
    )
    if os.geteuid() != 0:
        return os.access(path, os.R_OK)
    return as_user(DOOR, program).returncode == 0


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=_link, ignore=_WASTE)
    for directory in (target, *(path for path in target.rglob("*") if path.is_dir())):
        directory.chmod(0o755)


def _link(source: str, target: str) -> str:
    """Link a file that everybody may read, copy any other; no more than these two names ever point at it."""
    mode = os.stat(source).st_mode  # noqa: PTH116 - shutil's interface is of strings
    if mode & stat.S_IROTH:
        with suppress(OSError):  # another file system
            os.link(source, target)
            return target
    shutil.copy2(source, target)  # with its time, by which compiled code is judged
    os.chmod(target, 0o755 if mode & stat.S_IXUSR else 0o644)  # noqa: PTH101
    return target


@dataclass(kw_only=True)
class TwoUsers:
    """A set-up whose halves are to run as two users."""

    place: Place
    house: House
    process: "subprocess.Popen[str] | None" = None
    told: list[str] = field(default_factory=list)

    def start(self, cwd: Path = Path("/")) -> str:
        """Start `broker serve` as root; return its line."""
        with (self.house.folder / "stderr").open("a") as log:
            self.process = subprocess.Popen(
                self.place.broker("serve", "--config", self.house.config), cwd=cwd, env=self.place.environment,
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "ready" in line, self.said()
        return line

    def serve(self, *more: str, as_: int = 0, python: Path | None = None) -> tuple[int, str]:
        """Run a `broker serve` that does not come to serve; return its status and what it says."""
        argv = self.place.broker("serve", "--config", self.house.config, *more, python=python)
        run = as_user(as_, argv, env=self.place.environment)
        return run.returncode, run.stderr

    def said(self) -> str:
        return (self.house.folder / "stderr").read_text()

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def doctor(self, *, python: Path | None = None, as_: int = 0) -> tuple[int, dict[str, dict[str, str]]]:
        """Return the exit status and each finding by its check, of a doctor that is a process of its own."""
        argv = self.place.broker("doctor", "--config", self.house.config, "--json", python=python)
        run = as_user(as_, argv, env=self.place.environment)
        assert not run.stderr, run.stderr
        return run.returncode, {each["check"]: each for each in map(json.loads, run.stdout.splitlines())}

    def pid(self, role: str) -> int:
        """Return the process of a half."""
        assert self.process is not None
        parent = self.process.pid
        for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with suppress(FileNotFoundError):
                if f"\0_{role}\0" in Path(f"/proc/{pid}/cmdline").read_text():
                    return int(pid)
        return 0

    async def exchange(self, request_id: str) -> bool:
        """Exchange once, as the agent; whether a credential was given."""
        client = Client.open(
            supply_of(self.house.domain.svid(AGENT), self.house.domain), self.house.port, Ledger()
        )  # fmt: skip
        try:
            return not isinstance(await client.exchange(request_id), str)
        finally:
            await client.close()


def status_of(pid: int) -> dict[str, str]:
    """Return what the kernel says of a process, by field."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


async def ended(pid: int) -> bool:
    """Whether a process is gone, or waits to be reaped by whoever adopted it."""
    await asyncio.sleep(0)
    try:
        return status_of(pid)["State"].startswith(("Z", "X"))
    except (FileNotFoundError, ProcessLookupError):
        return True
