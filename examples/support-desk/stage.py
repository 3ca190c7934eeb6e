"""What the demonstration starts, and what it leaves: nothing.

Everything lives in one temporary directory. Every process carries MARK in its environment, so that none can be missed.
"""

import fcntl
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from workers import Worker

from deploy.spire.deployment import Deployment, start, workload_interpreter
from deploy.spire.errors import DeployError
from deploy.spire.interrupts import Interrupts

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
VENV: Final = Path(sys.prefix)
TRUST_DOMAIN: Final = "example.org"
PARTNER: Final = "partner.example"
BROKER_ID: Final = "spiffe://example.org/broker"
ISSUER: Final = "https://broker.example.org"
MARK: Final = "SUPPORT_DESK_DEMO"

WORKLOADS: Final = {
    "broker": BROKER_ID,
    "orders-service": "spiffe://example.org/service/orders",
    "support-assistant": "spiffe://example.org/agent/support-assistant",
    "wholesale-assistant": "spiffe://example.org/agent/wholesale-assistant",
    "security": "spiffe://example.org/operator/security",
    "chat": "spiffe://example.org/service/chat",
    "refunds-lead": "spiffe://example.org/operator/refunds-lead",
}
_PROGRAMS: Final = {
    "orders-service": "service.py",
    "support-assistant": "agent.py",
    "wholesale-assistant": "thief.py",
    "security": "security.py",
    "chat": "chat.py",
}
_PREFIX: Final = "broker-demo-"
_LOCK: Final = "lock"
_ROOM_BYTES: Final = 256 * 1024**2
_LONGEST_BASE: Final = 40  # characters; sockets below it have room for 107 in all
_CONFIGURATION: Final = """\
[broker]
issuer = "{issuer}"
spiffe_id = "{broker_id}"

[listen]
address = "127.0.0.1:0"

[admin]
socket = "{directory}/admin.sock"

[workload_api]
socket = "{workload_api}"

[store]
url = "sqlite:///{directory}/broker.sqlite3"

[keys]
dir = "{directory}/keys"

[policy]
dir = "{directory}/policy"

[[oidc]]
issuer = "{sign_in}"
ca_file = "{directory}/{ca_file}"
"""
_CA_FILE: Final = "sign-in.pem"
# In entities.toml, before the task type's drift: where this run's customers sign in.
_CUSTOMERS: Final = 'customers = [{{ front_end = "{front_end}", issuer = "{issuer}", audience = "{client}" }}]\n'
_BEFORE: Final = "drift = "


@dataclass(slots=True, kw_only=True)
class Stage:
    """Everything that runs, from SPIRE to the stand-in service."""

    directory: Path
    interrupts: Interrupts
    spire: Deployment | None = None
    workers: dict[str, Worker] = field(default_factory=dict)
    ports: set[int] = field(default_factory=set)
    interpreters: dict[str, Path] = field(default_factory=dict)
    broker_address: str = ""

    def start_spire(self) -> Deployment:
        """Start SPIRE, and register every workload by the program it runs."""
        deployment = start(self.directory / "spire", detached=False)
        self.spire = deployment
        for here in deployment.trust_domains:
            self.ports |= {here.server_port, here.bundle_port}
        for name, spiffe_id in WORKLOADS.items():
            path = workload_interpreter(name, directory=self.directory / "workloads", venv=VENV)
            self.interpreters[name] = path
            deployment.entry(spiffe_id, path=path, federates_with=(PARTNER,))
        return deployment

    def start_sign_in(self) -> str:
        """Start where the customers sign in; return its issuer. It is no workload of SPIRE's."""
        worker = self._program("sign-in", "sign_in.py", str(self.directory / _CA_FILE))
        told = worker.get("state")
        self.ports.add(told["port"])
        policy = self.directory / "policy"
        shutil.copytree(HERE / "policy", policy)
        entities = policy / "entities.toml"
        line = _CUSTOMERS.format(front_end=WORKLOADS["chat"], issuer=told["issuer"], client=told["client"])
        entities.write_text(entities.read_text("utf-8").replace(_BEFORE, line + _BEFORE, 1), "utf-8")
        return str(told["issuer"])

    def start_broker(self, sign_in: str) -> str:
        """Start the broker, issuer and door as processes of their own; return what it says when it is ready."""
        configuration = self.directory / "broker.toml"
        configuration.write_text(
            _CONFIGURATION.format(
                issuer=ISSUER,
                broker_id=BROKER_ID,
                directory=self.directory,
                workload_api=self._workload_api(),
                sign_in=sign_in,
                ca_file=_CA_FILE,
            ),
            encoding="utf-8",
        )
        (self.directory / "keys").mkdir(mode=0o700)
        command = ["-m", "broker", "serve", "--config", str(configuration)]
        broker = self.begin("broker", [str(self.interpreters["broker"]), *command], speaks=False, seconds_to_end=25)
        found = broker.await_in_log(r"broker: ready: (\S+:(\d+)) as .*")
        self.broker_address = found[1]
        self.ports.add(int(found[2]))
        return found[0].removeprefix("broker: ready: ")

    def start_workloads(self) -> None:
        """Start the agents, the service and the operator, together."""
        to_broker = ["--broker", self.broker_address, "--broker-id", BROKER_ID, "--issuer", ISSUER]
        for name, program in _PROGRAMS.items():
            arguments = [*to_broker, "--spool", str(self._spool())] if name == "orders-service" else []
            self.begin(name, [str(self.interpreters[name]), str(HERE / program), *arguments])
        for name in _PROGRAMS:
            self.workers[name].answered()

    def start_stand_in(self) -> Worker:
        """Start the service that is protected by a shared key; it is no workload of SPIRE's."""
        return self._program("shared-key-service", "shared_key.py")

    def command(self, name: str, *arguments: str) -> str:
        """Run a `broker` command as one of the workloads, a person's usual way; return what it says.

        Raises:
            WorkerFailed: it did not end well.

        """
        worker = Worker(
            name=f"{name}-command",
            command=[str(self.interpreters[name]), "-m", "broker", *arguments],
            directory=self.directory,
            environment=self._environment(),
        )
        with self.interrupts.held():
            self.workers[worker.name] = worker
            worker.begin()
        return worker.said()

    def begin(self, name: str, command: list[str], *, speaks: bool = True, seconds_to_end: float = 5.0) -> Worker:
        """Start a process; from its first instant it is one of those that will be ended."""
        worker = Worker(
            name=name,
            command=command,
            directory=self.directory,
            environment=self._environment(),
            speaks=speaks,
            seconds_to_end=seconds_to_end,
        )
        with self.interrupts.held():
            self.workers[name] = worker
            worker.begin()
        return worker

    def close(self) -> None:
        """End everything, and remove the directory. More than once is harmless."""
        with self.interrupts.held():
            for worker in reversed(self.workers.values()):
                worker.end()
            if self.spire is not None:
                self.spire.stop()
            shutil.rmtree(self.directory, ignore_errors=True)

    def running(self) -> list[int]:
        """Return the ids of all processes that carry this stage's mark, but this one."""
        mark = f"{MARK}={self.directory}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                with suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def process_of(self, argument: str) -> int:
        """Return the one process of ours that has this argument; 0 when there is none."""
        for pid in self.running():
            with suppress(OSError):
                if argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    return pid
        return 0

    def broker_log(self) -> str:
        """Return the end of the broker's log."""
        broker = self.workers.get("broker")
        return broker.tail() if broker else "(the broker was not started)"

    def listening(self) -> list[int]:
        """Return those of our ports that somebody listens on."""
        return [port for port in sorted(self.ports) if _listens(port)]

    def _program(self, name: str, program: str, *arguments: str) -> Worker:
        """Start a program that SPIRE does not know."""
        worker = self.begin(name, [str(VENV / "bin" / "python"), str(HERE / program), *arguments])
        worker.answered()
        return worker

    def _spool(self) -> Path:
        folder = self.directory / "orders-service.spool"
        folder.mkdir(mode=0o700)
        return folder

    def _workload_api(self) -> str:
        if self.spire is None:
            raise DeployError("SPIRE comes first")
        return self.spire.workload_socket(TRUST_DOMAIN)

    def _environment(self) -> dict[str, str]:
        """Return what processes get: settings that the user has for some other broker are not among it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BROKER_", "PYTHON"))}
        temporary = self.directory / "tmp"
        temporary.mkdir(exist_ok=True)
        return kept | {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(temporary),
            "SPIFFE_ENDPOINT_SOCKET": self._workload_api(),
            "BROKER_ADDRESS": self.broker_address,
            "BROKER_ID": BROKER_ID,
        }


@contextmanager
def opened(interrupts: Interrupts) -> Iterator[Stage]:
    """Make the directory; whatever happens then, everything that was started is ended.

    Raises:
        DeployError: there is no room.

    """
    base = Path(tempfile.gettempdir())
    base = base if len(str(base)) <= _LONGEST_BASE else Path("/tmp")  # noqa: S108  mkdtemp makes it ours
    free = shutil.disk_usage(base).free
    if free < _ROOM_BYTES:
        raise DeployError(
            f"The demonstration needs {_ROOM_BYTES // 1024**2} MB in {base} and {free // 1024**2} MB are free. "
            "Make room there, or set TMPDIR to a directory that has it."
        )
    with interrupts.held():
        _sweep(base)
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        with (directory / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.environ[MARK] = str(directory)
            stage = Stage(directory=directory, interrupts=interrupts)
            try:
                with interrupts.allowed():
                    yield stage
            finally:
                stage.close()


def _sweep(base: Path) -> None:
    """Remove what a demonstration left that was killed: its processes died with it, its files could not."""
    for lock in base.glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError), lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: it still runs
            if lock.stat().st_uid == os.geteuid():
                shutil.rmtree(lock.parent, ignore_errors=True)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
