"""The compiled load at work: its subscribers, who are told when to end, and its open loop."""

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.trust_domain import Svid, TrustDomain, pem


def write_identity(folder: Path, name: str, svid: Svid, peers: TrustDomain) -> Path:
    """Write an SVID and the roots of its peer's trust domain; return what the program calls them by."""
    parts = {"key": svid.private_key, "pem": svid.certificate_chain, "roots": pem(peers.bundle)}
    for part, content in parts.items():
        (folder / f"{name}.{part}").write_bytes(content)
    return folder / name


@asynccontextmanager
async def started(program: Path, *arguments: str) -> AsyncIterator[Process]:
    """Run the program; it ends when this does."""
    process = await asyncio.create_subprocess_exec(program, *arguments, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def said(process: Process, *, within: float) -> dict[str, Any]:
    """Return the next thing that the program says."""
    assert process.stdout is not None
    async with asyncio.timeout(within):
        line = await process.stdout.readline()
    assert line, "the program ended; what it said stands above"
    found: dict[str, Any] = json.loads(line)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Followers:
    """Subscribers in one process of the compiled load, all of whom have heard their first message."""

    process: Process
    journal: Path

    async def release(self) -> int:
        """Let those who were held read on; return how many messages had come to all of them until then."""
        await self._order("release")
        count: int = (await said(self.process, within=120))["messages"]
        return count

    async def done(self, until: int, *, within: float) -> dict[str, int]:
        """Let each end that was told everything before a position, and wait for all; return what they count."""
        await self._order(f"until {until}")
        counts = await said(self.process, within=within)
        assert await self.process.wait() == 0, "a subscriber was refused; why stands above"
        return counts

    async def _order(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        await self.process.stdin.drain()


@asynccontextmanager
async def following(
    program: Path, plan: Sequence[dict[str, Any]], folder: Path, *, within: float = 120
) -> AsyncIterator[Followers]:
    """Start subscribers by a plan, and wait for the first message of each."""
    path = folder / "plan.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in plan))
    async with started(program, "follow", str(path), str(folder / "journal.jsonl")) as process:
        assert await said(process, within=within) == {"begun": len(plan)}
        yield Followers(process=process, journal=folder / "journal.jsonl")
