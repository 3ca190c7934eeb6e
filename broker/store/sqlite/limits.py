"""Limits, separate duties and sequences in rows: counters and charges, actions of a task, steps of a sequence."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from broker.errors import Reason, Refusal
from broker.store.limit_items import Charge, Counter, Granted, NoteGranted, NotGranted, StepsOpen, WithinLimit
from broker.store.sqlite.rows import Row, from_time, from_time_or_none

# Later than this nothing is given back: an outcome is reported within hours, or it is one to look into.
CHARGES_KEPT: Final = timedelta(days=7)

_KEY: Final = "subject = ? AND policy = ? AND place = ? AND per = ? AND parameter = ?"
_TOTAL: Final = f"SELECT total FROM counter WHERE {_KEY}"  # noqa: S608 - constants of this file
_CHARGE: Final = (
    "INSERT INTO counter (subject, policy, place, per, parameter, total, ends) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (subject, policy, place, per, parameter) DO UPDATE"
    " SET total = total + excluded.total, ends = excluded.ends RETURNING number"
)
_BEGIN: Final = (
    "INSERT INTO sequence_step (subject, sequence, taken, ends) VALUES (?1, ?2, 1, ?3)"
    " ON CONFLICT (subject, sequence) DO UPDATE SET ends = excluded.ends"
)
_TAKE: Final = (
    "UPDATE sequence_step SET taken = taken + (taken = ?4 AND ?5), ends = ?3 WHERE subject = ?1 AND sequence = ?2"
)


def _key(counter: Counter) -> Row:
    return counter.subject, counter.policy, counter.place, counter.per, counter.parameter


def refusal(connection: sqlite3.Connection, guard: WithinLimit | NotGranted | StepsOpen) -> Reason | Refusal | None:
    """Return why a grant must not be; None when it may."""
    match guard:
        case WithinLimit():
            return _over(connection, guard)
        case NotGranted():
            return _separated(connection, guard)
        case StepsOpen():
            return _taken(connection, guard)


def _over(connection: sqlite3.Connection, guard: WithinLimit) -> Refusal | None:
    row = connection.execute(_TOTAL, _key(guard.counter)).fetchone()
    if (row[0] if row else 0) + guard.amount <= guard.maximum:
        return None
    return Refusal(Reason.LIMIT_REACHED, f"policy {guard.counter.policy}, per {guard.counter.per}")


def _separated(connection: sqlite3.Connection, guard: NotGranted) -> Reason | None:
    found = connection.execute("SELECT action FROM granted_action WHERE task = ?", (guard.task,))
    return Reason.DUTY_SEPARATED if any(action in guard.actions for (action,) in found) else None


def _taken(connection: sqlite3.Connection, guard: StepsOpen) -> Reason | None:
    query = "SELECT taken FROM sequence_step WHERE subject = ? AND sequence = ?"
    row = connection.execute(query, (guard.subject, guard.sequence)).fetchone()
    return guard.reason if row and row[0] >= guard.steps else None


def charge(connection: sqlite3.Connection, write: Charge) -> None:
    """Add to the counters, and remember what was added by the credential."""
    for counter, amount in write.amounts:
        (number,) = connection.execute(_CHARGE, (*_key(counter), amount, from_time_or_none(counter.ends))).fetchone()
        connection.execute(
            "INSERT INTO charge (credential, counter, amount, at) VALUES (?, ?, ?, ?)",
            (write.credential, number, amount, from_time(write.at)),
        )


def give_back(connection: sqlite3.Connection, credential: str) -> None:
    """Take from the counters what a credential was charged; what was given back is not there a second time."""
    charged = connection.execute("SELECT amount, counter FROM charge WHERE credential = ?", (credential,)).fetchall()
    connection.executemany("UPDATE counter SET total = total - ? WHERE number = ?", charged)
    connection.execute("DELETE FROM charge WHERE credential = ?", (credential,))


def note(connection: sqlite3.Connection, write: NoteGranted) -> None:
    """Remember an action of a task, and the steps that it is."""
    if write.action:
        connection.execute("INSERT OR IGNORE INTO granted_action VALUES (?, ?)", (write.task, write.action))
    for step in write.steps:
        ends = from_time_or_none(step.ends)
        if step.place == 0:
            connection.execute(_BEGIN, (step.subject, step.sequence, ends))
        else:
            counts = step.place < step.sequence.count(" ")
            connection.execute(_TAKE, (step.subject, step.sequence, ends, step.place, counts))


def granted(connection: sqlite3.Connection, task: str, subjects: Iterable[str]) -> Granted:
    """Return what is remembered of a task's grants, and the steps of these subjects."""
    actions = connection.execute("SELECT action FROM granted_action WHERE task = ?", (task,))
    steps = {
        (subject, sequence): count
        for subject in subjects
        for sequence, count in connection.execute(
            "SELECT sequence, taken FROM sequence_step WHERE subject = ?", (subject,)
        )
    }
    return Granted(actions=frozenset(action for (action,) in actions), steps=steps)


def keep_standing(connection: sqlite3.Connection, standing: Sequence[tuple[str, int, str]]) -> None:
    """Forget what was counted by agent under limits that no longer stand: policy, place and parameter of each."""
    query = "SELECT DISTINCT policy, place, parameter FROM counter WHERE per = 'agent'"
    gone = [limit for limit in connection.execute(query).fetchall() if limit not in set(standing)]
    connection.executemany(
        "DELETE FROM counter WHERE per = 'agent' AND policy = ? AND place = ? AND parameter = ?", gone
    )


def forget(connection: sqlite3.Connection, now: datetime, tasks: Sequence[str], batch: int) -> None:
    """Drop what hangs on tasks that were forgotten, and a bounded number of what has ended."""
    of_tasks = [(task,) for task in tasks]
    connection.executemany("DELETE FROM counter WHERE subject = ?", of_tasks)
    connection.executemany("DELETE FROM sequence_step WHERE subject = ?", of_tasks)
    connection.executemany("DELETE FROM granted_action WHERE task = ?", of_tasks)
    bounds = (from_time(now), batch)
    connection.execute(
        "DELETE FROM counter WHERE number IN (SELECT number FROM counter WHERE ends <= ? LIMIT ?)", bounds
    )
    connection.execute(
        "DELETE FROM sequence_step WHERE (subject, sequence) IN"
        " (SELECT subject, sequence FROM sequence_step WHERE ends <= ? LIMIT ?)",
        bounds,
    )
    # Numbers rise with time, so the oldest are found without an index of their own.
    connection.execute(
        "DELETE FROM charge WHERE at <= ? AND number IN (SELECT number FROM charge ORDER BY number LIMIT ?)",
        (from_time(now - CHARGES_KEPT), batch),
    )
