"""The load: one Python client in a process of its own, closed loop over mutual TLS.

It reads one command a line and answers with one line (JSON both ways): `python -m tests.bench.load FOLDER`. Being
Python it is a limit itself, so it says how much CPU it took.
"""

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

import grpc

from broker.v1 import exchange_pb2, exchange_pb2_grpc, types_pb2
from tests.bench.stage import OPTIONS
from tests.operations.world import ORDERS, ROOT

CONNECTIONS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to do.

    Attributes:
        port: of the server.
        stream: False: a call an exchange; True: one ExchangeStream a connection, several items a message.
        in_flight: exchanges that wait for their answer at any moment, over all connections.
        seconds: how long new ones are begun.

    """

    port: int
    stream: bool
    in_flight: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of it.

    Attributes:
        answers: credentials that came.
        seconds: from the first call to the last answer.
        cpu: seconds of CPU that the client took.
        middle: the median wait for one answer, in seconds.

    """

    answers: int
    seconds: float
    cpu: float
    middle: float


def intent(number: int) -> exchange_pb2.ExchangeRequest:
    """A read that the example bundle permits, of one order or another."""
    return exchange_pb2.ExchangeRequest(
        intent=types_pb2.Intent(
            action="order.read",
            resource=types_pb2.Resource(type="order", id=str(number % 1000)),
            purpose="customer-support",
            audience=ORDERS,
        )
    )


class Load:
    """The client's end.

    Args:
        folder: where the agent's key and certificates lie.

    """

    def __init__(self, folder: Path) -> None:
        key, chain, roots = ((folder / f"agent.{part}").read_bytes() for part in ("key", "pem", "roots"))
        self._credentials = grpc.ssl_channel_credentials(roots, key, chain)
        self._channels: dict[int, list[grpc.aio.Channel]] = {}
        self._numbers = count()
        self._waits: list[float] = []

    async def run(self, command: Command) -> Done:
        """Carry out a command; its connections stay for the next one."""
        channels = self._channels.get(command.port)
        if channels is None:
            channels = self._channels[command.port] = [self._connect(command.port) for _ in range(CONNECTIONS)]
        used = channels[: min(CONNECTIONS, command.in_flight)]
        work = self._converse if command.stream else self._call
        self._waits = []
        begun, cpu = time.perf_counter(), _cpu()
        until = begun + command.seconds
        shares = [command.in_flight // len(used) + (n < command.in_flight % len(used)) for n in range(len(used))]
        async with asyncio.TaskGroup() as group:
            for channel, share in zip(used, shares, strict=True):
                group.create_task(work(channel, share, until))
        ended, after = time.perf_counter(), _cpu()
        return Done(
            answers=len(self._waits), seconds=ended - begun, cpu=after - cpu, middle=median(self._waits or [0.0])
        )

    async def close(self) -> None:
        for channels in self._channels.values():
            for channel in channels:
                await channel.close()

    def _connect(self, port: int) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(f"127.0.0.1:{port}", self._credentials, options=OPTIONS)

    async def _call(self, channel: grpc.aio.Channel, share: int, until: float) -> None:
        stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)

        async def one_after_another() -> None:
            while (asked := time.perf_counter()) < until:
                answer = await stub.Exchange(intent(next(self._numbers)))
                assert answer.credential.token
                self._waits.append(time.perf_counter() - asked)

        async with asyncio.TaskGroup() as group:
            for _ in range(share):
                group.create_task(one_after_another())

    async def _converse(self, channel: grpc.aio.Channel, share: int, until: float) -> None:
        """Keep `share` items in flight on one stream: as many as one answer brings go out in the next message."""
        stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
        call = stub.ExchangeStream()
        asked: dict[int, float] = {}
        room = share
        while True:
            now = time.perf_counter()
            if now < until:
                numbers = [next(self._numbers) for _ in range(room)]
                asked |= dict.fromkeys(numbers, now)
                await call.write(_message(numbers))
            if not asked:
                break
            answer = await call.read()
            came = time.perf_counter()
            for item in answer.items:
                assert item.credential.token, item.refusal.message
                self._waits.append(came - asked.pop(item.correlation))
            room = len(answer.items)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


def _message(numbers: list[int]) -> exchange_pb2.ExchangeStreamRequest:
    item = exchange_pb2.ExchangeStreamRequest.Item
    return exchange_pb2.ExchangeStreamRequest(
        items=[item(correlation=number, request=intent(number)) for number in numbers]
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """The bench's handle on the client process."""

    process: "subprocess.Popen[str]"

    @classmethod
    def start(cls, folder: Path) -> Self:
        """Start it."""
        argv = [sys.executable, "-m", "tests.bench.load", str(folder)]
        process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return cls(process=process)

    def __call__(self, command: Command) -> Done:
        """Have a command carried out.

        Raises:
            RuntimeError: the client has ended; a server refused, or does not answer.

        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asdict(command)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the load ended; what it said stands above")
        return Done(**json.loads(line))

    def stop(self) -> None:
        """End it, and wait."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


async def main(folder: Path, tell: Callable[[str], object] = print) -> None:
    """Carry out commands until there are no more."""
    load = Load(folder)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(load.close)
        while line := await asyncio.to_thread(sys.stdin.readline):
            done = await load.run(Command(**json.loads(line)))
            tell(json.dumps(asdict(done)))
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
