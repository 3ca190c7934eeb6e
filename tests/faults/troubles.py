"""Sittings of trouble that passes: a full disk, writes and flushes that fail, a store that is read-only, a hung issuer.

While it lasts nothing is given that cannot be recorded; when it is over the broker serves again by itself.
"""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tests.faults.disks import small
from tests.faults.facts import Facts
from tests.faults.kills import Sitting, Under, sitting
from tests.faults.launcher import IO_ERROR, READ_ONLY
from tests.faults.ledger import Held
from tests.faults.spawned import Spawned

LASTS = 1.5
SETTLES = 0.3
_BLOCK = bytes(4096)


def why_no_shim() -> str:
    """Return in one line why calls cannot be made to fail here; empty when they can."""
    return "" if shutil.which("cc") else "failing writes need a C compiler (Debian: apt-get install gcc libc6-dev)"


def shim(folder: Path) -> Path:
    """Compile what makes calls fail."""
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@contextmanager
def _full(broker: Spawned) -> Iterator[None]:
    """Leave no byte free, nor a journal to write over."""
    with closing(sqlite3.connect(broker.database)) as other:
        while other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            pass  # the broker is writing just now
    path = broker.folder / "filler"
    with path.open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(_BLOCK)
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def _failing(how: str, broker: Spawned) -> Iterator[None]:
    control = broker.folder / "io"
    draft = broker.folder / "io.draft"
    draft.write_text(how)
    draft.rename(control)
    try:
        yield
    finally:
        control.unlink()


@contextmanager
def _ordered(how: str, broker: Spawned) -> Iterator[None]:
    broker.orders.fail_store(how)
    try:
        yield
    finally:
        broker.orders.fail_store("")


@contextmanager
def _hung(broker: Spawned) -> Iterator[None]:
    """Let the issuer neither work nor die."""
    pid = broker.pid("issuer")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# Each with whether anything can be recorded meanwhile.
TROUBLES: Mapping[str, tuple[Callable[[Spawned], AbstractContextManager[None]], bool]] = {
    "disk full": (_full, False),
    "fsync fails, always": (partial(_failing, "fsync 100"), False),
    "fsync fails, 3 in 10": (partial(_failing, "fsync 30"), True),
    "fsync fails, 1 in 100": (partial(_failing, "fsync 1"), True),
    "write fails, always": (partial(_failing, "write 100"), False),
    "write fails, 3 in 10": (partial(_failing, "write 30"), True),
    "write fails, 1 in 100": (partial(_failing, "write 1"), True),
    "store read-only": (partial(_ordered, READ_ONLY), False),
    "I/O error at commit": (partial(_ordered, IO_ERROR), False),
    "issuer hangs": (_hung, False),
}


async def troubles(folder: Path, count: int, seed: int) -> Sitting:
    """Let one trouble after the other come and go under load."""
    names = tuple(TROUBLES)
    library = shim(folder)
    with small(folder, "24m") as disk:
        home = disk / "b"
        home.mkdir()
        async with sitting(home, seed, preload=library) as under:
            for number in range(count):
                await _trouble(under, names[(seed + number) % len(names)])
                if under.found.lost:
                    break
            return under.found


async def _trouble(under: Under, name: str) -> None:
    trouble, recordable = TROUBLES[name]
    ledger, broker = under.broker.ledger, under.broker
    under.working()
    with trouble(broker):
        began = datetime.now(UTC)
        await asyncio.sleep(SETTLES)  # what was answered before is heard by then
        before, asked = len(ledger.held), time.monotonic()
        answer = await broker.agent.exchange(broker.name("in-trouble"), deadline=LASTS)
        if time.monotonic() - asked > 2 * LASTS + 5:
            ledger.broken.append(f"{name}: no answer within the deadline: {answer}")
        await asyncio.sleep(max(0.0, LASTS - (time.monotonic() - asked)))
        given = [] if recordable else ledger.held[before:]
    under.hit(name, time.monotonic())
    await under.judge()
    # What was recorded before is heard late, sometimes, on a busy machine.
    if late := unrecorded(given, broker.facts(), began):
        under.found.lost.append(f"{name}: {sorted(late)} were given when nothing could be recorded")


def unrecorded(given: Sequence[Held], facts: Facts, began: datetime) -> set[str]:
    """Return the credentials of tokens that no event says were given before."""
    recorded = {
        event["token_digest"]
        for event in (*facts.of("credential.granted"), *facts.of("credential.reissued"))
        if datetime.fromisoformat(event["at"]) < began
    }
    return {each.credential for each in given if each.digest not in recorded}
