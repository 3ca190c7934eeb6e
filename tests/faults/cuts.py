"""Sittings of power cuts: what a disk holds when the power goes, against what was acknowledged before."""

import asyncio
import sqlite3
import time
from contextlib import closing
from copy import deepcopy
from pathlib import Path

from broker.store.interface import StoreUnavailable
from broker.store.sqlite import SqliteStore
from tests.faults.disks import Disk, disk
from tests.faults.facts import read
from tests.faults.kills import Sitting, Under, sitting
from tests.faults.ledger import Ledger, differences
from tests.faults.load import PATIENCE
from tests.polling import eventually


async def power_cuts(folder: Path, count: int, seed: int, *, careless: bool = False) -> Sitting:
    """Cut the power a number of times under load, and once more for good: the broker goes on on what is left.

    With `careless` the store does not wait for its disk: then something is lost, or this finds nothing.
    """
    with disk(folder) as device:
        home = device.files / "b"
        home.mkdir()
        async with sitting(home, seed, careless=careless) as under:
            for _ in range(count if careless else count - 1):
                await _cut(under, device)
                if under.found.lost:
                    break
            if not careless and not under.found.lost:
                await _cut_for_good(under, device)
            return under.found


async def _cut(under: Under, device: Disk) -> None:
    wanted = under.load.answers + under.dice.randrange(3, 40)

    async def answered() -> bool:
        under.working()
        return under.load.answers >= wanted

    await eventually(answered, within=PATIENCE)
    await under.broker.security.keep_checkpoint()
    await asyncio.sleep(under.dice.random() * 0.02)  # the instant is what is random here
    told = deepcopy(under.broker.ledger)
    last = under.broker.orders.last_of("_issuer")
    await asyncio.to_thread(device.cut)
    under.found.kills[f"power: after {last}"] += 1
    with device.after() as files:
        under.found.lost += await asyncio.to_thread(_compared, files / "b", told)


async def _cut_for_good(under: Under, device: Disk) -> None:
    """Cut the power of the whole machine once the clients have heard their last answers; then it comes back."""
    broker = under.broker
    under.load.going = False
    await under.running
    await asyncio.to_thread(device.cut)
    broker.kill("all")
    at = time.monotonic()
    with device.replaced():
        broker.start()
        await broker.serves()
        under.found.resumed.append(time.monotonic() - at)
        under.found.kills["power: the whole machine"] += 1
        under.note(await broker.reopened())


def _compared(home: Path, told: Ledger) -> list[str]:
    """Open a store as the next broker would, and compare it."""
    database = home / "broker.sqlite3"
    try:
        SqliteStore(database, log_id="", cursor_key=b"").close()
        facts = read(database)
    except (StoreUnavailable, sqlite3.Error) as problem:
        return [f"the store does not open: {problem}"]
    return differences(told, facts) + _keys(home)


def _keys(home: Path) -> list[str]:
    """Check that every key that signs or is next has its file."""
    with closing(sqlite3.connect(f"file:{home}/broker.sqlite3?mode=ro", uri=True)) as rows:
        wanted = {kid for (kid,) in rows.execute("SELECT kid FROM key_ring WHERE state IN ('current', 'next')")}
    whole = {
        path.stem.removeprefix("checkpoint-") for path in (home / "keys").glob("[!.]*.pem") if path.stat().st_size > 0
    }
    return [f"{kid}: signs, and its key is gone" for kid in sorted(wanted - whole)]
