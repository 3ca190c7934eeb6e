"""Callers of a broker on a fake SPIRE: each has a Workload API of its own, which gives it its SVID."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.cli.setups import AGENT, BROKER, CHAT, DUTY, OPERATOR, ROOT, SERVICE, House, clean_environment
from tests.fakes.workload_api import WorkloadApi

NAMES = {"agent": AGENT, "service": SERVICE, "operator": OPERATOR, "duty": DUTY, "chat": CHAT}


@dataclass(kw_only=True)
class Callers:
    """The agent, the service and the operator that the first bundle knows."""

    house: House
    apis: dict[str, WorkloadApi] = field(default_factory=dict)

    def environment(self, who: str) -> dict[str, str]:
        """Return what tells a command who it is and where the broker is."""
        if who not in self.apis:
            api = WorkloadApi(self.house.folder.parent / f"{who}.sock")
            api.give_svid(self.house.domain.svid(NAMES[who]), self.house.domain)
            self.apis[who] = api.start()
        return clean_environment(
            SPIFFE_ENDPOINT_SOCKET=self.apis[who].socket,
            BROKER_ADDRESS=f"127.0.0.1:{self.house.port}",
            BROKER_ID=BROKER,
            PATH=f"{sys.prefix}/bin:/usr/bin:/bin",
        )

    def start(self, who: str, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "broker", *arguments], cwd=ROOT, env=self.environment(who),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, who: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a `broker` command as somebody."""
        return subprocess.run(
            [sys.executable, "-m", "broker", *arguments], cwd=ROOT, env=self.environment(who),
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    def stop(self) -> None:
        for api in self.apis.values():
            api.stop()


@dataclass(kw_only=True)
class Following:
    """A command that stays, and what it has said so far."""

    process: "subprocess.Popen[str]"
    seen: bytes = b""

    def says(self, *words: str) -> bool:
        """Whether a line has these words by now."""
        assert self.process.stdout is not None
        with suppress(BlockingIOError):  # nothing new
            self.seen += os.read(self.process.stdout.fileno(), 1 << 16)
        return any(all(word in line for word in words) for line in self.seen.decode(errors="replace").splitlines())


@contextmanager
def following(callers: Callers, who: str, *arguments: str) -> Iterator[Following]:
    """Run a command that stays, as long as a block lasts."""
    process = callers.start(who, *arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    os.set_blocking(process.stdout.fileno(), False)
    try:
        yield Following(process=process)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
        process.stderr.close()
