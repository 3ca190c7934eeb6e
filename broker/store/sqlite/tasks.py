"""Tasks as SQLite rows, and what is written of one that goes on."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import json
import sqlite3
from datetime import timedelta
from typing import Final

from broker.boundary import boundary_from_json
from broker.store.interface import HearTask, NarrowTask
from broker.store.sqlite.rows import Row, from_time, from_time_or_none, to_json, to_time, to_time_or_none
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
        ended_at=to_time_or_none(ended_at),
        type=kind,
        boundary=boundary_from_json(json.loads(boundary)),
        heartbeat=None if heartbeat is None else heartbeat * _MICROSECOND,
        silent_at=to_time_or_none(silent_at),
        revision=revision,
        person=person,
        asked=asked,
        suspended_at=to_time_or_none(suspended_at),
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
        from_time_or_none(task.ended_at),
        task.type,
        to_json(task.boundary.to_json()),
        None if task.heartbeat is None else task.heartbeat // _MICROSECOND,
        from_time_or_none(task.silent_at),
        task.revision,
        task.person,
        task.asked,
        from_time_or_none(task.suspended_at),
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
