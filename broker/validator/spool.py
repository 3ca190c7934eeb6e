"""Spool: reports that wait to be sent, in a folder of the service's own, where they survive whatever happens to it.

One thread writes; what is added while it writes is written together next, with one fsync. Nothing here ever raises into
the service's call, and nothing waits for the broker. When there is no more room, or the disk fails, reports are dropped
and counted, and the count is itself reported once there is room: what is in the spool already was promised first. A
count is a report too, so it is said once in a while only: whoever shows one token again and again makes few of them.
"""

import fcntl
import json
import logging
import os
import queue
import sqlite3
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from broker.outcome import Report, ReportKind

_LOG: Final = logging.getLogger(__name__)
# How many reports wait at most. An outcome always finds room: its use did.
MOST: Final = 100_000
# How long what is dropped is counted before that is said again.
SAID_EVERY: Final = timedelta(seconds=10)
_LOOK_SECONDS: Final = 1.0
_TOGETHER: Final = 512
# What may wait for a disk that hangs; nobody waits for the reports of reads.
_MOST_QUEUED: Final = 10_000
_REMEMBERED: Final = 10_000
_VERSION: Final = 1
_NAME: Final = "reports.sqlite3"
_SCHEMA: Final = (
    "CREATE TABLE report (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, content TEXT NOT NULL)",
    "CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), dropped INTEGER NOT NULL)",
    "INSERT INTO state VALUES (1, 0)",
    f"PRAGMA user_version = {_VERSION}",
)

T = TypeVar("T")


class SpoolUnusable(Exception):
    """The folder cannot hold the spool; the message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job(Generic[T]):
    """Something to do in the next transaction; what it returns counts once that is durable."""

    work: Callable[[sqlite3.Connection], T]
    otherwise: T
    drops: bool = False
    future: "Future[T]" = field(default_factory=Future)


class Spool:
    """Reports of one service, in order. One process at a time.

    Args:
        folder: the service's own; it is made when it is not there.
        clock: UTC.
        new_id: makes a UUID.
        on_added: called from the spool's thread when there is something to send.
        most: how many reports wait at most.
        said_every: how long what is dropped is counted before that is said again.

    Raises:
        SpoolUnusable: another process has it, it is open to others, it is damaged, or it cannot be written.

    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        on_added: Callable[[], None] = lambda: None,
        most: int = MOST,
        said_every: timedelta = SAID_EVERY,
    ) -> None:
        self._clock = clock
        self._new_id = new_id
        self._most = most
        self._said_every = said_every
        self._said_at: datetime | None = None
        self.on_added = on_added
        self._lock = _lock(folder)
        try:
            self._connection = _open(folder / _NAME)
            (self._waiting,) = self._connection.execute("SELECT count(*) FROM report").fetchone()
        except sqlite3.Error as problem:
            os.close(self._lock)
            raise SpoolUnusable(
                f"{folder / _NAME} cannot be used: {problem}; move it away, and its reports are lost"
            ) from problem
        self._lost = 0
        self._unsaid = True  # there may be a count from the last time
        self._closed = False
        self._turned_away: dict[str, None] = {}  # the uses among them: what comes of those is dropped too
        self._counting = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="report spool", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many reports wait to be sent."""
        return int(self._waiting)

    def add(self, report: Report) -> "Future[bool]":
        """Keep a report: True once it is durable, False when it was dropped and counted. Never raises."""
        return self._ask(lambda connection: self._add(connection, report), otherwise=False, drops=True)

    def drop(self) -> None:
        """Count a report that is not even to be kept."""
        with self._counting:
            self._lost += 1

    def first(self, count: int) -> "Future[Sequence[Report]]":
        """Return the oldest reports."""
        return self._ask(lambda connection: _first(connection, count), otherwise=())

    def remove(self, reports: Sequence[Report]) -> "Future[bool]":
        """Forget reports that were answered; False when they could not be, and will be sent again."""
        return self._ask(lambda connection: self._remove(connection, reports), otherwise=False)

    def close(self) -> None:
        """Write what was added, and let go of the folder."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        with suppress(queue.Empty):  # what another thread asked for at the same moment
            while (job := self._jobs.get_nowait()) is not None:
                job.future.set_result(job.otherwise)
        self._connection.close()
        os.close(self._lock)

    # --- on the thread ---------------------------------------------------------------------------------------------

    def _ask(self, work: Callable[[sqlite3.Connection], T], *, otherwise: T, drops: bool = False) -> "Future[T]":
        job = _Job(work=work, otherwise=otherwise, drops=drops)
        if self._closed:
            job.future.set_result(otherwise)
        elif drops and self._jobs.qsize() >= _MOST_QUEUED:
            self.drop()
            job.future.set_result(otherwise)
        else:
            self._jobs.put(job)
        return job.future

    def _run(self) -> None:
        going = True
        while going:
            jobs: list[_Job[Any] | None] = []
            with suppress(queue.Empty):
                jobs.append(self._jobs.get(timeout=_LOOK_SECONDS))
                while len(jobs) < _TOGETHER:
                    jobs.append(self._jobs.get_nowait())
            going = None not in jobs
            if jobs or self._lost or self._unsaid:  # what is only counted is said though nothing else happens
                self._write([job for job in jobs if job is not None])

    def _write(self, jobs: Sequence[_Job[Any]]) -> None:
        connection, before, said_at = self._connection, self._waiting, self._said_at
        with self._counting:
            lost, self._lost = self._lost, 0
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE state SET dropped = dropped + ? WHERE ? > 0", (lost, lost))
            done = [job.work(connection) for job in jobs]
            self._say_dropped(connection)
            connection.execute("COMMIT")
        except Exception as problem:  # noqa: BLE001 - whatever it is, the service's calls go on
            _LOG.error("the spool cannot be written, and reports are dropped: %s", problem)
            self._waiting, self._said_at, self._unsaid = before, said_at, True
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            with self._counting:
                self._lost += lost + sum(job.drops for job in jobs)
            done = [job.otherwise for job in jobs]
        for job, result in zip(jobs, done, strict=True):
            with suppress(InvalidStateError):  # whoever waited was cancelled
                job.future.set_result(result)
        if self._waiting > before:
            with suppress(RuntimeError):  # the loop that would send has ended
                self.on_added()

    def _add(self, connection: sqlite3.Connection, report: Report) -> bool:
        full = self._waiting >= self._most and not report.kind.is_outcome
        if full or report.use in self._turned_away:
            connection.execute("UPDATE state SET dropped = dropped + 1")
            self._turned_away[report.id] = None
            if len(self._turned_away) > _REMEMBERED:
                del self._turned_away[next(iter(self._turned_away))]
            return False
        self._put(connection, report)
        return True

    def _say_dropped(self, connection: sqlite3.Connection) -> None:
        """Turn the count into a report, once there is room for one, and some time after the last one."""
        (dropped,) = connection.execute("SELECT dropped FROM state").fetchone()
        self._unsaid = dropped > 0
        now = self._clock()
        # A clock that was set back must not keep it silent.
        soon = self._said_at is not None and self._said_at <= now < self._said_at + self._said_every
        if dropped and self._waiting < self._most and not soon:
            self._put(connection, Report(id=self._new_id(), kind=ReportKind.DROPPED, at=now, count=dropped))
            connection.execute("UPDATE state SET dropped = 0")
            self._said_at, self._unsaid = now, False

    def _put(self, connection: sqlite3.Connection, report: Report) -> None:
        connection.execute("INSERT INTO report (id, content) VALUES (?, ?)", (report.id, _to_text(report)))
        self._waiting += 1

    def _remove(self, connection: sqlite3.Connection, reports: Sequence[Report]) -> bool:
        gone = connection.executemany("DELETE FROM report WHERE id = ?", [(each.id,) for each in reports])
        self._waiting -= gone.rowcount
        return True


def _first(connection: sqlite3.Connection, count: int) -> Sequence[Report]:
    rows = connection.execute("SELECT content FROM report ORDER BY number LIMIT ?", (count,))
    return tuple(_to_report(content) for (content,) in rows)


def _to_text(report: Report) -> str:
    members = {each.name: getattr(report, each.name) for each in fields(report)}
    return json.dumps(members | {"kind": report.kind.value, "at": report.at.isoformat()})


def _to_report(content: str) -> Report:
    members = json.loads(content)
    members |= {"kind": ReportKind(members["kind"]), "at": datetime.fromisoformat(members["at"])}
    return Report(**members)


def _lock(folder: Path) -> int:
    """Take the folder for this process, and return the descriptor that holds it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise SpoolUnusable(f"{folder} belongs to another user, who could put anything there; name another folder")
        if stat.S_IMODE(found.st_mode) & 0o022:
            raise SpoolUnusable(f"{folder} can be written by others; run: chmod go-w {folder}")
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as problem:
        raise SpoolUnusable(f"{problem.filename or folder}: {problem.strerror or problem}") from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(descriptor)
        raise SpoolUnusable(f"another process uses {folder}; give each process a folder of its own") from problem
    return descriptor


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")
    elif version != _VERSION:
        raise sqlite3.DatabaseError(f"of version {version}, which this release does not know")
    return connection
