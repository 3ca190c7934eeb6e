"""A spawned broker on a fake SPIRE, and clients that write down what they are told."""

import asyncio
import os
import random
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Self

import grpc
from spiffe import SpiffeId as PySpiffeId
from spiffe import X509Svid

from broker.client.errors import RefusedError, from_rpc
from broker.credential.token import Token
from broker.errors import Reason
from broker.link.identity import Identity, identity_of
from broker.link.tunnel import Tunnel
from broker.store.interface import StoreUnavailable
from broker.store.sqlite import SqliteStore
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId
from broker.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    exchange_pb2,
    exchange_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    revoke_pb2,
    revoke_pb2_grpc,
    task_pb2,
    task_pb2_grpc,
    types_pb2,
)
from tests.fakes.trust_domain import Svid, TrustDomain
from tests.fakes.workload_api import WorkloadApi
from tests.faults.launcher import FOLDER_VARIABLE
from tests.faults.ledger import Facts, Held, Ledger, read
from tests.faults.points import Orders
from tests.operations.world import BROKER, BUNDLE, ORDERS, ROOT, SECURITY, SUPPORT, configuration
from tests.polling import eventually

DEADLINE = 10.0
# Nothing is retried by gRPC: a lost answer has to reach the ledger.
_OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
)
# What says nothing about whether the broker acted.
UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """A client's identity, the same leaf for as long as it lives."""

    own: Identity
    trust: TrustBundles

    def identity(self) -> Identity:
        return self.own

    def bundles(self) -> TrustBundles:
        return self.trust


def supply_of(svid: Svid, domain: TrustDomain) -> Supply:
    chain = X509Svid(PySpiffeId(svid.id), [svid.leaf, *svid.sent], svid.key)
    return Supply(own=identity_of(chain), trust=domain.bundles())


@dataclass(slots=True, kw_only=True)
class Client:
    """One connection to the broker; each method returns what was given, or why nothing was.

    A reason's name is the answer of a refusal, UNKNOWN that there was no answer.
    """

    tunnel: Tunnel
    channel: grpc.aio.Channel
    ledger: Ledger

    @classmethod
    def open(cls, supply: Supply, port: int, ledger: Ledger) -> Self:
        tunnel = Tunnel(
            host="127.0.0.1",
            port=port,
            server_id=SpiffeId.parse(BROKER),
            supply=supply,
            clock=lambda: datetime.now(UTC),
        )
        return cls(tunnel=tunnel, channel=tunnel.channel(options=_OPTIONS), ledger=ledger)

    async def close(self) -> None:
        await self.channel.close()
        await asyncio.to_thread(self.tunnel.close)

    async def exchange(self, request_id: str, *, task: str = "", deadline: float = DEADLINE) -> Held | str:
        request = exchange_pb2.ExchangeRequest(
            intent=types_pb2.Intent(
                action="order.read",
                resource=types_pb2.Resource(type="order", id="1234"),
                parameters="{}",
                purpose="customer-support",
                audience=ORDERS,
                task_id=task,
            ),
            request_id=request_id,
        )
        answer = await _told(exchange_pb2_grpc.ExchangeServiceStub(self.channel).Exchange(request, timeout=deadline))
        if isinstance(answer, str):
            self.ledger.lost.add(request_id)
            return answer
        given = answer.credential
        token = Token(given.token, credential_id=given.credential_id)
        held = Held(request_id=request_id, credential=given.credential_id, digest=token.digest())
        self.ledger.held.append(held)
        return held

    async def revoke(self, credential: str, *, deadline: float = DEADLINE) -> str:
        """Revoke one credential; empty when it was acknowledged."""
        request = revoke_pb2.RevokeRequest(rule=revoke_pb2.RevocationRule(credential_id=credential), reason="a fault")
        answer = await _told(revoke_pb2_grpc.RevocationServiceStub(self.channel).Revoke(request, timeout=deadline))
        if isinstance(answer, str):
            return answer
        self.ledger.revocations.append((answer.revocation_id, credential, answer.position))
        return ""

    async def begin(self, conversation: str) -> tuple[str, str]:
        """Begin a task; the task, or else why there is none."""
        request = task_pb2.BeginTaskRequest(purpose="customer-support", conversation=conversation)
        answer = await _told(task_pb2_grpc.TaskServiceStub(self.channel).BeginTask(request, timeout=DEADLINE))
        if isinstance(answer, str):
            return "", answer
        self.ledger.begun.append(answer.task.task_id)
        return answer.task.task_id, ""

    async def end(self, task: str) -> str:
        """End a task; empty when it was acknowledged."""
        request = task_pb2.EndTaskRequest(task_id=task)
        answer = await _told(task_pb2_grpc.TaskServiceStub(self.channel).EndTask(request, timeout=DEADLINE))
        if isinstance(answer, str):
            return answer
        self.ledger.ended.append((task, answer.position))
        return ""

    async def keep_checkpoint(self) -> bool:
        """Keep a checkpoint of everything so far, as an auditor outside the broker does."""
        keys = await _told(
            keys_pb2_grpc.KeyServiceStub(self.channel).GetKeySet(keys_pb2.GetKeySetRequest(), timeout=DEADLINE)
        )
        request = audit_pb2.GetCheckpointRequest()
        answer = await _told(audit_pb2_grpc.AuditServiceStub(self.channel).GetCheckpoint(request, timeout=DEADLINE))
        if isinstance(answer, str) or isinstance(keys, str):
            return False
        self.ledger.key = keys.key_set.checkpoint_key
        self.ledger.notes.append(answer.checkpoint.note)
        return True


async def _told(call: Any) -> Any:
    """Return the answer, or the name of the reason why there is none."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        told = from_rpc(error, connection=None)
        if not isinstance(told, RefusedError):
            return UNKNOWN
        return told.reason.name if isinstance(told.reason, Reason) else told.reason


@dataclass(slots=True, kw_only=True)
class Spawned:
    """A broker in processes of its own."""

    folder: Path
    port: int
    embedded: bool
    domain: TrustDomain
    orders: Orders
    ledger: Ledger = field(default_factory=Ledger)
    process: "subprocess.Popen[bytes] | None" = None
    agent: Client
    security: Client
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
async def spawn(folder: Path, *, embedded: bool = False) -> AsyncIterator[Spawned]:
    """Start a broker, and end it."""
    domain = TrustDomain()
    api = WorkloadApi(folder / "agent.sock")
    api.give_svid(domain.svid("/broker"), domain)
    api.start()
    port = free_port()
    configuration(folder, policy=BUNDLE, workload_api=f'socket = "{api.socket}"')
    path = folder / "broker.toml"
    path.write_text(path.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    ledger = Ledger()

    def client(spiffe_id: str) -> Client:
        return Client.open(supply_of(domain.svid(spiffe_id), domain), port, ledger)

    spawned = Spawned(
        folder=folder,
        port=port,
        embedded=embedded,
        domain=domain,
        orders=Orders(folder=folder),
        ledger=ledger,
        agent=client(SUPPORT),
        security=client(SECURITY),
    )
    try:
        await spawned.serves()
        yield spawned
    finally:
        await asyncio.to_thread(spawned.stop)
        await spawned.agent.close()
        await spawned.security.close()
        await asyncio.to_thread(api.stop)


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
