"""SPIRE's two programs: from SPIRE_BIN_DIR, the PATH, the user's cache, or a pinned build by Go.

``python3 deploy/spire/build.py`` finds or builds them and prints where they are.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

if __package__ in {None, ""}:  # run as a file: the repository's root is where imports begin
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from deploy.progress import Step, say, step
from deploy.spire.errors import DeployError
from deploy.spire.interrupts import Interrupts
from deploy.spire.toolchain import Toolchain, find_toolchain

VERSION = "1.15.3"
_COMPATIBLE = (1, 15)
_PROGRAMS = ("spire-server", "spire-agent")
_PACKAGES = tuple(f"github.com/spiffe/spire/cmd/{program}" for program in _PROGRAMS)
_HERE = Path(__file__).resolve().parent
# Static, so that the same files run on any distribution and in an image made from scratch.
_FLAGS = (
    "-trimpath",
    "-buildvcs=false",
    "-tags=netgo,osusergo,sqlite_omit_load_extension",
    f'-ldflags=-s -w -X github.com/spiffe/spire/pkg/common/version.gittag={VERSION} -extldflags "-static"',
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """SPIRE's server and agent, and in words where they were found."""

    server: Path
    agent: Path
    source: str


def find_binaries() -> Binaries:
    """Return the first SPIRE found; build it if there is none.

    Raises DeployError when SPIRE_BIN_DIR is set and does not hold a fitting SPIRE, or when a build
    is needed and cannot be done; the message says what is missing and how to get it.
    """
    directory = os.environ.get("SPIRE_BIN_DIR")
    if directory:
        return _checked(_in_directory(Path(directory).resolve(), "SPIRE_BIN_DIR"))
    return _on_path() or _in_cache() or _build()


def cache_directory() -> Path:
    """Where builds are kept, one directory for each version, set of pins, flags and architecture."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spiffe-credential-broker" / "spire"


def cache_key() -> str:
    """Name everything that goes into a build: two equal keys are the same programs."""
    digest = hashlib.sha256()
    machine = platform.machine()
    for part in ((_HERE / "go.mod").read_bytes(), (_HERE / "go.sum").read_bytes(), "\n".join(_FLAGS).encode()):
        digest.update(hashlib.sha256(part).digest())
    digest.update(_ARCHITECTURES.get(machine, machine).encode())
    return f"{VERSION}-{digest.hexdigest()[:16]}"


def _in_directory(directory: Path, source: str) -> Binaries:
    missing = [program for program in _PROGRAMS if not os.access(directory / program, os.X_OK)]
    if missing:
        raise DeployError(
            f"SPIRE_BIN_DIR is {directory}, but no program {' and no '.join(missing)} is there. "
            f"Set it to a directory that holds both, or unset it: SPIRE {VERSION} is then built."
        )
    return Binaries(server=directory / _PROGRAMS[0], agent=directory / _PROGRAMS[1], source=source)


def _on_path() -> Binaries | None:
    server, agent = (shutil.which(program) for program in _PROGRAMS)
    if not server or not agent:
        return None
    try:
        return _checked(Binaries(server=Path(server).resolve(), agent=Path(agent).resolve(), source="the PATH"))
    except DeployError as error:
        say(f"{error} Passing it over.")
        return None


def _in_cache() -> Binaries | None:
    directory = cache_directory() / cache_key()
    return _in_directory(directory, "the cache") if directory.is_dir() else None


def parse_version(text: str) -> tuple[int, ...] | None:
    """Read what ``--version`` prints, such as ``1.15.3`` or ``1.15.3-dev-unk``; None if it is no version."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text.strip())
    return tuple(map(int, found.groups())) if found else None


def _checked(binaries: Binaries) -> Binaries:
    """Let programs pass that run and are of a version these configuration files are written for."""
    for program in (binaries.server, binaries.agent):
        try:
            told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeployError(f"{program} (from {binaries.source}) cannot be run: {error}.") from error
        text = (told.stdout + told.stderr).strip()
        if (parse_version(text) or ())[:2] != _COMPATIBLE:
            wanted = ".".join(map(str, _COMPATIBLE))
            raise DeployError(
                f"{program} (from {binaries.source}) says its version is {text[:60]!r}; SPIRE {wanted} is needed."
            )
    return binaries


def _build() -> Binaries:
    if sys.platform != "linux":
        raise DeployError("This test deployment of SPIRE is for Linux: workloads are told apart by /proc.")
    cache = cache_directory()
    with Interrupts() as interrupts:
        toolchain = find_toolchain(cache)
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f"{cache_key()}.lock"):
            found = _in_cache()  # somebody else may have built it meanwhile
            if not found:
                _build_into(cache / cache_key(), toolchain, interrupts)
                found = _in_directory(cache / cache_key(), "a new build")
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one build at a time through; the lock goes with the process that holds it."""
    with path.open("w") as file:
        if not _try_lock(file.fileno()):
            with step("Waiting for another build of SPIRE"):
                while not _try_lock(file.fileno()):
                    time.sleep(0.2)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _build_into(target: Path, toolchain: Toolchain, interrupts: Interrupts) -> None:
    """Build beside the target and rename at the end, so that what is in the cache is whole."""
    scratch = target.with_name(f"{target.name}.unfinished")
    with interrupts.held():
        shutil.rmtree(scratch, ignore_errors=True)  # of a build that was killed
        try:
            with interrupts.allowed():
                for directory in (scratch / "bin", scratch / "tmp"):
                    directory.mkdir(parents=True, exist_ok=True)
                _run_go(toolchain, scratch, interrupts)
                (scratch / "bin").rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _run_go(toolchain: Toolchain, scratch: Path, interrupts: Interrupts) -> None:
    run = partial(toolchain.run, scratch=scratch / "tmp", interrupts=interrupts)
    with step(f"Reading the modules of SPIRE {VERSION}") as current:
        listing = _Count(current)
        run(["list", "-deps", *_FLAGS, "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", *_PACKAGES], news=listing.add)
    with step(f"Building SPIRE {VERSION} (some minutes, once)") as current:
        building = _Count(current, listing.packages)
        run(["build", "-v", *_FLAGS, "-o", f"{scratch / 'bin'}/", *_PACKAGES], news=building.add)


class _Count:
    """Packages and downloads, counted as go names them."""

    def __init__(self, current: Step, total: int = 0) -> None:
        self.packages = 0
        self._downloads = 0
        self._total = total
        self._step = current

    def add(self, line: str) -> None:
        downloading = line.startswith("go: downloading ")
        self._downloads += downloading
        self.packages += bool(line) and not downloading
        done = self.packages if self._total else self._downloads
        note = "linking" if self._total and done >= self._total else line.removeprefix("go: ")
        self._step.update(done, self._total, note)


def main() -> int:
    """Find or build, and print where the programs are."""
    try:
        binaries = find_binaries()
    except DeployError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"{binaries.server}\n{binaries.agent}")
    say(f"SPIRE from {binaries.source}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
