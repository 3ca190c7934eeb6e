"""Tasks as SQLite rows, and what is written of one that goes on."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import json
import sqlite3
from datetime import datetime, timedelta
from typing import Final

from broker.boundary import boundary_from_json
from broker.store.interface import HearTask, NarrowTask
from broker.store.sqlite.rows import Row, from_time, to_json, to_time
from broker.task import Task

TASK: Final = (
    "id, agent, begun_by, tenant, purpose, conversation, begun_at, deadline, ended_at,"
    " type, boundary, heartbeat, silent_at, revision, person, asked, suspended_at"
)
_ADD: Final = f"INSERT INTO task ({TASK}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_MICROSECOND: Final = timedelta(microseconds=1)


def to_task(row: Row) -> Task:
    """Return the task of a row with the columns `TASK`."""
    identity, agent, begun_by, tenant, purpose, conversation, begun_at, deadline, ended_at, *more = row
    kind, boundary, heartbeat, silent_at, revision, person, asked, suspended_at = more
    return Task(
        id=identity,
        agent=agent,
        begun_by=begun_by,
        tenant=tenant,
        purpose=purpose,
        conversation=conversation,
        begun_at=to_time(begun_at),
        deadline=to_time(deadline),
        ended_at=None if ended_at is None else to_time(ended_at),
        type=kind,
        boundary=boundary_from_json(json.loads(boundary)),
        heartbeat=None if heartbeat is None else heartbeat * _MICROSECOND,
        silent_at=None if silent_at is None else to_time(silent_at),
        revision=revision,
        person=person,
        asked=asked,
        suspended_at=None if suspended_at is None else to_time(suspended_at),
    )


def add(connection: sqlite3.Connection, task: Task) -> None:
    """Write a begun task."""
    row = (
        task.id,
        task.agent,
        task.begun_by,
        task.tenant,
        task.purpose,
        task.conversation,
        from_time(task.begun_at),
        from_time(task.deadline),
        _time(task.ended_at),
        task.type,
        to_json(task.boundary.to_json()),
        None if task.heartbeat is None else task.heartbeat // _MICROSECOND,
        _time(task.silent_at),
        task.revision,
        task.person,
        task.asked,
        _time(task.suspended_at),
    )
    connection.execute(_ADD, row)


def change(connection: sqlite3.Connection, write: HearTask | NarrowTask) -> None:
    """Write what changed of a task that goes on."""
    match write:
        case HearTask():
            row = (from_time(write.silent_at), write.task)
            connection.execute("UPDATE task SET silent_at = ? WHERE id = ? AND silent_at IS NOT NULL", row)
        case NarrowTask():
            narrower = (to_json(write.boundary.to_json()), write.task)
            connection.execute("UPDATE task SET boundary = ?, revision = revision + 1 WHERE id = ?", narrower)


def _time(at: datetime | None) -> int | None:
    return None if at is None else from_time(at)
