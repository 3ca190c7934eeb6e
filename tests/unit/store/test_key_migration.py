"""Keys of a store that an earlier release wrote go on; what had retired goes when no token by it can be left."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker.store.interface import StoredKey
from broker.store.sqlite import SqliteStore
from broker.store.sqlite.schema import shipped

SINCE = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_the_keys_of_an_earlier_release_go_on(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SqliteStore(path, log_id="log_1", cursor_key=b"k" * 32, migrations=shipped()[:1]).close()
    states = {"a": "next", "b": "current", "c": "retired", "d": "removed"}
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = [(kid, "{}", state, int(SINCE.timestamp()) * 10**6) for kid, state in states.items()]
        connection.executemany("INSERT INTO key_ring VALUES (?, ?, ?, ?)", rows)
    store = SqliteStore(path, log_id="log_2", cursor_key=b"x" * 32)
    try:
        assert store.log_id == "log_1"
        until = {"c": SINCE + timedelta(days=1)}
        kept = [
            StoredKey(kid=kid, public_jwk="{}", state=state, since=SINCE, use="token", until=until.get(kid))
            for kid, state in states.items()
        ]
        assert store.keys() == kept[:3]
        assert store.key("d") == kept[3]
        assert store.key_request("anybody", "r1") is None
    finally:
        store.close()
