"""Tasks that drift, in rows: what was refused in them lately, and whether they are suspended."""

import sqlite3
from collections.abc import Sequence

from broker.errors import Reason
from broker.store.drift_items import DriftOpen
from broker.store.outcome_items import CountDrift, ForgetDrift, Outside, ResumeTask, SuspendTask, TaskSuspended
from broker.store.sqlite.rows import from_time, to_time, to_time_or_none
from broker.task import why_over


def drift(connection: sqlite3.Connection, task: str) -> Sequence[Outside]:
    """Return what was refused lately because it lies outside a task, the newest last."""
    query = "SELECT at, reason, action FROM drift WHERE task = ? ORDER BY number"
    return [
        Outside(at=to_time(at), reason=reason, action=action)
        for at, reason, action in connection.execute(query, (task,))
    ]


def change(connection: sqlite3.Connection, write: CountDrift | ForgetDrift | SuspendTask | ResumeTask) -> None:
    """Write what changed."""
    match write:
        case CountDrift():
            counted = (write.task, from_time(write.at), write.reason, write.action)
            connection.execute("INSERT INTO drift (task, at, reason, action) VALUES (?, ?, ?, ?)", counted)
            connection.execute(
                "DELETE FROM drift WHERE task = ?1 AND number NOT IN"
                " (SELECT number FROM drift WHERE task = ?1 ORDER BY number DESC LIMIT ?2)",
                (write.task, write.keep),
            )
        case ForgetDrift():
            connection.execute("DELETE FROM drift WHERE task = ?", (write.task,))
        case SuspendTask():
            row = (from_time(write.at), write.task)
            connection.execute("UPDATE task SET suspended_at = ? WHERE id = ? AND suspended_at IS NULL", row)
        case ResumeTask():
            connection.execute("UPDATE task SET suspended_at = NULL WHERE id = ?", (write.task,))


def refusal(connection: sqlite3.Connection, guard: TaskSuspended | DriftOpen) -> Reason | None:
    """Return why a guard does not hold; None when it does."""
    match guard:
        case TaskSuspended():
            return _not_suspended(connection, guard)
        case DriftOpen():
            return None if _is_open(connection, guard.task) else Reason.TASK_NOT_SUSPENDED


def _not_suspended(connection: sqlite3.Connection, guard: TaskSuspended) -> Reason | None:
    query = "SELECT deadline, silent_at, ended_at, suspended_at FROM task WHERE id = ?"
    row = connection.execute(query, (guard.task,)).fetchone()
    if row is None:
        return Reason.TASK_UNKNOWN
    deadline, silent_at, ended_at, suspended_at = row
    over = why_over(
        guard.now,
        deadline=to_time(deadline),
        silent_at=to_time_or_none(silent_at),
        ended_at=to_time_or_none(ended_at),
    )
    if over is not None:
        return over
    return Reason.TASK_NOT_SUSPENDED if suspended_at is None and not _is_open(connection, guard.task) else None


def _is_open(connection: sqlite3.Connection, task: str) -> bool:
    """Whether the drift of a task waits for a person."""
    found = connection.execute("SELECT 1 FROM drifted WHERE task = ? AND state = 'open'", (task,)).fetchone()
    return found is not None


def forget(connection: sqlite3.Connection, batch: int) -> None:
    """Drop what was counted of tasks that are forgotten; a bounded number of rows."""
    connection.execute(
        "DELETE FROM drift WHERE number IN (SELECT number FROM drift WHERE NOT EXISTS"
        " (SELECT 1 FROM task WHERE task.id = drift.task) LIMIT ?)",
        (batch,),
    )
