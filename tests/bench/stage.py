"""The stage: a trust domain, and each server of the comparison in processes of its own."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.fakes.trust_domain import Svid, TrustDomain, pem
from tests.fakes.workload_api import WorkloadApi
from tests.faults.spawned import free_port
from tests.interop.build import go_is_here
from tests.load.build import build
from tests.operations.world import ORDERS, ROOT, SECURITY, SUPPORT, configuration

ISSUER = "https://broker.example.org"
NAME = "broker.example.org"
ROLES = {"agent": SUPPORT, "service": ORDERS, "operator": SECURITY}
# What the reference in Go appends to: a record of so many bytes for each answer (tests/load/serve.go).
JOURNAL = "go.journal"
RECORD = 900
_READY = b"ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs: its port, and what processes it is."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"

    def cpu_seconds(self) -> float:
        """Return the CPU time that it and its children have used so far."""
        return sum(_cpu_seconds(pid) for pid in (self.process.pid, *_children(self.process.pid)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything that the rounds need: who is who, and the servers by name."""

    folder: Path
    domain: TrustDomain
    servers: dict[str, Server]
    svids: dict[str, Svid]

    def channel(self, role: str, server: str) -> grpc.aio.Channel:
        """Connect one of the roles to a server; the caller closes it."""
        svid = self.svids[role]
        credentials = grpc.ssl_channel_credentials(pem(self.domain.bundle), svid.private_key, svid.certificate_chain)
        return grpc.aio.secure_channel(f"127.0.0.1:{self.servers[server].port}", credentials, options=OPTIONS)


OPTIONS = (("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1))


@contextmanager
def open_stage(folder: Path) -> Iterator[Stage]:
    """Start the broker, the one with its audit off, the naive one, the bare RPC and, with Go, its like; end all."""
    domain = TrustDomain()
    svid = domain.svid("/broker", dns=(NAME,))
    _write_tls(folder, "server", svid, domain)
    svids = {role: domain.svid(spiffe_id) for role, spiffe_id in ROLES.items()}
    _write_tls(folder, "agent", svids["agent"], domain)
    with ExitStack() as stack:
        api = WorkloadApi(folder / "agent.sock")
        api.give_svid(svid, domain)
        stack.callback(api.start().stop)
        started: list[Server] = []

        def keep(server: Server) -> None:
            stack.callback(_stop, server.process)
            started.append(server)

        keep(_start_broker(folder, api, "durable", [sys.executable, "-m", "broker"]))
        keep(_start_broker(folder, api, "off", [sys.executable, "-m", "tests.bench.forgetful"]))
        keep(_start_program(folder, "naive"))
        keep(_start_program(folder, "bare"))
        if go_is_here():
            keep(_start_go(folder))
        for server in started:
            _wait_until_ready(server, folder)
        yield Stage(folder=folder, domain=domain, servers={each.name: each for each in started}, svids=svids)


def tls_of(folder: Path) -> grpc.ServerCredentials:
    """Return what a program of the stage serves with; it demands a client's certificate."""
    key, chain, roots = (folder / f"server.{part}" for part in ("key", "pem", "roots"))
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), chain.read_bytes())], roots.read_bytes(), require_client_auth=True
    )


async def serve_until_stopped(server: grpc.aio.Server) -> None:
    """Serve until SIGTERM, after a line that says so."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    print("ready", flush=True)  # noqa: T201 -- whom the stage waits for
    await stop.wait()
    await server.stop(0)


def _write_tls(folder: Path, name: str, svid: Svid, domain: TrustDomain) -> None:
    parts = {"key": svid.private_key, "pem": svid.certificate_chain, "roots": pem(domain.bundle)}
    for part, content in parts.items():
        (folder / f"{name}.{part}").write_bytes(content)


def _start_broker(folder: Path, api: WorkloadApi, name: str, argv: Sequence[str]) -> Server:
    home = folder / name
    home.mkdir()
    port = free_port()
    path = configuration(home, workload_api=f'socket = "{api.socket}"')
    path.write_text(path.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    return _start(folder, name, port, [*argv, "serve", "--config", str(path)])


def _start_program(folder: Path, name: str) -> Server:
    port = free_port()
    return _start(folder, name, port, [sys.executable, "-m", f"tests.bench.{name}", str(folder), str(port)])


def _start_go(folder: Path) -> Server:
    """Start the reference in Go, whose answers wait for the disk; build it first."""
    program = build(folder / "go", aside=nullcontext)
    port = free_port()
    argv = [str(program), "serve", "-listen", f"127.0.0.1:{port}"]
    return _start(folder, "go", port, [*argv, "-identity", str(folder / "server"), "-journal", str(folder / JOURNAL)])


def _start(folder: Path, name: str, port: int, argv: Sequence[str]) -> Server:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BROKER_", "SPIFFE_"))}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=ROOT, env=kept, stdout=subprocess.PIPE, stderr=log)
    return Server(name=name, port=port, process=process)


def _wait_until_ready(server: Server, folder: Path) -> None:
    assert server.process.stdout is not None
    line = server.process.stdout.readline()
    if _READY not in line:
        raise RuntimeError(f"{server.name} did not start: {(folder / f'{server.name}.log').read_text()[-2000:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _cpu_seconds(pid: int) -> float:
    """Return user and system time of a process, threads that have ended included (clock_getcpuclockid(3)), to 1 ns."""
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise RuntimeError(f"process {pid} is gone")
    return time.clock_gettime(clock.value)
