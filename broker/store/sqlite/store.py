"""SqliteStore: the Store on one SQLite file. WAL, `synchronous=FULL`, one transaction a group."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from broker.credential.grant import Grant
from broker.credential.revocation import Revocation, Rule
from broker.override import Override, Stopper
from broker.store.interface import (
    AddOverride,
    AddRevocation,
    Answer,
    EndCredentials,
    EndTask,
    GiveBack,
    Granted,
    HeldGrant,
    Item,
    LiftOverride,
    LiftRevocation,
    Reportable,
    RevokedCredential,
    RevokedRange,
    StoredCheckpoint,
    StoredEvent,
    StoredKey,
    StoredKeyRequest,
    StoredRedemption,
    StoredReport,
    StoreUnavailable,
    SuspendTask,
)
from broker.store.sqlite import limits, log, outcomes, overrides, reads, redemptions, rows, tasks, writes
from broker.store.sqlite.approval_reads import ApprovalReads
from broker.store.sqlite.drifted import DriftedReads
from broker.store.sqlite.forget import forget_expired
from broker.store.sqlite.group import write_group
from broker.store.sqlite.guards import first_in_force
from broker.store.sqlite.schema import Migration, shipped
from broker.store.sqlite.session import Session
from broker.task import Task

# What ends credentials, or changes which rules are in force.
ENDING: Final = (
    AddOverride,
    AddRevocation,
    EndCredentials,
    EndTask,
    GiveBack,
    LiftOverride,
    LiftRevocation,
    SuspendTask,
)
# Older checkpoints are thinned to one in each block of this many entries.
CHECKPOINT_BLOCK: Final = 16

_T = TypeVar("_T")


class SqliteStore(ApprovalReads, DriftedReads):
    """The Store on one SQLite file, or in memory for tests. One caller at a time, from any thread.

    Args:
        location: path of the file, or ":memory:".
        log_id: the id a new log gets; an existing one keeps its own.
        cursor_key: the MAC key a new log gets, 32 random bytes.
        migrations: the schema's history; that of this release by default.

    Raises:
        StoreUnavailable: another process has the store, it is damaged, from a later release, readable by others, or it
            cannot be written.

    """

    def __init__(
        self,
        location: str | Path,
        *,
        log_id: str,
        cursor_key: bytes,
        migrations: Sequence[Migration] | None = None,
    ) -> None:
        self._session = Session(
            location,
            log_id=log_id,
            cursor_key=cursor_key,
            migrations=shipped() if migrations is None else migrations,
        )
        self._endings = 0

    @property
    def log_id(self) -> str:
        """Id of the log."""
        return self._session.log_id

    @property
    def cursor_key(self) -> bytes:
        """MAC key of cursors, 32 bytes."""
        return self._session.cursor_key

    @property
    def endings(self) -> int:
        """How many groups of this process may have ended credentials or changed what is in force."""
        return self._endings

    def commit(self, items: Sequence[Item]) -> Sequence[Answer]:
        """Commit a group in one durable transaction; answers in the items' order."""
        if any(isinstance(write, ENDING) for item in items for write in item.writes):
            self._endings += 1  # before it is tried: a group that failed may be found recorded
        self._note_approvals(items)
        try:
            with self._session.transaction() as connection:
                tail = log.read_tail(connection)
                self._session.require_own(tail)
                answers, entries = write_group(connection, items, tail.size)
                tail = log.append(connection, tail, entries) if entries else tail
        except StoreUnavailable:
            raise
        except Exception as problem:
            # A defect in one item's callbacks: the group goes, since half of it might not be what was meant.
            raise StoreUnavailable(f"the group was not written: {type(problem).__name__}") from problem
        self._session.tail = tail
        return answers

    def size(self) -> int:
        """Return the number of events."""
        return self._ask(log.read_tail).size

    def root(self) -> tuple[int, bytes]:
        """Return size and root hash of the log."""
        tail = self._ask(log.read_tail)
        return tail.size, tail.root()

    def events(self, start: int, stop: int, *, openings: bool) -> Sequence[StoredEvent]:
        """Return the events of [start, stop), in order."""
        return self._ask(reads.events, start, stop, openings=openings)

    def revoked_in(self, start: int, stop: int, *, audience: str = "", agent: str = "") -> Sequence[RevokedRange]:
        """Return what events of [start, stop) revoked for one audience or one agent, in order."""
        return self._ask(reads.revoked_in, start, stop, audience=audience, agent=agent)

    def revoked_now(
        self,
        now: datetime,
        *,
        audience: str = "",
        agent: str = "",
    ) -> tuple[int, Sequence[RevokedCredential]]:
        """Return the log's size and, at that size, all revoked credentials that have not expired, for one reader."""
        return self._ask(reads.revoked_now, now, audience=audience, agent=agent)

    def reserve_indexes(self, audience: str, count: int) -> range:
        """Durably reserve the next `count` status indexes of an audience."""
        with self._session.transaction() as connection:
            (stop,) = connection.execute(
                "INSERT INTO status_index VALUES (?1, ?2) ON CONFLICT (audience) DO UPDATE SET next = next + ?2"
                " RETURNING next",
                (audience, count),
            ).fetchone()
        return range(stop - count, stop)

    def task(self, task_id: str) -> Task | None:
        """Return a task, ended or not."""
        return self._one(tasks.to_task, f"SELECT {tasks.TASK} FROM task WHERE id = ?", task_id)

    def tasks_due(self, now: datetime) -> Sequence[Task]:
        """Return the tasks that have not ended though their deadline has passed, or three heartbeats were missed."""
        query = (
            f"SELECT {tasks.TASK} FROM task WHERE ended_at IS NULL AND (deadline <= ?1"
            " OR (silent_at IS NOT NULL AND silent_at <= ?1)) ORDER BY deadline"
        )
        return self._all(tasks.to_task, query, rows.from_time(now))

    def held(self, task_id: str, now: datetime, *, unless_under: str = "") -> Sequence[HeldGrant]:
        """Return the grants of a task whose credentials are live, without those that one bundle decided."""
        return self._ask(reads.held, task_id, now, unless_under=unless_under)

    def granted(self, task_id: str, subjects: Sequence[str]) -> Granted:
        """Return what is remembered of a task's grants, and how far these subjects have come in sequences."""
        return self._ask(limits.granted, task_id, subjects)

    def grant(self, credential_id: str) -> Grant | None:
        """Return a grant that is still remembered."""
        return self._one(rows.to_grant, f"SELECT {rows.GRANT} FROM granted WHERE credential = ?", credential_id)

    def reportable(self, credential_id: str) -> Reportable | None:
        """Return a credential that its service may still report on."""
        return self._ask(outcomes.reportable, credential_id)

    def report(self, service: str, report_id: str) -> StoredReport | None:
        """Return a report that was counted."""
        return self._ask(outcomes.report, service, report_id)

    def grant_of_request(self, agent: str, request_id: str) -> Grant | None:
        """Return the grant that was given under a request id."""
        query = f"SELECT {rows.GRANT} FROM granted WHERE agent = ? AND request_id = ? AND request_id <> ''"
        return self._one(rows.to_grant, query, agent, request_id)

    def redemption(self, credential_id: str) -> StoredRedemption | None:
        """Return how a credential that is still remembered was spent; None when it was not."""
        return self._ask(redemptions.find, credential_id)

    def revocation(self, revocation_id: str) -> Revocation | None:
        """Return a revocation in force."""
        return self._one(rows.to_revocation, f"SELECT {rows.REVOCATION} FROM revocation WHERE id = ?", revocation_id)

    def revocations(self) -> Sequence[Revocation]:
        """Return every revocation in force."""
        return self._all(rows.to_revocation, f"SELECT {rows.REVOCATION} FROM revocation ORDER BY at, id")

    def is_revoked(self, rules: Sequence[Rule]) -> Rule | None:
        """Return the first of these rules that is in force."""
        return self._ask(first_in_force, rules)

    def overrides(self) -> Sequence[Override]:
        """Return every override in force, the oldest first."""
        return self._ask(overrides.in_force)

    def stoppers(self) -> Sequence[Stopper]:
        """Return whom the last bundle that was activated lets stop things."""
        return self._ask(overrides.stoppers)

    def has_live_grants(self, rule: Rule) -> bool:
        """Whether a grant that is still remembered carries this name."""
        return bool(self._one(bool, f"SELECT 1 FROM {writes.COVERED[rule.kind]} LIMIT 1", rule.name))

    def keys(self) -> Sequence[StoredKey]:
        """Return every key that is not removed, of every use."""
        return self._all(rows.to_key, f"SELECT {rows.KEY} FROM key_ring WHERE state <> 'removed' ORDER BY since, kid")

    def key(self, kid: str) -> StoredKey | None:
        """Return a key, removed or not."""
        return self._one(rows.to_key, f"SELECT {rows.KEY} FROM key_ring WHERE kid = ?", kid)

    def key_request(self, caller: str, request_id: str) -> tuple[int, StoredKeyRequest] | None:
        """Return the position of the event of a request to change the keys, and the request."""
        query = f"SELECT position, {rows.KEY_REQUEST} FROM key_request WHERE caller = ? AND request_id = ?"
        return self._one(rows.to_key_request, query, caller, request_id)

    def last_expiry(self) -> datetime | None:
        """Return when the last of all remembered grants expires; None when there is none."""
        last = self._one(lambda row: row[0], "SELECT max(expires_at) FROM granted")
        return None if last is None else rows.to_time(last)

    def active_policy(self) -> str:
        """Return the digest of the active bundle, or empty."""
        return self._one(lambda row: str(row[0]), "SELECT policy FROM log") or ""

    def save_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        """Remember a checkpoint, and thin the earlier ones."""
        with self._session.transaction() as connection:
            connection.execute(
                "DELETE FROM checkpoint WHERE size = (SELECT max(size) FROM checkpoint) AND EXISTS (SELECT 1 FROM"
                " checkpoint AS kept WHERE kept.size < checkpoint.size AND kept.size >= checkpoint.size"
                " - checkpoint.size % ?)",
                (CHECKPOINT_BLOCK,),
            )
            connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (checkpoint.size, checkpoint.note))

    def checkpoint(self) -> StoredCheckpoint | None:
        """Return the newest checkpoint."""
        query = "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1"
        return self._one(lambda row: StoredCheckpoint(size=row[0], note=row[1]), query)

    def forget_expired(self, now: datetime) -> int:
        """Drop a bounded number of rows that nothing can refer to any more; return how many grants went."""
        with self._session.transaction() as connection:
            return forget_expired(connection, now)

    def _one(self, make: Callable[[rows.Row], _T], query: str, *names: str) -> _T | None:
        with self._session.failing_closed() as connection:
            return next(map(make, connection.execute(query, names)), None)

    def _all(self, make: Callable[[rows.Row], _T], query: str, *bounds: int) -> Sequence[_T]:
        with self._session.failing_closed() as connection:
            return [make(row) for row in connection.execute(query, bounds)]

    def close(self) -> None:
        """Release the store; every later call fails."""
        self._session.close()
