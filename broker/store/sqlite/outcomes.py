"""Reports of services as SQLite rows, and what is remembered of credentials that have expired so that they fit."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import sqlite3
from datetime import datetime, timedelta
from typing import Final

from broker.errors import Reason
from broker.outcome import ReportKind, may_follow
from broker.store.outcome_items import AddReport, OutcomeFits, Reportable, ReportUnused, StoredReport
from broker.store.sqlite.rows import Row, from_time, to_time

# How long after its expiry a service may report on a credential, and on how many expired ones at once.
KEPT: Final = timedelta(days=7)
MOST: Final = 1_000_000

_REPORTABLE: Final = "credential, audience, agent, tenant, task, transaction_id, expires_at"


def _to_reportable(row: Row) -> Reportable:
    credential, audience, agent, tenant, task, transaction, expires = row
    return Reportable(
        credential_id=credential,
        audience=audience,
        agent=agent,
        tenant=tenant,
        task=task,
        transaction_id=transaction,
        expires_at=to_time(expires),
    )


def reportable(connection: sqlite3.Connection, credential: str) -> Reportable | None:
    """Return a credential that may be reported on."""
    for table in ("granted", "reportable"):
        query = f"SELECT {_REPORTABLE} FROM {table} WHERE credential = ?"
        row = connection.execute(query, (credential,)).fetchone()
        if row is not None:
            return _to_reportable(row)
    return None


def report(connection: sqlite3.Connection, service: str, identity: str) -> StoredReport | None:
    """Return a report that was counted."""
    query = "SELECT position, digest FROM report WHERE service = ? AND id = ?"
    row = connection.execute(query, (service, identity)).fetchone()
    return None if row is None else StoredReport(position=row[0], digest=row[1])


def only_failed(connection: sqlite3.Connection, credential: str) -> bool:
    """Whether nothing came of any use of a credential that was reported."""
    # The newest first: outcomes come in the order of the uses, so one of which nothing was said yet is found soon.
    query = (
        "SELECT 1 FROM report AS accepted WHERE credential = ?1 AND use = '' AND kind = 'accepted' AND NOT EXISTS"
        " (SELECT 1 FROM report AS failed WHERE failed.credential = ?1 AND failed.use = accepted.id"
        " AND failed.kind = 'failed') ORDER BY number DESC LIMIT 1"
    )
    return connection.execute(query, (credential,)).fetchone() is None


def refusal(connection: sqlite3.Connection, guard: ReportUnused | OutcomeFits) -> Reason | None:
    """Return why a report cannot be counted; None when it can."""
    match guard:
        case ReportUnused():
            return Reason.REPORT_ID_REUSED if report(connection, guard.service, guard.report) else None
        case OutcomeFits():
            return _unfit(connection, guard)


def _unfit(connection: sqlite3.Connection, guard: OutcomeFits) -> Reason | None:
    query = "SELECT 1 FROM report WHERE service = ? AND id = ? AND credential = ? AND kind = 'accepted'"
    if connection.execute(query, (guard.service, guard.use, guard.credential)).fetchone() is None:
        return Reason.USE_UNKNOWN
    query = "SELECT kind FROM report WHERE credential = ? AND use = ? ORDER BY number DESC LIMIT 1"
    last = connection.execute(query, (guard.credential, guard.use)).fetchone()
    if last is None or may_follow(guard.kind, ReportKind(last[0])):
        return None
    return Reason.OUTCOME_CONTRADICTED


def add(connection: sqlite3.Connection, write: AddReport, position: int) -> None:
    """Remember a report."""
    said = write.report
    row = (write.service, said.id, said.credential, said.use, said.kind.value, said.digest(), position)
    connection.execute(
        "INSERT INTO report (service, id, credential, use, kind, digest, position, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*row, from_time(write.at)),
    )


def remember(connection: sqlite3.Connection, expired: str, bounds: tuple[int, int]) -> None:
    """Keep what is needed of grants that are about to be forgotten.

    Args:
        connection: inside a transaction.
        expired: a query for their numbers.
        bounds: what is bound in it.

    """
    connection.execute(
        f"INSERT OR IGNORE INTO reportable ({_REPORTABLE}) SELECT {_REPORTABLE} FROM granted"
        f" WHERE number IN {expired} ORDER BY expires_at",
        bounds,
    )


def forget(connection: sqlite3.Connection, now: datetime, batch: int) -> None:
    """Drop what nobody may report on any more, and the reports about it; a bounded number of each."""
    (newest,) = connection.execute("SELECT coalesce(max(number), 0) FROM reportable").fetchone()
    since = from_time(now - KEPT)
    for where, bound in (("expires_at <= ?", since), ("number <= ?", newest - MOST)):
        connection.execute(
            "DELETE FROM report WHERE number IN (SELECT report.number FROM reportable JOIN report USING (credential)"
            f" WHERE reportable.{where} LIMIT ?)",
            (bound, batch),
        )
        connection.execute(
            f"DELETE FROM reportable WHERE number IN (SELECT number FROM reportable WHERE {where} AND NOT EXISTS"
            " (SELECT 1 FROM report WHERE report.credential = reportable.credential) LIMIT ?)",
            (bound, batch),
        )
    connection.execute(
        "DELETE FROM report WHERE number IN (SELECT number FROM report WHERE credential = '' AND at <= ? LIMIT ?)",
        (since, batch),
    )
