"""A spawned broker on a fake SPIRE."""

import asyncio
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from broker.store.interface import StoreUnavailable
from broker.store.sqlite import SqliteStore
from tests.fakes.trust_domain import TrustDomain
from tests.fakes.workload_api import WorkloadApi
from tests.faults.bundle import bundle
from tests.faults.client import Client, supply_of
from tests.faults.facts import Facts, read
from tests.faults.launcher import CARELESS, FOLDER_VARIABLE
from tests.faults.ledger import Ledger
from tests.faults.points import Orders
from tests.operations.limiting import write
from tests.operations.world import DUTY, LEAD, ORDERS, ROOT, SECURITY, SUPPORT, configuration
from tests.polling import eventually


@dataclass(slots=True, kw_only=True)
class Spawned:
    """A broker in processes of its own."""

    folder: Path
    port: int
    embedded: bool
    preload: Path | None = None
    domain: TrustDomain
    api: WorkloadApi
    orders: Orders
    ledger: Ledger = field(default_factory=Ledger)
    process: "subprocess.Popen[bytes] | None" = None
    agent: Client
    security: Client
    duty: Client
    service: Client
    lead: Client
    _names: Any = field(default_factory=count)

    @property
    def database(self) -> Path:
        return self.folder / "broker.sqlite3"

    def facts(self) -> Facts:
        return read(self.database)

    def name(self, kind: str) -> str:
        """Return a name that nothing has yet."""
        return f"{kind}-{next(self._names)}"

    def start(self) -> None:
        argv = [sys.executable, "-m", "tests.faults.launcher", "serve", "--config", str(self.folder / "broker.toml")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
        if self.preload is not None:
            environment |= {"LD_PRELOAD": str(self.preload), "FAULTS_IO": str(self.folder / "io")}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, "--embedded"] if self.embedded else argv,
                cwd=ROOT,
                env=environment | {FOLDER_VARIABLE: str(self.folder)},
                stdout=log,
                stderr=log,
            )

    async def serves(self) -> None:
        """Wait until an exchange is answered and a checkpoint can be kept; start it when it does not run."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        await eventually(self._serves, within=60)

    async def _serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        return not isinstance(await self.agent.exchange(self.name("probe")), str) and (
            await self.security.keep_checkpoint()
        )

    def pid(self, role: str) -> int:
        """Return the process of a half, which is this broker's own child."""
        assert self.process is not None
        if role == "all" or self.embedded:
            return self.process.pid
        pid = int((self.folder / f"_{role}.pid").read_text())
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent == self.process.pid
        return pid

    def kill(self, role: str) -> None:
        """SIGKILL the issuer, the door, or the supervisor (and the kernel both halves with it)."""
        os.kill(self.pid(role), signal.SIGKILL)
        if role == "all":
            self._reap()

    def limit_files(self, size: int) -> None:
        """Let no file of the issuer grow beyond a size: a disk that is full, for any user."""
        _, hard = resource.prlimit(self.pid("issuer"), resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid("issuer"), resource.RLIMIT_FSIZE, (size, hard))

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self._reap()

    async def died(self) -> None:
        """Wait for the end of the whole broker."""
        await asyncio.to_thread(self._reap)

    def _reap(self) -> None:
        if self.process is not None:
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    async def reopened(self) -> Facts:
        """Stop the broker, open the store as the next one would (which proves its tail), and read it."""
        await asyncio.to_thread(self.stop)

        async def opened() -> SqliteStore | None:
            try:
                return SqliteStore(self.database, log_id="", cursor_key=b"")
            except StoreUnavailable as problem:
                # After a SIGKILL of the supervisor the kernel may still be ending the half that holds the lock.
                if "in use" not in str(problem):
                    raise
                return None

        store = await eventually(opened)
        try:
            return self.facts()
        finally:
            store.close()


@asynccontextmanager
async def spawn(
    folder: Path, *, embedded: bool = False, careless: bool = False, preload: Path | None = None, keys: str = ""
) -> AsyncIterator[Spawned]:
    """Start a broker, and end it.

    Args:
        folder: where all that it keeps lies.
        embedded: both halves in one process.
        careless: its store does not wait for its disk.
        preload: a library that its processes load first.
        keys: more of the configuration's section of that name.

    """
    if careless:
        (folder / CARELESS).touch()
    domain = TrustDomain()
    # Not in the folder, which may lose its power.
    elsewhere = Path(tempfile.mkdtemp(prefix="agent-"))
    api = WorkloadApi(elsewhere / "agent.sock")
    api.give_svid(domain.svid("/broker"), domain)
    api.start()
    port = free_port()
    write(folder, bundle())
    configuration(folder, policy=folder / "policy", workload_api=f'socket = "{api.socket}"')
    path = folder / "broker.toml"
    text = path.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}")
    path.write_text(text.replace("[keys]\n", f"[keys]\n{keys}\n"))
    for written in (*(folder / "policy").iterdir(), folder / "policy", path, folder):
        flush(written)
    ledger = Ledger()

    def client(spiffe_id: str) -> Client:
        return Client.open(supply_of(domain.svid(spiffe_id), domain), port, ledger)

    spawned = Spawned(
        folder=folder,
        port=port,
        embedded=embedded,
        preload=preload,
        domain=domain,
        api=api,
        orders=Orders(folder=folder),
        ledger=ledger,
        agent=client(SUPPORT),
        security=client(SECURITY),
        duty=client(DUTY),
        service=client(ORDERS),
        lead=client(LEAD),
    )
    try:
        await spawned.serves()
        yield spawned
    finally:
        await asyncio.to_thread(spawned.stop)
        for each in (spawned.agent, spawned.security, spawned.duty, spawned.service, spawned.lead):
            await each.close()
        await asyncio.to_thread(api.stop)
        await asyncio.to_thread(elsewhere.rmdir)


def flush(path: Path) -> None:
    """Have what an operator has written on the disk, whatever happens."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_port() -> int:
    """Return a port that a broker can take again and again: none that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
