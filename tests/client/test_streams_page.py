"""docs/streams.md, run as it is printed."""

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.readers import session
from tests.client.stage import Stage
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import BROKER, ROOT, SECURITY

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "streams.md").read_text(), re.DOTALL)


class Enough(Exception):
    """The test has seen what it wanted."""


async def test_a_follower_with_a_cursor_file(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = WorkloadApi(tmp_path / "own.sock")
    api.give_svid(stage.house.svid(SECURITY), stage.house.home)
    api.start()
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", api.socket)
    monkeypatch.chdir(tmp_path)
    handled: list[int] = []

    async def handle(position: int, _: bytes) -> None:
        handled.append(position)
        if len(handled) % 3 == 0:
            raise Enough  # before it is acknowledged

    names: dict[str, Any] = {
        "BROKER": f"127.0.0.1:{stage.house.door.port}", "BROKER_ID": BROKER, "handle": handle
    }  # fmt: skip
    exec(BLOCKS[0], names)  # noqa: S102 - our own page
    try:
        for _ in range(2):
            with pytest.raises(Enough):
                await names["main"]()
    finally:
        await asyncio.to_thread(api.stop)
    assert handled == [0, 1, 2, 2, 3, 4]


async def test_effect_and_bookmark_in_one_transaction(stage: Stage, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec("from broker.client import follow_audit\n" + BLOCKS[1], names)  # noqa: S102 - our own page
    with closing(sqlite3.connect(tmp_path / "own.db")) as database:
        database.execute("CREATE TABLE event (position INTEGER PRIMARY KEY, content BLOB)")
        database.execute("CREATE TABLE bookmark (text)")
        async with session(stage.house, SECURITY) as opened:
            for _ in range(2):
                await names["copy"](opened, database)
        rows = [position for (position,) in database.execute("SELECT position FROM event ORDER BY rowid")]
    size = (await stage.house.issuer.state()).size
    assert rows == list(range(len(rows)))
    assert size - 1 <= len(rows) <= size
