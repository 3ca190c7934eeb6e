"""A broker and its callers on a real SPIRE: each a process of its own, told apart by attestation."""

import asyncio
import json
import os
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.spire.deployment import Deployment, workload_interpreter
from tests.faults.spawned import free_port

ROOT = Path(__file__).resolve().parents[2]
BROKER = "spiffe://example.org/broker"
ORDERS = "spiffe://example.org/service/orders"
BOTH = ("example.org", "partner.example")
READ = {"do": "exchange", "action": "order.read", "resource": "order/1234", "purpose": "customer-support",
        "audience": ORDERS}  # fmt: skip


@dataclass(kw_only=True)
class Workload:
    """A running workload; `ask` has it do one thing."""

    process: Process

    async def ask(self, request: dict[str, Any], *, within: float = 30.0) -> dict[str, Any]:
        """Send one request and return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        await self.process.stdin.drain()
        return await self.answer(within=within)

    async def answer(self, *, within: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(within):
            line = await self.process.stdout.readline()
        assert line, f"the workload ended with {await self.process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(kw_only=True)
class Stage:
    """SPIRE, a broker on it, and whoever calls."""

    spire: Deployment
    folder: Path
    port: int
    stack: AsyncExitStack
    broker: Process | None = None
    _workloads: dict[str, Workload] = field(default_factory=dict)

    def interpreter(self, spiffe_id: str) -> Path:
        """Return an interpreter that SPIRE takes for this workload, with its entry made."""
        domain, _, path = spiffe_id.removeprefix("spiffe://").partition("/")
        name = f"{domain}-{path}".replace("/", "-")
        interpreter = workload_interpreter(name, directory=self.folder / "workloads", venv=Path(sys.prefix))
        others = tuple(other for other in BOTH if other != domain)
        self.spire.entry(spiffe_id, path=interpreter, federates_with=others)
        return interpreter

    async def workload(self, spiffe_id: str, program: str = "workload.py", *arguments: str) -> Workload:
        """Return the running workload of this SPIFFE ID."""
        if spiffe_id not in self._workloads:
            domain = spiffe_id.removeprefix("spiffe://").partition("/")[0]
            environment = os.environ | {
                "SPIFFE_ENDPOINT_SOCKET": self.spire.workload_socket(domain),
                "BROKER_ADDRESS": f"127.0.0.1:{self.port}",
                "BROKER_ID": BROKER,
                "PYTHONPATH": f"{ROOT}:{ROOT / 'examples/support-desk'}",
            }
            process = await asyncio.create_subprocess_exec(
                self.interpreter(spiffe_id), str(ROOT / "tests/spire" / program), *arguments,
                stdin=PIPE, stdout=PIPE, env=environment, limit=2**24,
            )  # fmt: skip
            self.stack.push_async_callback(_end, process)
            workload = Workload(process=process)
            await workload.answer(within=60)
            self._workloads[spiffe_id] = workload
        return self._workloads[spiffe_id]

    async def service(self, port: int) -> Workload:
        """Return the orders service, started on a port when it does not run."""
        return await self.workload(ORDERS, "service.py", str(port))

    async def kill_service(self) -> None:
        """End the service at once."""
        process = self._workloads.pop(ORDERS).process
        process.kill()
        await process.wait()

    async def as_(self, spiffe_id: str, request: dict[str, Any], *, within: float = 30.0) -> dict[str, Any]:
        """Have somebody do something."""
        return await (await self.workload(spiffe_id)).ask(request, within=within)

    async def start_broker(self) -> None:
        """Start `broker serve`, issuer and door as two processes, and wait until it serves."""
        policy = self.folder / "policy"
        if not policy.exists():
            shutil.copytree(ROOT / "examples/support-desk/policy", policy)
        configuration = self.folder / "broker.toml"
        configuration.write_text(self._configuration(policy))
        self.broker = await asyncio.create_subprocess_exec(
            self.interpreter(BROKER), "-m", "broker", "serve", "--config", str(configuration),
            stdout=PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.stack.push_async_callback(_end, self.broker)
        assert self.broker.stdout is not None
        async with asyncio.timeout(60):
            line = await self.broker.stdout.readline()
        assert b"ready" in line, line

    def _configuration(self, policy: Path) -> str:
        return f"""
[broker]
issuer = "https://broker.example.org"
spiffe_id = "{BROKER}"
[listen]
address = "127.0.0.1:{self.port}"
[admin]
socket = "{self.folder}/admin.sock"
[workload_api]
socket = "{self.spire.workload_socket("example.org")}"
[store]
url = "sqlite:///{self.folder}/broker.sqlite3"
[keys]
dir = "{self.folder}/keys"
[policy]
dir = "{policy}"
"""


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        async with asyncio.timeout(30):
            await process.wait()


@asynccontextmanager
async def stage(spire: Deployment, folder: Path) -> AsyncIterator[Stage]:
    """Set a stage: the broker runs; callers start when they are first asked."""
    async with AsyncExitStack() as stack:
        opened = Stage(spire=spire, folder=folder, port=free_port(), stack=stack)
        await opened.start_broker()
        yield opened
