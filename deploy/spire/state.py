"""What a run directory remembers between ``up`` and ``down``, and the choices made once."""

import fcntl
import hashlib
import json
import os
import random
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from deploy.progress import step
from deploy.spire.build import Binaries
from deploy.spire.errors import DeployError
from deploy.spire.trust_domain import TrustDomain, too_long_for_a_socket

_PORTS = range(20000, 32000)  # below the range that outgoing connections use
_SHORT_BASE = Path("/tmp")  # noqa: S108  socket paths have little room; the directory below is checked to be ours


@dataclass(frozen=True, kw_only=True)
class State:
    """How a deployment was started. Which processes run is on record beside their logs."""

    trust_domains: tuple[str, ...]
    ports: tuple[tuple[int, int], ...]
    svid_ttl: str
    detached: bool
    server: str
    agent: str

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """Return what is remembered; None where there is nothing, or nothing that can be understood."""
        try:
            content = json.loads(_file(directory).read_text(encoding="utf-8"))
            names, ports = content.pop("trust_domains"), content.pop("ports")
            return cls(trust_domains=tuple(names), ports=tuple((int(a), int(b)) for a, b in ports), **content)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, directory: Path) -> None:
        """Remember this, whole or not at all."""
        unfinished = _file(directory).with_suffix(".unfinished")
        unfinished.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")
        unfinished.replace(_file(directory))

    def with_new_ports(self) -> Self:
        """Return the same with ports that are free now, two for each trust domain."""
        free = free_ports(2 * len(self.trust_domains))
        return replace(self, ports=tuple(zip(free[::2], free[1::2], strict=True)))

    def layout(self, directory: Path) -> tuple[TrustDomain, ...]:
        """Return the trust domains with all their places under the run directory."""
        binaries = Binaries(server=Path(self.server), agent=Path(self.agent), source="the running deployment")
        sockets = [directory / name / "sockets" for name in self.trust_domains]
        if any(map(too_long_for_a_socket, sockets)):
            sockets = [short_directory(directory) / str(number) for number in range(len(sockets))]
        return tuple(
            TrustDomain(
                name=name,
                directory=directory / name,
                sockets=place,
                server_port=server_port,
                bundle_port=bundle_port,
                binaries=binaries,
            )
            for name, place, (server_port, bundle_port) in zip(self.trust_domains, sockets, self.ports, strict=True)
        )


def _file(directory: Path) -> Path:
    return directory / "state.json"


def forget(directory: Path) -> None:
    """Remove what was remembered, and the short directory of sockets if there is one."""
    short = short_directory(directory)
    if short.is_dir() and not short.is_symlink() and short.stat().st_uid == os.geteuid():
        shutil.rmtree(short, ignore_errors=True)
    _file(directory).unlink(missing_ok=True)


def short_directory(directory: Path) -> Path:
    """Where sockets go when the run directory's own path is too long for them; always the same place."""
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()
    return _SHORT_BASE / f"spire-{os.geteuid()}-{digest[:12]}"


def claim_short_directory(directory: Path) -> None:
    """Make that place ours. Raises DeployError when somebody else has taken it."""
    short = short_directory(directory)
    short.mkdir(mode=0o711, exist_ok=True)
    found = short.lstat()
    if not short.is_dir() or short.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise DeployError(f"{short} belongs to somebody else; choose a run directory with a shorter path.")


def free_ports(count: int) -> list[int]:
    """Choose ports of the loopback interface that nobody listens on at this moment."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise DeployError(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop} on 127.0.0.1")


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Let one start or stop at a time touch a run directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as file:
        if not _try_lock(file.fileno()):
            with step(f"Waiting for another start or stop in {directory}"):
                while not _try_lock(file.fileno()):
                    time.sleep(0.1)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
