"""SIGKILL of a subscriber at random instants, while door and issuer are restarted under it: its ledger says the rest.

SUBSCRIBER_KILLS sets how many, SUBSCRIBER_SEED repeats a run's choices.
"""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests.attacks.entrances import exchange, request
from tests.attacks.house import House, open_house
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import ROOT, SECURITY, SUPPORT
from tests.polling import eventually

KILLS = int(os.environ.get("SUBSCRIBER_KILLS", "4"))
SEED = int(os.environ.get("SUBSCRIBER_SEED", "0")) or random.randrange(1, 1_000_000)  # noqa: S311


def follower(house: House, api: WorkloadApi, ledger: Path, every: int) -> "subprocess.Popen[bytes]":
    cursor = house.folder / "follower.cursor"
    argv = ["-m", "tests.client.follower", str(house.door.port), api.socket, str(cursor), str(ledger), str(every)]
    with (house.folder / "follower.log").open("ab") as log:
        return subprocess.Popen([sys.executable, *argv], cwd=ROOT, stdout=log, stderr=log)


def lines(ledger: Path) -> list[tuple[str, int]]:
    """Read a ledger; a line that a kill cut off was not written."""
    text = ledger.read_text() if ledger.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    return [(word, int(number)) for word, number in (line.split() for line in whole.splitlines())]


def differences(runs: Sequence[Sequence[tuple[str, int]]], every: int) -> list[str]:
    """Return in what the runs break the word: order within, nothing lost, nothing acknowledged again."""
    found: list[str] = []
    acknowledged, durable = -1, {-1}
    for run in runs:
        got = [position for word, position in run if word == "got"]
        found += [f"{after} after {before}" for before, after in pairwise(got) if after != before + 1]
        if got and got[0] - 1 not in durable:
            found.append(f"began at {got[0]}, acknowledged was one of {durable}")
        acknowledged = max([acknowledged, *(position for word, position in run if word == "ack")])
        # A kill may fall between the acknowledgement and its line.
        durable = {acknowledged, *(position for position in got if position > acknowledged and position % every == 0)}
    return found


def test_the_ledger_tells() -> None:
    """The judge itself: what it must take, and what it must not."""
    assert differences([[("got", 0), ("ack", 0), ("got", 1)], [("got", 1)]], 1) == []
    assert differences([[("got", 0), ("ack", 0), ("got", 1)], [("got", 2)]], 1) == []
    assert differences([[("got", 0), ("ack", 0), ("got", 1)], [("got", 0)]], 1) != []
    assert differences([[("got", 0), ("ack", 0)], [("got", 2)]], 1) != []
    assert differences([[("got", 0), ("got", 2)]], 1) != []
    assert differences([[("got", 0), ("ack", 0), ("got", 1), ("got", 2)], [("got", 3)]], 7) != []


@pytest.mark.timeout(60 + 20 * KILLS)
@pytest.mark.parametrize("every", [1, 7], ids=["each-acknowledged", "every-seventh-acknowledged"])
async def test_no_kill_loses_a_position_or_brings_back_an_acknowledged_one(every: int) -> None:
    print(f"SUBSCRIBER_SEED={SEED}")  # noqa: T201 -- what repeats the run
    dice = random.Random(SEED)  # noqa: S311
    async with open_house() as house:
        api = WorkloadApi(house.folder / "follower.sock")
        api.give_svid(house.svid(SECURITY), house.home)
        api.start()
        loading = asyncio.create_task(load(house))
        try:
            runs = [await killed_at_some_instant(house, api, every, number, dice) for number in range(KILLS)]
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            runs.append(await read_to_the_end(house, api, every))
        finally:
            loading.cancel()
            await asyncio.to_thread(api.stop)
        assert differences(runs, every) == []
        seen = {position for run in runs for word, position in run if word == "got"}
        assert seen == set(range(max(seen) + 1))
        assert sum(1 for run in runs if run) > KILLS // 2, (
            "the followers were killed before they read: it proves little"
        )


async def load(house: House) -> None:
    """Let the log grow, restarts or not."""
    while True:
        channel = house.channel(house.svid(SUPPORT))
        try:
            while True:
                await exchange(channel, request())
        except Exception:  # noqa: S110 -- a restart; with a new channel it goes on
            pass
        finally:
            await channel.close()
        await asyncio.sleep(0.05)


async def killed_at_some_instant(
    house: House, api: WorkloadApi, every: int, number: int, dice: random.Random
) -> list[tuple[str, int]]:
    ledger = house.folder / f"ledger-{number}"
    process = follower(house, api, ledger, every)
    try:
        wanted = dice.randrange(1, 400)

        async def got() -> bool:
            assert process.poll() is None, (house.folder / "follower.log").read_text()
            return len(lines(ledger)) >= wanted

        await eventually(got, within=60)
        if number % 2:
            await house.restart()
        await asyncio.sleep(dice.random() * 0.02)  # the instant is what is random here
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
    return lines(ledger)


async def read_to_the_end(house: House, api: WorkloadApi, every: int) -> list[tuple[str, int]]:
    ledger = house.folder / "ledger-last"
    size = (await house.issuer.state()).size
    process = follower(house, api, ledger, every)
    try:

        async def reached() -> bool:
            assert process.poll() is None, (house.folder / "follower.log").read_text()
            return ("got", size - 1) in lines(ledger)

        await eventually(reached, within=60)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
    return lines(ledger)
