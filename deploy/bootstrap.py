"""Make the virtual environment `.venv` of this checkout, or see in an instant that it is there.

Needs nothing but a Python 3.11 or newer and, the first time on a machine, the package index that pip is configured
for. What was fetched is kept, so that the next checkout needs no network and takes a second:

    ${XDG_CACHE_HOME:-~/.cache}/spiffe-credential-broker/
        wheelhouse/<sha256 of requirements.txt>-<python>-<platform>/   the pinned wheels
        uv/                                                            the same wheels unpacked, for hard links

Every wheel is checked against the hash in requirements.txt when it is fetched and when it is installed.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

OLDEST = (3, 11)
NEWEST = (3, 14)


def find_python() -> None:
    """Replace this process by the newest suitable interpreter on the PATH, or say what to install.

    Everything above `sys.path.insert` runs on any Python 3.6 or newer: it has to, to say that it is too old.
    """
    first_time = os.environ.get("BROKER_SETUP_PYTHON") is None
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1) if first_time else ():
        path = shutil.which(f"python3.{minor}")
        probe = f"import sys; sys.exit(sys.version_info[:2] != (3, {minor}))"
        if path and subprocess.call([path, "-c", probe], stderr=subprocess.DEVNULL) == 0:
            os.environ["BROKER_SETUP_PYTHON"] = path
            os.execv(path, [path, *sys.argv])  # noqa: S606
    if sys.version_info < OLDEST:
        sys.exit(
            f"setup: Python 3.{OLDEST[1]} or newer is needed; {sys.executable} is"
            f" {sys.version_info[0]}.{sys.version_info[1]}, and no newer one is on the PATH.\n"
            "       Debian 12, Ubuntu 24.04 and newer: apt-get install python3 python3-venv\n"
            "       Then again: make setup    (or: make setup PYTHON=/path/to/python3)"
        )


if not OLDEST <= sys.version_info[:2] <= NEWEST:
    find_python()

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from deploy.progress import step  # noqa: E402

VENV = ROOT / ".venv"
STAMP = VENV / "broker-setup.json"
REQUIREMENTS = ROOT / "requirements.txt"
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"

OTHER_CACHE = "\n       XDG_CACHE_HOME=/another/folder make setup    keeps the cache elsewhere"
ADVICE = {
    errno.ENOSPC: f"\n       About 1 GB is needed, for the cache and .venv.{OTHER_CACHE}",
    errno.EDQUOT: f"\n       About 1 GB is needed, for the cache and .venv.{OTHER_CACHE}",
    errno.EACCES: f"\n       The cache and the checkout have to be yours to write.{OTHER_CACHE}",
    errno.EROFS: f"\n       The cache and the checkout have to be yours to write.{OTHER_CACHE}",
}


def main() -> int:
    """Do the one thing this file is for; the exit code says whether `.venv` is usable."""
    if read_stamp() == wanted_stamp():
        return 0
    signals = Signals()
    try:
        build(signals)
    except Stopped as stop:
        say(f"stopped by {signal.Signals(stop.number).name}; nothing is left half done, run it again at any time")
        return 128 + stop.number
    except SetupError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"{error.strerror}: {error.filename or cache_home()}{ADVICE.get(error.errno or 0, '')}")
        return 1
    return 0


# ---------------------------------------------------------------------------------------------- what is there already


def wanted_stamp() -> dict[str, str]:
    """Say what a finished `.venv` of this checkout was made from."""
    return {
        "root": str(ROOT),
        "python": TAG,
        "requirements": digest(REQUIREMENTS),
        "project": digest(ROOT / "pyproject.toml"),
    }


def read_stamp() -> dict[str, str]:
    """Read what `.venv` was made from; empty when it is absent, unfinished or its interpreter is gone."""
    if not os.access(VENV / "bin" / "python", os.X_OK):
        return {}
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp


def digest(path: Path) -> str:
    """Hash a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cache_home() -> Path:
    """Name the folder that outlives checkouts."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    parent = base if base.startswith("/") else os.path.expanduser("~/.cache")  # noqa: PTH111 - never raises
    return Path(parent) / "spiffe-credential-broker"


def base_python() -> str:
    """Name the interpreter behind this one, also when this one belongs to a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


# --------------------------------------------------------------------------------------------------------- what is done


def build(signals: "Signals") -> None:
    """Fetch what is missing, then make `.venv`, each under a lock so that two runs do not meet."""
    house = cache_home() / "wheelhouse" / f"{digest(REQUIREMENTS)}-{TAG}-{sysconfig.get_platform()}"
    house.parent.mkdir(parents=True, exist_ok=True)
    with locked(cache_home() / "lock"):
        for leftover in house.parent.glob("tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if not house.is_dir():
            fetch(signals, house)
    with locked(ROOT / ".venv.lock"):
        if read_stamp() != wanted_stamp():
            install(signals, house)


def fetch(signals: "Signals", house: Path) -> None:
    """Fetch every pinned wheel into the cache; the folder appears under its name only when it is complete."""
    pins = sum(line[0].isalnum() and "win32'" not in line for line in REQUIREMENTS.read_text().splitlines() if line)
    temporary = Path(tempfile.mkdtemp(prefix="tmp-", dir=house.parent))
    try:
        with step("Fetch the pinned Python packages (once per machine)") as progress:
            seen = 0
            output: list[str] = []
            command = [*pip(signals, temporary), "download", "--require-hashes", "--no-deps", "--only-binary=:all:"]
            command += ["--progress-bar=off", "--dest", str(temporary / "wheels"), "--requirement", str(REQUIREMENTS)]
            with running(signals, command) as lines:
                for line in lines:
                    output.append(line)
                    if line.startswith("Collecting "):
                        progress.update(min(seen, pins), pins, line.split()[1].split("==")[0])
                        seen += 1
            check(lines, output, "fetch the packages")
            progress.update(pins, pins, "")
        unpack_uv(temporary / "wheels")
        (temporary / "wheels").rename(house)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def pip(signals: "Signals", temporary: Path) -> list[str]:
    """Find a pip: the interpreter's own, else one from a throw-away virtual environment."""
    if quiet(signals, [base_python(), "-m", "pip", "--version"]):
        return [base_python(), "-m", "pip"]
    if not quiet(signals, [base_python(), "-m", "venv", str(temporary / "pip")]):
        message = (
            f"{base_python()} has neither pip nor a working venv module.\n"
            "       Debian and Ubuntu: apt-get install python3-venv    Fedora: dnf install python3-pip\n"
            "       Then again: make setup"
        )
        raise SetupError(message)
    return [str(temporary / "pip" / "bin" / "python"), "-m", "pip"]


def unpack_uv(wheels: Path) -> None:
    """Take the installer out of its (already verified) wheel: it installs all the others in a second."""
    for wheel in wheels.glob("uv-*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith("/scripts/uv"):
                    (wheels / "uv").write_bytes(archive.read(name))
                    (wheels / "uv").chmod(0o755)
                    return
    message = "requirements.txt brings no uv for this platform"
    raise SetupError(message)


def install(signals: "Signals", house: Path) -> None:
    """Make `.venv` from the cached wheels alone; the stamp, written last, says that it is complete."""
    uv = [str(house / "uv"), "--offline", "--no-config", "--cache-dir", str(cache_home() / "uv"), "--no-progress"]
    target = ["--python", str(VENV / "bin" / "python")]
    steps = [
        [*uv, "pip", "sync", *target, "--no-index", "--find-links", str(house), "--require-hashes", str(REQUIREMENTS)],
        [*uv, "pip", "install", *target, "--no-index", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)],
    ]
    if read_stamp().get("python") != TAG or read_stamp().get("root") != str(ROOT):
        steps.insert(0, [*uv, "venv", "--clear", "--no-python-downloads", "--python", base_python(), str(VENV)])
    with step("Make the virtual environment .venv") as progress:
        STAMP.unlink(missing_ok=True)
        for number, command in enumerate(steps):
            progress.update(number, len(steps), "")
            with running(signals, command) as lines:
                output = list(lines)
            check(lines, output, "make the virtual environment")
        unfinished = STAMP.with_suffix(".tmp")
        unfinished.write_text(json.dumps(wanted_stamp()))
        unfinished.replace(STAMP)
        progress.update(len(steps), len(steps), "")


# ------------------------------------------------------------------------------------------------------------ machinery


class SetupError(Exception):
    """Something outside is missing; the text says what, and what to do."""


class Stopped(BaseException):
    """A signal asked for an end."""

    def __init__(self, number: int) -> None:
        """Remember which signal it was."""
        super().__init__(number)
        self.number = number


class Signals:
    """Turns signals that ask for an end into Stopped, except while a child is being started."""

    def __init__(self) -> None:
        """Take over the signals."""
        self._held = False
        self._number = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._arrived)

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        if self._number:
            return
        self._number = number
        if not self._held:
            raise Stopped(number)

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        """Start a child that is known to its parent from its first instant."""
        self._held = True
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=child_environment(),
        )
        self._held = False
        return child

    def raise_held(self) -> None:
        """Raise what arrived while a child was being started."""
        if self._number:
            raise Stopped(self._number)


class Lines:
    """The output of a child, line by line, and then its exit code."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        """Take the child over."""
        self._child = child

    def __iter__(self) -> Iterator[str]:
        """Yield lines until the child closes its output."""
        if self._child.stdout is not None:
            yield from self._child.stdout

    @property
    def exit_code(self) -> int:
        """The exit code of the finished child."""
        return self._child.wait()


@contextmanager
def running(signals: Signals, command: list[str]) -> Iterator[Lines]:
    """Run a child that does not outlive the block."""
    child = signals.start(command)
    try:
        signals.raise_held()
        yield Lines(child)
        child.wait()
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if child.stdout is not None:
            child.stdout.close()


def quiet(signals: Signals, command: list[str]) -> bool:
    """Run a child for its exit code alone."""
    with running(signals, command) as lines:
        for _line in lines:
            pass
    return lines.exit_code == 0


def check(lines: Lines, output: list[str], deed: str) -> None:
    """Explain a child that failed."""
    if lines.exit_code == 0:
        return
    text = "".join(output[-15:]).rstrip()
    if "No space left on device" in text or "Disk quota exceeded" in text:
        raise OSError(errno.ENOSPC, "no space left", str(cache_home()))
    advice = ""
    if any(word in text for word in ("Connection", "connection", "resolve", "resolution", "Network", "timed out")):
        advice = (
            "\n\nThe package index could not be reached. The first setup on a machine needs it; later ones do not.\n"
            "Check the network, the proxy (HTTPS_PROXY) and pip's own settings (pip config list), then: make setup"
        )
    message = f"could not {deed}:\n{text}{advice}"
    raise SetupError(message)


def child_environment() -> dict[str, str]:
    """Leave pip's and uv's settings for the network alone, drop those that would redirect the result."""
    unwanted = (
        "VIRTUAL_ENV",
        "PYTHONPATH",
        "PYTHONHOME",
        "PIP_REQUIRE_VIRTUALENV",
        "PIP_TARGET",
        "PIP_USER",
        "PIP_NO_DEPS",
    )
    kept = {name: value for name, value in os.environ.items() if name not in unwanted and not name.startswith("UV_")}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "LC_ALL": "C.UTF-8"}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel drops it when this process ends, however it ends."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another setup is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(f"setup: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
