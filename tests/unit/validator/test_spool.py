"""The spool: durable, in order, bounded, and never in the way of the service's call."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pytest

from broker.outcome import Report, ReportKind
from broker.validator.spool import Spool, SpoolUnusable
from tests.polling import eventually

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PATIENCE = 20.0


def opened(folder: Path, **more: Any) -> Spool:
    return Spool(folder, clock=lambda: NOW, new_id=lambda: f"{uuid4()}", **more)


def a_use(credential: str = "cred_1") -> Report:
    return Report(id=f"{uuid4()}", kind=ReportKind.ACCEPTED, at=NOW, credential=credential)


def done(use: Report, kind: ReportKind = ReportKind.DONE) -> Report:
    return Report(id=f"{uuid4()}", kind=kind, at=NOW, credential=use.credential, use=use.id, reference="refund-7")


def kept(spool: Spool, report: Report) -> bool:
    return spool.add(report).result(PATIENCE)


def held(spool: Spool, count: int = 1000) -> list[Report]:
    return list(spool.first(count).result(PATIENCE))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(opened(tmp_path / "spool")) as one:
        yield one


def test_what_was_kept_comes_in_order_and_goes_when_it_was_answered(spool: Spool) -> None:
    reports = [use for _ in range(5) for use in (a_use(),)]
    reports += [done(use) for use in reports]
    assert all(kept(spool, each) for each in reports)
    assert held(spool) == reports
    assert held(spool, 3) == reports[:3]
    assert spool.remove(reports[:7]).result(PATIENCE)
    assert held(spool) == reports[7:]
    assert spool.waiting == 3


def test_it_is_there_again_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    reports = [a_use(), a_use()]
    with closing(opened(folder)) as spool:
        assert all(kept(spool, each) for each in reports)
    with closing(opened(folder)) as spool:
        assert held(spool) == reports
        assert spool.waiting == 2
        assert kept(spool, done(reports[0]))


def test_what_is_added_at_once_is_written_together_and_in_order(spool: Spool) -> None:
    reports = [a_use(f"cred_{number}") for number in range(500)]
    futures = [spool.add(each) for each in reports]
    assert all(future.result(PATIENCE) for future in futures)
    assert held(spool) == reports


def test_when_it_is_full_the_newest_are_dropped_and_the_count_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    with closing(opened(folder, most=3)) as spool:
        reports = [a_use() for _ in range(3)]
        assert all(kept(spool, each) for each in reports)
        assert [kept(spool, a_use()) for _ in range(4)] == [False] * 4
        assert held(spool) == reports, "what was promised first stays"
    with closing(opened(folder, most=3)) as spool:  # the count is durable
        assert kept(spool, a_use()) is False
        assert spool.remove(reports[:1]).result(PATIENCE)
        *_, last = held(spool)
        assert (last.kind, last.count) == (ReportKind.DROPPED, 5)
        assert spool.remove(held(spool)).result(PATIENCE)
        assert kept(spool, a_use())
        assert [each.kind for each in held(spool)] == [ReportKind.ACCEPTED], "it is said once"


def test_what_came_of_a_kept_use_finds_room_and_of_a_dropped_one_does_not(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "spool", most=1)) as spool:
        one, two = a_use(), a_use()
        futures = [spool.add(each) for each in (one, two, done(two), done(one))]
        assert [future.result(PATIENCE) for future in futures] == [True, False, False, True]
        assert [each.use or each.id for each in held(spool)] == [one.id, one.id]
        for _ in range(100):
            kept(spool, a_use())
        assert spool.waiting == 2


def test_what_was_not_even_offered_is_counted(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "spool")) as spool:
        for _ in range(7):
            spool.drop()
        kept(spool, a_use())
        assert [(each.kind, each.count) for each in held(spool)] == [
            (ReportKind.ACCEPTED, 0),
            (ReportKind.DROPPED, 7),
        ]


def test_a_flood_of_what_is_only_counted_is_few_reports(tmp_path: Path) -> None:
    """Each message to the broker writes here too: were a count said each time, one caller could fill the log."""
    now = [NOW]
    with closing(Spool(tmp_path / "spool", clock=lambda: now[0], new_id=lambda: f"{uuid4()}")) as spool:
        said = []
        for _ in range(100):
            spool.drop()
            reports = held(spool)
            said += reports
            assert spool.remove(reports).result(PATIENCE)
        assert [(each.kind, each.count) for each in said] == [(ReportKind.DROPPED, 1)]
        now[0] += timedelta(seconds=10)
        assert held(spool) == []
        (rest,) = held(spool)
        assert (rest.kind, rest.count) == (ReportKind.DROPPED, 99)
        now[0] -= timedelta(days=1)
        spool.drop()
        held(spool)
        assert [each.count for each in held(spool)] == [99, 1], "a clock that was set back"


async def test_what_is_only_counted_is_said_though_nothing_else_happens(spool: Spool) -> None:
    spool.drop()

    async def said() -> bool:
        return spool.waiting == 1

    await eventually(said)
    assert [(each.kind, each.count) for each in held(spool)] == [(ReportKind.DROPPED, 1)]


def test_a_disk_that_fails_drops_and_counts_and_comes_back(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    first = a_use()
    assert kept(spool, first)

    class Full:
        """A connection whose disk is full."""

        def execute(self, *_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    whole = spool._connection
    monkeypatch.setattr(spool, "_connection", Full())
    assert [kept(spool, a_use()) for _ in range(3)] == [False] * 3
    assert held(spool) == []
    monkeypatch.setattr(spool, "_connection", whole)
    assert kept(spool, a_use())
    assert [each.count for each in held(spool)] == [0, 0, 3]
    assert held(spool)[0] == first


def test_a_spool_is_of_one_process_and_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    with closing(opened(folder)):
        assert (folder.stat().st_mode & 0o777, (folder / "reports.sqlite3").stat().st_mode & 0o777) == (0o700, 0o600)
        with pytest.raises(SpoolUnusable, match="another process uses"):
            opened(folder)
    with closing(opened(folder)):  # the control: it was let go
        pass
    folder.chmod(0o777)
    with pytest.raises(SpoolUnusable, match="chmod go-w"):
        opened(folder)


def test_a_spool_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever owns the folder could put another file in its place."""
    folder = tmp_path / "spool"
    opened(folder).close()
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(SpoolUnusable, match="belongs to another user"):
        opened(folder)


def test_what_waits_for_a_disk_that_hangs_is_bounded(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.validator.spool._MOST_QUEUED", 10)
    hangs, reached = Event(), Event()

    def hang(_: sqlite3.Connection) -> None:
        reached.set()
        hangs.wait(PATIENCE)

    spool._ask(hang, otherwise=None)
    assert reached.wait(PATIENCE)
    futures = [spool.add(a_use()) for _ in range(50)]
    hangs.set()
    assert [future.result(PATIENCE) for future in futures] == [True] * 10 + [False] * 40
    held(spool)
    assert (held(spool)[-1].kind, held(spool)[-1].count) == (ReportKind.DROPPED, 40)


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"\0" * 4096])
def test_a_damaged_spool_says_so(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "spool"
    opened(folder).close()
    (folder / "reports.sqlite3").write_bytes(content)
    with pytest.raises(SpoolUnusable, match="move it away"):
        opened(folder)


def test_one_of_a_later_release_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    opened(folder).close()
    with closing(sqlite3.connect(folder / "reports.sqlite3")) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(SpoolUnusable, match="version 9"):
        opened(folder)


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolUnusable, match="Not a directory"):
        opened(tmp_path / "file" / "spool")


def test_after_it_is_closed_nothing_waits(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    spool.close()
    assert kept(spool, a_use()) is False
    assert held(spool) == []


def test_whoever_no_longer_waits_does_not_end_it(spool: Spool) -> None:
    """A call that is cancelled cancels what it waits for; the thread goes on, and the report is kept."""
    for _ in range(200):
        spool.add(a_use()).cancel()
    assert kept(spool, a_use())
    assert spool.waiting == 201


def test_a_loop_that_has_ended_does_not_end_it(spool: Spool) -> None:
    def gone() -> None:
        raise RuntimeError("Event loop is closed")

    spool.on_added = gone
    assert kept(spool, a_use())
    assert kept(spool, a_use())


def test_what_is_kept_is_on_the_disk(spool: Spool) -> None:
    """Nobody can take the power away here; this is what SQLite calls it."""
    assert spool._connection.execute("PRAGMA synchronous").fetchone() == (2,)
