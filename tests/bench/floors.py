"""Floors: each part of an exchange that nobody can leave out, timed alone, as CPU time of this process."""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from broker.intent import Json, Level
from broker.policy.compiled import resource_entity
from broker.policy.source import PolicySource
from tests.operations.world import BUNDLE, ORDERS, SUPPORT

GROUP: Final = 32
_EVENT: Final = 900  # bytes, as long as a credential.granted
_ES256: Final = ec.ECDSA(SHA256())


def microseconds(work: Callable[[], object], *, seconds: float, each: int = 1) -> float:
    """Return the CPU time of one call of `work`, divided by `each`: the median of nine stretches."""
    calls, used = 1, 0.0
    while (used := _used(work, calls)) < seconds / 20:
        calls = max(calls + 1, int(calls * min(10.0, seconds / 10 / max(used, 1e-6))))
    return median(_used(work, calls) for _ in range(9)) / calls / each * 1e6


def _used(work: Callable[[], object], calls: int) -> float:
    begun = time.thread_time()
    for _ in range(calls):
        work()
    return time.thread_time() - begun


class Floors:
    """What is timed alone.

    Args:
        folder: on the disk that the stores lie on.

    """

    def __init__(self, folder: Path) -> None:
        source = PolicySource(BUNDLE)
        source.load()
        found = source.current()
        assert found is not None, source.problem
        agent = found.agent(SUPPORT)
        assert agent is not None
        self._policy, self._agent = found, agent
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._flushed = os.open(folder / "flushed", os.O_RDWR | os.O_CREAT, 0o600)
        self._log = sqlite3.connect(folder / "floor.sqlite3", isolation_level=None)
        self._log.execute("PRAGMA journal_mode = WAL")
        self._log.execute("PRAGMA synchronous = FULL")
        self._log.execute("CREATE TABLE event (position INTEGER PRIMARY KEY, content BLOB, hash BLOB)")
        self._contents = [os.urandom(_EVENT) for _ in range(GROUP)]

    def time(self, seconds: float) -> dict[str, float]:
        """Return each floor in microseconds of CPU for one exchange."""
        return {
            "policy": microseconds(self._decide, seconds=seconds),
            "sign": microseconds(lambda: self._key.sign(b"x" * 900, _ES256), seconds=seconds),
            "audit": microseconds(self._append_group, seconds=seconds, each=GROUP),
        }

    def flush(self) -> float:
        """Return the median time of one fdatasync after a write, in milliseconds of wall time."""
        times = []
        for _ in range(9):
            begun = time.perf_counter()
            os.write(self._flushed, b"x" * 4096)
            os.fdatasync(self._flushed)
            times.append((time.perf_counter() - begun) * 1e3)
        return median(times)

    def close(self) -> None:
        os.close(self._flushed)
        self._log.close()

    def _decide(self) -> None:
        """Let Cedar evaluate the bundle once, schema and all; nothing around it."""
        context: dict[str, Json] = {
            "purpose": "customer-support",
            "audience": ORDERS,
            "parameters": {},
            "on_behalf_of": "",
            "task": "",
        }
        answer = self._policy.ask_for_agent(
            self._agent,
            "retail",
            action="order.read",
            resource=resource_entity("Order", "retail", "1234", Level.LOW),
            context=context | {"login": "x509", "sensitivity": "low", "risk": "low"},
        )
        assert answer.policy_ids

    def _append_group(self) -> None:
        """Hash and commit a group of rows, durably, in one transaction: one table, no index, no guard."""
        rows = [(content, hashlib.sha256(content).digest()) for content in self._contents]
        self._log.execute("BEGIN IMMEDIATE")
        self._log.executemany("INSERT INTO event (content, hash) VALUES (?, ?)", rows)
        self._log.execute("COMMIT")
