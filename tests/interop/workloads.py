"""Workloads in Go on a stage of tests/spire: a copy of the program for each, attested by its path."""

import asyncio
import json
import os
import shutil
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.polling import eventually
from tests.spire.stage import BROKER, ORDERS, ROOT, Stage, Workload

ISSUER = "https://broker.example.org"


@dataclass(frozen=True, kw_only=True)
class Journal:
    """What a follower has written: one line a message."""

    path: Path

    def messages(self) -> list[dict[str, Any]]:
        """Return every whole line."""
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def positions(self) -> list[int]:
        """Return every position told, in the order of telling."""
        return [position for message in self.messages() for position in message["positions"] or ()]

    def revoked(self) -> list[str]:
        """Return every credential told to be revoked, in the order of telling."""
        return [name for message in self.messages() for name in message.get("revoked", ())]

    async def reaches(self, position: int) -> None:
        """Wait until everything through a position was told."""

        async def reached() -> bool:
            return any(message["to"] > position for message in self.messages())

        await eventually(reached, within=60)


@dataclass(kw_only=True)
class GoStage:
    """The stage, and who is written in Go on it."""

    stage: Stage
    program: Path
    _workloads: dict[str, Workload] = field(default_factory=dict)

    def of(self, spiffe_id: str, *, ttl: int | None = None) -> Path:
        """Return the program that SPIRE takes for this workload; `ttl` is that of its SVIDs, in seconds."""
        program = self.stage.folder / "go" / spiffe_id.rpartition("/")[2]
        if not program.exists():
            program.parent.mkdir(exist_ok=True)
            shutil.copy2(self.program, program)
        self.stage.spire.entry(spiffe_id, path=program, ttl=ttl)
        return program

    async def start(self, spiffe_id: str, *arguments: str, broker: str = BROKER) -> Process:
        """Start a workload of its own; it ends with the stage."""
        environment = os.environ | {
            "SPIFFE_ENDPOINT_SOCKET": self.stage.spire.workload_socket("example.org"),
            "BROKER_ADDRESS": f"127.0.0.1:{self.stage.port}",
            "BROKER_ID": broker,
        }
        program = await asyncio.to_thread(self.of, spiffe_id)
        process = await asyncio.create_subprocess_exec(program, *arguments, stdin=PIPE, stdout=PIPE, env=environment)
        self.stage.stack.push_async_callback(kill, process)
        return process

    async def workload(self, spiffe_id: str, *, broker: str = BROKER) -> Workload:
        """Start a workload that takes orders."""
        workload = Workload(process=await self.start(spiffe_id, broker=broker))
        assert await workload.answer(within=60) == {"ready": True}
        return workload

    async def as_(self, spiffe_id: str, request: dict[str, Any]) -> dict[str, Any]:
        """Have somebody do something."""
        if spiffe_id not in self._workloads:
            self._workloads[spiffe_id] = await self.workload(spiffe_id)
        return await self._workloads[spiffe_id].ask(request)

    async def follow(self, spiffe_id: str, stream: str, journal: Journal, *kinds: str) -> Process:
        """Follow a stream into a journal."""
        return await self.start(spiffe_id, "follow", stream, str(journal.path), *kinds)

    async def restart_broker(self) -> None:
        """End the broker, and start it again on the same port and store."""
        broker = self.stage.broker
        assert broker is not None
        broker.terminate()
        async with asyncio.timeout(30):
            await broker.wait()
        await self.stage.start_broker()

    async def orders_service(self) -> str:
        """Start the example's service, Python behind our interceptor; return its address."""
        interpreter = await asyncio.to_thread(self.stage.interpreter, ORDERS)
        process = await asyncio.create_subprocess_exec(
            interpreter, str(ROOT / "examples/support-desk/service.py"), "--broker", f"127.0.0.1:{self.stage.port}",
            "--broker-id", BROKER, "--issuer", ISSUER, stdin=PIPE, stdout=PIPE,
            env=os.environ | {
                "PYTHONPATH": str(ROOT), "SPIFFE_ENDPOINT_SOCKET": self.stage.spire.workload_socket("example.org")
            },
        )  # fmt: skip
        self.stage.stack.push_async_callback(kill, process)
        service = Workload(process=process)
        await service.answer(within=60)
        state = await service.ask({"do": "state"})
        return f"127.0.0.1:{state['ok']['port']}"


async def kill(process: Process) -> None:
    """End a process at once."""
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
