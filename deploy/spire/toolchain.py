"""The Go toolchain that builds SPIRE: is it there, is it new enough, and how it is run."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.spire import launch
from deploy.spire.errors import DeployError
from deploy.spire.interrupts import Interrupts

MINIMUM_GO = (1, 26, 6)
_COLD_BYTES = 6 * 1024**3
_WARM_BYTES = 2 * 1024**3
_HERE = Path(__file__).resolve().parent
_USUAL_PLACE = Path("/usr/local/go/bin/go")
_HOW_ELSE = "or set SPIRE_BIN_DIR to a directory that holds spire-server and spire-agent 1.15"
_GO_SETTINGS = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "1", "GOWORK": "off"}
_STATIC_PROGRAM = "int main(void) { return 0; }\n"


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """A Go that can build SPIRE, and the environment it is run in."""

    go: Path
    environment: Mapping[str, str]

    def setting(self, name: str) -> str:
        """Return one value of ``go env``."""
        command = [str(self.go), "env", name]
        return subprocess.run(
            command, env=dict(self.environment), capture_output=True, text=True, check=False
        ).stdout.strip()

    def run(self, arguments: list[str], *, scratch: Path, news: Callable[[str], None], interrupts: Interrupts) -> None:
        """Run go beside our go.mod and hand over each line as it comes; temporary files stay in ``scratch``.

        Whatever ends this early ends every process of it first. Raises DeployError when go fails.
        """
        environment = {**self.environment, "GOTMPDIR": str(scratch), "TMPDIR": str(scratch)}
        launcher = [sys.executable, "-I", "-S", launch.__file__, str(scratch / "go.pid"), str(os.getpid())]
        lines: list[str] = []
        with _group([*launcher, str(int(signal.SIGINT)), str(self.go), *arguments], environment, interrupts) as process:
            for line in process.stdout or ():
                lines.append(line.rstrip())
                news(lines[-1])
        if process.returncode:
            raise DeployError("\n".join([f"go {arguments[0]} failed:", *lines[-15:], _advice("\n".join(lines[-15:]))]))


def _advice(output: str) -> str:
    if re.search(r"dial tcp|no such host|proxyconnect|i/o timeout|connection refused|disabled by GOPROXY", output):
        return f"The first build fetches SPIRE's modules: give it the network or a mirror (GOPROXY) once, {_HOW_ELSE}."
    if "no space left" in output:
        return "The disk is full: the first build needs about 6 GB for Go's caches (GOMODCACHE and GOCACHE)."
    return f"Run it again to go on where it stopped, {_HOW_ELSE}."


@contextmanager
def _group(
    command: list[str], environment: Mapping[str, str], interrupts: Interrupts
) -> Iterator[subprocess.Popen[str]]:
    """Run a command that leads a process group of its own; leave nothing of the group behind."""
    with interrupts.held():
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=_HERE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            with interrupts.allowed():
                yield process
                process.wait()
        finally:
            _end_group(process)


def _end_group(process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 10
    with suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, signal.SIGKILL)
            process.poll()
            time.sleep(0.02)
    process.wait()
    if process.stdout:
        process.stdout.close()


def find_toolchain(cache: Path) -> Toolchain:
    """Find a Go, a C compiler and the room for a build, or raise DeployError saying what is missing."""
    go = _find_go()
    environment = {
        **os.environ,
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "CGO_ENABLED": "1",
        "GOWORK": "off",
    }
    toolchain = Toolchain(go=go, environment=environment)
    _check_version(toolchain.setting("GOVERSION"), go)
    _check_compiler(toolchain.setting("CC").split() or ["gcc"])
    modules = Path(toolchain.setting("GOMODCACHE"))
    check_room([cache, modules, Path(toolchain.setting("GOCACHE"))], cold=not (modules / "github.com/spiffe").is_dir())
    return toolchain


def _find_go() -> Path:
    found = shutil.which("go") or (str(_USUAL_PLACE) if os.access(_USUAL_PLACE, os.X_OK) else None)
    if not found:
        wanted = ".".join(map(str, MINIMUM_GO))
        raise DeployError(
            f"SPIRE is not here yet, and Go, which builds it, is missing. Install Go {wanted} or newer "
            f"(https://go.dev/doc/install) and put its bin directory on the PATH, {_HOW_ELSE}."
        )
    return Path(found)


def _check_version(text: str, go: Path) -> None:
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", text)
    if found and tuple(int(part or 0) for part in found.groups()) < MINIMUM_GO:
        wanted = ".".join(map(str, MINIMUM_GO))
        raise DeployError(
            f"SPIRE needs Go {wanted} or newer and {go} is {text.removeprefix('go')}. "
            f"Install a newer one (https://go.dev/doc/install), {_HOW_ELSE}."
        )


def _check_compiler(compiler: list[str]) -> None:
    hint = f"On Debian: apt-get install gcc libc6-dev; on Fedora: dnf install gcc glibc-static; {_HOW_ELSE}."
    if not shutil.which(compiler[0]):
        raise DeployError(f"SPIRE needs a C compiler (SQLite) and {compiler[0]} is missing. {hint}")
    with tempfile.TemporaryDirectory() as directory:
        command = [*compiler, "-static", "-x", "c", "-", "-o", f"{directory}/program"]
        tried = subprocess.run(command, input=_STATIC_PROGRAM, capture_output=True, text=True, check=False)
    if tried.returncode:
        raise DeployError(f"{compiler[0]} cannot make a static program: {tried.stderr.strip()[-300:]}\n{hint}")


def check_room(places: list[Path], *, cold: bool) -> None:
    """Raise DeployError when a place has less room than a build needs; it need not exist yet."""
    needed = _COLD_BYTES if cold else _WARM_BYTES
    for place in places:
        existing = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        if free < needed:
            raise DeployError(
                f"Building SPIRE needs about {needed // 1024**3} GB and {existing} has {free / 1024**3:.1f} GB free. "
                f"Make room, move GOMODCACHE, GOCACHE or XDG_CACHE_HOME to a larger disk, {_HOW_ELSE}."
            )
