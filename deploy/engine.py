"""A Docker engine for one command: the one that runs here, else one of its own that ends with the command.

``python3 deploy/engine.py COMMAND [ARGUMENT...]`` runs the command with ``docker`` and ``docker compose`` at work.
Where that cannot be, it says why in one line and runs nothing.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

if __package__ in {None, ""}:  # run as a file: the repository's root is where imports begin
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from deploy.progress import say
from deploy.spire.build import find_binaries
from deploy.spire.errors import DeployError
from deploy.spire.interrupts import Interrupted, Interrupts
from deploy.spire.process import Daemon

_ANSWER_SECONDS = 60
_START_SECONDS = 30
_HOW = "Debian: apt-get install docker.io docker-compose"
# Containers here use the host's network only, so the machine's own is left as it is.
_NO_NETWORK = ("--bridge=none", "--iptables=false", "--ip6tables=false")
_STORAGE = ("overlay2", "vfs")  # vfs copies every layer whole, and works on every file system


class NoEngineError(DeployError):
    """Containers cannot be had here; the text says why."""


@contextmanager
def engine() -> Iterator[dict[str, str]]:
    """Yield the environment in which ``docker`` and ``docker compose`` reach an engine of this machine.

    Raises NoEngineError.
    """
    if not shutil.which("docker"):
        raise NoEngineError(f"there is no docker command ({_HOW})")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="engine-")))
        found = _compose(folder)
        if _docker(found, "version"):
            found |= stack.enter_context(_own(folder))
        if problem := _probe(found):
            raise NoEngineError(f"the engine runs no container on this machine: {problem}")
        yield found


def _docker(environment: Mapping[str, str], *words: str, stdin: bytes = b"") -> str:
    """Run one command of docker and return what went wrong, or nothing."""
    try:
        told = subprocess.run(
            ["docker", *words],
            input=stdin, capture_output=True, env=os.environ | environment, timeout=_ANSWER_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = told.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {told.returncode}"]
    return lines[0] if told.returncode else ""


def _compose(folder: Path) -> dict[str, str]:
    """Return what makes ``docker compose`` work: nothing, or a plug-in that calls the older docker-compose."""
    if not _docker({}, "compose", "version"):
        return {}
    older = shutil.which("docker-compose")
    if not older:
        raise NoEngineError(f"there is no docker compose ({_HOW})")
    plugin = folder / "config" / "cli-plugins" / "docker-compose"
    plugin.parent.mkdir(parents=True)
    about = json.dumps({"SchemaVersion": "0.1.0", "Vendor": "docker-compose"})
    plugin.write_text(
        f"#!/bin/sh\nif [ \"$1\" = docker-cli-plugin-metadata ]; then echo '{about}'; exit; fi\n"
        f'shift\nexec {older} "$@"\n',
        encoding="utf-8",
    )
    plugin.chmod(0o700)
    return {"DOCKER_CONFIG": str(folder / "config")}


def _probe(environment: Mapping[str, str]) -> str:
    """Run a program of this machine in a container as the tests do; return what went wrong, or nothing.

    An engine elsewhere, which does not see this machine's files, is found out by this too.
    """
    image = f"probe-{os.getpid()}"
    if problem := _docker(environment, "import", "-", image, stdin=bytes(10240)):  # an archive of no files
        return problem
    try:
        programs = f"--volume={find_binaries().agent.parent}:/probe:ro"
        options = ("--rm", "--network=host", "--pid=host", programs)
        return _docker(environment, "run", *options, image, "/probe/spire-agent", "--version")
    finally:
        _docker(environment, "image", "rm", "--force", image)


@contextmanager
def _own(folder: Path) -> Iterator[dict[str, str]]:
    """Start an engine that keeps all it has in a folder, end it afterwards, and undo its mounts."""
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if not program:
        raise NoEngineError(f"no engine answers, and there is no dockerd to start one ({_HOW})")
    if os.geteuid() != 0:
        raise NoEngineError("no engine answers, and only root can start one")
    host = f"unix://{folder}/docker.sock"
    try:
        daemon = _begin(program, folder, host)
        try:
            yield {"DOCKER_HOST": host}
        finally:
            daemon.end()
    finally:
        _unmount(folder)


def _begin(program: str, folder: Path, host: str) -> Daemon:
    """Return the engine once it answers, on the first kind of storage that works here."""
    for storage in _STORAGE:
        daemon = Daemon(
            command=(
                program, f"--host={host}", f"--storage-driver={storage}", f"--data-root={folder}/data",
                f"--exec-root={folder}/run", f"--pidfile={folder}/dockerd.pid", *_NO_NETWORK,
            ),
            log=folder / "dockerd.log",
            record=folder / "record",
            death_signal=signal.SIGTERM,  # killed, it would leave its containers behind
        )  # fmt: skip
        daemon.begin(detached=False)
        if _answers(daemon, host):
            return daemon
        daemon.end()
    raise NoEngineError(f"dockerd does not start: {daemon.tail(1)}")


def _answers(daemon: Daemon, host: str) -> bool:
    """Wait until the engine answers; False when it has ended instead, or takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while daemon.process() and time.monotonic() < deadline:
        if not _docker({"DOCKER_HOST": host}, "version"):
            return True
        time.sleep(0.1)
    return False


def _unmount(folder: Path) -> None:
    """Let go of what the engine leaves mounted, innermost first, so that the folder can be removed."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    for mount in reversed(mounts):
        if Path(mount).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", mount], check=False)


def run(command: list[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end, and return its status. An interruption is the command's to obey first."""
    child = subprocess.Popen(command, env=os.environ | environment)
    try:
        return child.wait()
    except Interrupted:
        child.send_signal(signal.SIGINT)  # what a terminal sends to both by itself
        raise
    finally:
        child.wait()


def main(command: list[str]) -> int:
    """Return the command's own status, or 0 when it was left out."""
    try:
        with Interrupts(), engine() as environment:
            return run(command, environment)
    except NoEngineError as reason:
        say(f"containers: left out, because {reason}.")
        return 0
    except DeployError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
