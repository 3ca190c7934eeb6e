"""A set-up made by `broker init` on a fake SPIRE, whole; tests break one thing of it at a time."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from broker.cli import broker
from broker.settings import Settings, load
from broker.store.sqlite import SqliteStore
from tests.fakes.trust_domain import TrustDomain
from tests.fakes.workload_api import WorkloadApi
from tests.faults.spawned import free_port

ROOT = Path(__file__).resolve().parents[2]
BROKER = "spiffe://example.org/broker"
AGENT = "spiffe://example.org/agent/assistant"
SERVICE = "spiffe://example.org/service/orders"
OPERATOR = "spiffe://example.org/operator/security"
DUTY = "spiffe://example.org/operator/duty"
CHAT = "spiffe://example.org/service/chat"  # not in the first bundle
Finding = dict[str, str]


def invoke(*arguments: str | Path, **environment: str) -> Result:
    """Run a `broker` command in this process, without what the tester's own environment says."""
    unset = {name: None for name in os.environ if name.startswith(("BROKER_", "SPIFFE_"))}
    return CliRunner(env={**unset, **environment}).invoke(broker, [str(each) for each in arguments])


@dataclass(kw_only=True)
class House:
    """A set-up. Its SPIRE answers; its broker runs only where a test starts it."""

    folder: Path
    domain: TrustDomain
    spire: WorkloadApi
    port: int
    kept: list[Any] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "broker.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def policy(self) -> Path:
        return self.folder / "policy"

    @property
    def store(self) -> Path:
        return self.data / "issuer" / "broker.sqlite3"

    @property
    def keys(self) -> Path:
        return self.data / "issuer" / "keys"

    @property
    def door(self) -> Path:
        return self.data / "door"

    def settings(self) -> Settings:
        return load(self.config)

    def edit(self, old: str, new: str, *, file: Path | None = None) -> None:
        """Replace what stands in a file of the set-up, which it has to."""
        path = file or self.config
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def doctor(self, *options: str, **environment: str) -> tuple[int, dict[str, Finding]]:
        """Return the exit status and each finding by its check."""
        result = invoke("doctor", "--config", self.config, "--json", *options, **environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        findings = [json.loads(line) for line in result.output.splitlines()]
        return result.exit_code, {each["check"]: each for each in findings}


def build(folder: Path, *, of: str = "example.org") -> House:
    """Make a healthy set-up."""
    domain = TrustDomain(of)
    spire = WorkloadApi(folder / "agent.sock")
    spire.give_svid(domain.svid("/broker"), domain)
    spire.start()
    home, port = folder / "b", free_port()
    made = invoke("init", home, "--trust-domain", of, "--workload-api", spire.socket, "--listen", f"127.0.0.1:{port}")
    assert made.exit_code == 0, made.output
    return House(folder=home, domain=domain, spire=spire, port=port)


def served(house: House) -> None:
    """Leave behind what a broker that once ran leaves: keys, ring, a log with a checkpoint. Without its processes."""
    process = start(house, "--embedded")
    try:
        wait_for(lambda: _checkpoint_of(house.store))
    finally:
        process.terminate()
        process.wait(30)


def _checkpoint_of(path: Path) -> bool:
    import sqlite3  # noqa: PLC0415
    from contextlib import closing  # noqa: PLC0415

    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT 1 FROM checkpoint").fetchone() is not None


def start(house: House, *options: str) -> "subprocess.Popen[str]":
    """Start `broker serve` and wait until it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "serve", "--config", str(house.config), *options],
        cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    house.kept.append(process)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "ready" in line, line
    return process


def clean_environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BROKER_", "SPIFFE_"))}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def wait_for(probe: Callable[[], object], *, within: float = 90.0) -> None:
    """Poll for a condition."""
    import time  # noqa: PLC0415

    end = time.monotonic() + within
    while not probe():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def open_store(house: House) -> SqliteStore:
    return SqliteStore(house.store, log_id="log_1", cursor_key=b"k" * 32)


def listener(port: int) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    found.listen()
    return found


def now() -> datetime:
    return datetime.now(UTC)
