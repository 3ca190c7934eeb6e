"""What only the embedded engine has: its files, its faults, and how it comes back."""

import os
import random
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from broker.store.interface import StoredCheckpoint, StoreUnavailable
from broker.store.sqlite import OfflineLog, SqliteStore
from broker.store.sqlite.log import verify_tail
from tests.contract.store_builders import grant, granting, noting

ROOT = Path(__file__).parents[3]


def opened(path: Path, log_id: str = "log_1") -> SqliteStore:
    return SqliteStore(path, log_id=log_id, cursor_key=b"k" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@contextmanager
def disk_of(limit: int) -> Iterator[None]:
    """Let no file grow beyond a size: a disk that is full, for any user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_store_is_found_again_as_it_was_left(path: Path) -> None:
    with closing(opened(path)) as store:
        store.commit([granting(grant(str(n), index=n)) for n in range(300)])
        before = (store.root(), store.events(0, 300, openings=True))
    with closing(opened(path, "log_2")) as store:
        assert store.log_id == "log_1"
        assert (store.root(), store.events(0, 300, openings=True)) == before
        assert store.grant("cred_7") == grant("7", index=7)
        assert [answer.position for answer in store.commit([noting("next")])] == [300]


def test_a_commit_is_flushed_before_it_is_answered(path: Path) -> None:
    """What the engine is told: whether the disk keeps it is the disk's word."""
    full = 2
    with closing(opened(path)) as store, store._session.failing_closed() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (full,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_its_files_are_nobody_elses(path: Path) -> None:
    previous = os.umask(0)
    try:
        with closing(opened(path)) as store:
            store.commit([noting("x")])
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(previous)
    assert modes == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm", "store.db.lock"), 0o600)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o700], ids=oct)
def test_a_file_that_others_may_read_is_refused(path: Path, mode: int) -> None:
    opened(path).close()
    path.chmod(mode)
    with pytest.raises(StoreUnavailable, match="chmod 600"):
        opened(path)
    path.chmod(0o600)
    opened(path).close()


def test_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    opened(tmp_path / "other.db").close()
    path.symlink_to(tmp_path / "other.db")
    with pytest.raises(StoreUnavailable, match="regular"):
        opened(path)


def test_a_second_process_is_refused_by_name(path: Path) -> None:
    with closing(opened(path)):
        script = f"from tests.unit.store.test_sqlite import *; opened(Path({str(path)!r}))"
        second = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
        assert second.returncode != 0
        assert f"in use by process {os.getpid()}" in second.stderr
    third = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr


def test_a_store_of_a_later_release_is_refused_and_left_alone(path: Path) -> None:
    opened(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO schema_version VALUES (9999, 'later')")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="schema 9999"):
        opened(path)
    assert path.read_bytes() == before
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM schema_version WHERE version = 9999")
    opened(path).close()


def test_what_is_no_store_is_refused(path: Path) -> None:
    garbage = b"not a database, but long enough to have a header" * 99
    path.write_bytes(garbage)
    path.chmod(0o600)
    with pytest.raises(StoreUnavailable):
        opened(path)
    assert path.read_bytes() == garbage


DAMAGE = {
    "tail-unreadable": "UPDATE log SET frontier = x'00'",
    "tail-too-long": "UPDATE log SET size = size + 1",
    "no-tail": "DELETE FROM log",
    "another-frontier": "UPDATE log SET frontier = CAST(substr(frontier, 1, 8) || zeroblob(4 * 32) AS BLOB)",
    "last-event-gone": "DELETE FROM event WHERE position = 299",
    "a-late-event-gone": "DELETE FROM event WHERE position = 290",
    "an-event-too-many": "INSERT INTO event SELECT 300, content, leaf FROM event WHERE position = 5",
    "last-event-changed": "UPDATE event SET content = x'7b7d' WHERE position = 299",
    "a-late-leaf-changed": "UPDATE event SET leaf = zeroblob(32) WHERE position = 270",
    "subtree-gone": "DELETE FROM subtree",
    "subtree-changed": "UPDATE subtree SET hash = zeroblob(32)",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
def test_a_tail_that_does_not_match_its_events_is_refused(path: Path, statement: str) -> None:
    with closing(opened(path)) as store:
        store.commit([noting(str(n)) for n in range(300)])
    opened(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    with pytest.raises(StoreUnavailable):
        opened(path)


def test_opening_does_not_read_the_log(path: Path) -> None:
    """The work of proving the tail is counted in SQLite's own steps: it is bounded, however long the log is."""

    def steps(events: int) -> int:
        file = path.with_name(f"{events}.db")
        with closing(opened(file)) as store:
            store.commit([noting(str(n)) for n in range(events)])
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        with closing(sqlite3.connect(file)) as connection:
            connection.set_progress_handler(count, 1)
            verify_tail(connection, None)
        return counted

    assert steps(256 * 40 + 255) < steps(255) * 2


# --- faults -------------------------------------------------------------------------------------------------------


def test_a_full_disk_gives_nothing_and_work_goes_on_by_itself_when_there_is_space(path: Path) -> None:
    with closing(opened(path)) as store:
        store.commit([granting(grant("before"))])
        answered, refused = ["before"], []
        wal = path.with_name("store.db-wal")
        for fault in range(8):
            with disk_of(wal.stat().st_size + 4096 * fault if wal.exists() else 4096 * fault):
                for number in range(20):
                    name = f"{fault}-{number}"
                    try:
                        store.commit([granting(grant(name, index=len(answered)))])
                        answered.append(name)
                    except StoreUnavailable:
                        refused.append(name)
            store.commit([granting(grant(f"after-{fault}", index=len(answered)))])
            answered.append(f"after-{fault}")
        assert len(refused) > 20
        assert all(store.grant(f"cred_{name}") for name in answered)
        assert not any(store.grant(f"cred_{name}") for name in refused)
        assert store.size() == len(answered)
    opened(path).close()


def test_a_store_that_cannot_be_written_gives_nothing(path: Path) -> None:
    with closing(opened(path)) as store:
        store.commit([granting(grant("a"))])
        connection = store._session._connection  # the fault is put where the disk would put it
        assert connection is not None
        connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreUnavailable):
            store.commit([granting(grant("b", index=1))])
        # What failed was opened anew.
        assert store.commit([granting(grant("c", index=2))])[0].position == 1
        assert [store.grant(f"cred_{name}") is not None for name in "abc"] == [True, False, True]


def test_a_store_file_that_was_moved_away_gives_nothing(path: Path) -> None:
    with closing(opened(path)) as store:
        store.commit([granting(grant("a"))])
        aside = path.rename(path.with_name("aside.db"))
        with pytest.raises(StoreUnavailable):
            store.commit([granting(grant("b", index=1))])
        aside.rename(path)
        assert store.commit([granting(grant("b", index=1))])[0].position == 1


def test_entries_that_were_acknowledged_and_are_gone_stop_the_broker(path: Path) -> None:
    with closing(opened(path)) as store:
        store.commit([noting("a")])
        with closing(sqlite3.connect(path)) as other:
            rows = other.execute("SELECT size, frontier FROM log").fetchone()
        store.commit([noting("b")])
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("DELETE FROM event WHERE position = 1")
            other.execute("DELETE FROM opening WHERE position = 1")
            other.execute("UPDATE log SET size = ?, frontier = ?", rows)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                store.commit([noting("c")])
        with pytest.raises(StoreUnavailable, match="acknowledged"):
            store.commit([noting("c")])


def test_a_lock_held_elsewhere_fails_one_group_only(path: Path) -> None:
    with closing(opened(path)) as store:
        store.commit([noting("a")])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable):
                store.commit([noting("b")])
            other.execute("ROLLBACK")
        assert store.commit([noting("c")])[0].position == 1


def test_no_kill_separates_an_event_from_its_grant(path: Path) -> None:
    dice, before, unheard = random.Random(7), 0, 0  # noqa: S311
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.store.crashing", str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        heard = [child.stdout.readline() for _ in range(dice.randrange(1, 30))]
        # Not at once: some writes into what it has not told yet.
        wal = path.with_name("store.db-wal")
        for _ in range(dice.randrange(60)):
            seen = wal.stat().st_mtime_ns
            while wal.stat().st_mtime_ns == seen:
                pass
        child.kill()
        heard += child.stdout.readlines()
        child.wait()
        child.stdout.close()
        names = [name for line in heard if line.endswith("\n") for name in line.split()]
        with closing(opened(path)) as store:
            size = store.size()
            assert size % 7 == 0
            assert all(store.grant(f"cred_{name}") for name in names)
            contents = [event.content for event in store.events(0, size, openings=False)]
            recorded = {content.split(b'"request":"')[1].split(b'"')[0] for content in contents}
            with closing(sqlite3.connect(path)) as other:
                found = {row[0].encode() for row in other.execute("SELECT credential FROM granted")}
            assert recorded == found
        unheard += size > before + len(names)
        before = size
    assert before
    assert unheard, "no kill fell between a commit and its answer: the test proves nothing"


# --- the file, read offline ---------------------------------------------------------------------------------------


def test_the_log_can_be_read_while_the_broker_writes(path: Path) -> None:
    with closing(opened(path)) as store:
        store.commit([noting("a"), noting("b")])
        store.save_checkpoint(StoredCheckpoint(size=2, note="note"))
        with OfflineLog.open(path) as log:
            store.commit([noting("c")])
            assert [entry.position for entry in log.entries()] == [0, 1]
            assert log.notes() == ["note"]
            assert log.size() == 2
        with OfflineLog.open(path) as log:
            contents = [(entry.content, set(entry.openings)) for entry in log.entries()]
        assert contents == [(each.content, set(each.openings)) for each in store.events(0, 9, openings=True)]


def test_older_checkpoints_are_thinned(path: Path) -> None:
    with closing(opened(path)) as store:
        for size in range(1, 200):
            store.save_checkpoint(StoredCheckpoint(size=size, note=str(size)))
        with OfflineLog.open(path) as log:
            kept = [int(note) for note in log.notes()]
    assert kept == [1, *range(16, 199, 16), 199]
