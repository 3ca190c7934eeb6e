"""`broker audit verify` as a person and a program use it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit import saved
from broker.audit.checkpoint import Checkpoint, VerifierKey, sign
from broker.cli.audit import audit
from broker.store.interface import StoredCheckpoint
from broker.store.sqlite import SqliteStore
from tests.contract.store_builders import noting

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = PRIVATE.public_key().public_bytes_raw()
KEY = VerifierKey(name="example.org/log_1", public_key=PUBLIC).to_text()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of ten events, its checkpoint beside it and pinned, and the same log saved."""
    path = tmp_path / "store.db"
    with closing(SqliteStore(path, log_id="log_1", cursor_key=b"k" * 32)) as opened:
        for number in range(10):
            opened.commit([noting(str(number))])
            size, root = opened.root()
            note = sign(Checkpoint(origin="example.org/log_1", size=size, root=root), PUBLIC, PRIVATE)
            opened.save_checkpoint(StoredCheckpoint(size=size, note=note))
        events = opened.events(0, 10, openings=True)
    (tmp_path / "pinned").write_text(note, encoding="utf-8")
    (tmp_path / "key").write_text(KEY + "\n", encoding="utf-8")
    lines = [saved.to_line(each.position, each.content, each.openings) for each in events]
    (tmp_path / "saved.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def verify(store: Path, source: str, *more: str, key: str = KEY, stdin: str | None = None) -> Result:
    pinned = str(store.with_name("pinned"))
    return CliRunner().invoke(audit, ["verify", "--key", key, "--checkpoint", pinned, *more, source], input=stdin)


@pytest.mark.parametrize("name", ["store.db", "saved.jsonl"])
def test_an_intact_log(store: Path, name: str) -> None:
    result = verify(store, str(store.with_name(name)))
    assert (result.exit_code, "intact" in result.output) == (0, True)
    found = json.loads(verify(store, str(store.with_name(name)), "--json", key=str(store.with_name("key"))).output)
    assert found == {"intact": True, "read": 10, "vouched": 10, "fault": None}


def test_a_log_from_standard_input(store: Path) -> None:
    text = store.with_name("saved.jsonl").read_text(encoding="utf-8")
    assert verify(store, "-", stdin=text).exit_code == 0
    assert verify(store, "-", stdin="".join(text.splitlines(keepends=True)[:9])).exit_code == 1


def test_a_store_that_was_tampered_with(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE event SET content = x'7b7d' WHERE position = 7")
    before = store.read_bytes()
    result = verify(store, str(store))
    assert result.exit_code == 1
    assert "NOT INTACT" in result.output
    found = json.loads(verify(store, str(store), "--json").output)
    assert (found["intact"], found["fault"]["kind"], found["fault"]["position"]) == (False, "CHANGED", 7)
    assert store.read_bytes() == before


def test_a_copy_that_nobody_can_write_is_verified(store: Path, tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    directory.mkdir()
    (directory / "store.db").write_bytes(store.read_bytes())
    directory.chmod(0o500)
    try:
        assert verify(store, str(directory / "store.db")).exit_code == 0
    finally:
        directory.chmod(0o700)


UNUSABLE = {"no-such-file": "nothing.db", "not-a-log": "key", "no-argument": ""}


@pytest.mark.parametrize("name", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_input_is_neither_intact_nor_tampered(store: Path, name: str) -> None:
    result = verify(store, str(store.with_name(name)) if name else "")
    assert (result.exit_code, result.exception is None or isinstance(result.exception, SystemExit)) == (2, True)


def test_a_checkpoint_of_another_key_is_unusable(store: Path) -> None:
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    key = VerifierKey(name="example.org/log_1", public_key=other).to_text()
    assert verify(store, str(store), key=key).exit_code == 2
    assert verify(store, str(store), key="nonsense").exit_code == 2
