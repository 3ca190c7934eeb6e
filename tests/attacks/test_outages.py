"""What cannot be recorded does not happen (I2), in one process; with real files and signals: tests/faults/."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

from broker.store.sqlite.session import Session
from tests.attacks.entrances import BY_NAME, Entrance, at_every_entrance, outcome
from tests.attacks.house import House

_begin = Session.transaction
# These tell what stands, and write nothing of it; a checkpoint of a log that has not grown was signed before.
ONLY_READ = {
    "GetCheckpoint",
    "GetKeySet",
    "ListKeys",
    "Health.Check",
    "Health.Watch",
    "ListOverrides",
    "ListApprovals",
    "ListDriftedTasks",
    "WatchApprovals",
}


def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let every transaction of the store fail; return what mends it."""

    def fail(*_: Any) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Session, "transaction", fail)
    return lambda: monkeypatch.setattr(Session, "transaction", _begin)


@at_every_entrance
async def test_i2_nothing_is_given_that_cannot_be_recorded(
    house: House, entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = house.good(entrance.who)
    house.time.ahead += timedelta(seconds=2)  # refusals beyond ten a second are counted, and written later
    assert (await entrance(channel)).reason == entrance.control
    before = len(await house.log())
    mend = broken(monkeypatch)
    told = await entrance(channel)
    mend()
    if entrance.name not in ONLY_READ:
        assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE"), told
        assert told.answer is None
        assert len(await house.log()) == before
    assert (await entrance(channel)).reason == entrance.control  # by itself, and at once


async def test_i2_the_exchange_goes_on_afterwards(house: House) -> None:
    assert (await outcome(BY_NAME["Exchange"].ask(house.good(BY_NAME["Exchange"].who)))).reason == ""
