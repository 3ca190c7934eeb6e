"""Drifted tasks as SQLite rows: who was told of them, and that a person has answered."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from broker.credential.revocation import Rule, RuleKind
from broker.drifted import Drifted, DriftState
from broker.store.drift_items import AddDrifted, DriftWrite, EscalateDrifted
from broker.store.outcome_items import Outside, ResumeTask
from broker.store.sqlite import drifting
from broker.store.sqlite.asking import Asking
from broker.store.sqlite.rows import Row, from_rule, from_time, from_time_or_none, to_json, to_time, to_time_or_none

# Of those that are due, in one go.
BATCH: Final = 256
_DRIFTED: Final = (
    "task, agent, tenant, told, since, at, refusals, within, reasons, actions, times, state, escalated, escalate_at"
)
_ADD: Final = f"INSERT INTO drifted ({_DRIFTED}, changed) VALUES ({', '.join('?' * 15)})"
# Whom was told when stays as it is: who does not answer does not win time by drifting on.
_AGAIN: Final = (
    "UPDATE drifted SET at = ?, refusals = ?, within = ?, reasons = ?, actions = ?, times = times + 1, changed = ?"
    " WHERE task = ? AND state = 'open'"
)
# Another group, where the type names another by now; who was told before stays told.
_TELL: Final = "UPDATE drifted SET told = ?, escalated = ?, escalate_at = ? WHERE task = ?"
_ESCALATE: Final = (
    "UPDATE drifted SET escalated = CASE ?1 WHEN '' THEN escalated ELSE json_insert(escalated, '$[#]', ?1) END,"
    " escalate_at = ?2, changed = CASE ?1 WHEN '' THEN changed ELSE ?3 END WHERE task = ?4 AND state = 'open'"
)
# The next group is asked for anew: it may have been due meanwhile.
_REOPEN: Final = (
    "UPDATE drifted SET state = 'open', escalate_at = ?, changed = ? WHERE task = ? AND state = 'ended' AND EXISTS"
    " (SELECT 1 FROM task WHERE id = drifted.task AND ended_at IS NULL AND suspended_at IS NOT NULL)"
    " AND NOT EXISTS (SELECT 1 FROM revocation WHERE rule = ?)"
)
_MICROSECOND: Final = timedelta(microseconds=1)


# --- writes --------------------------------------------------------------------------------------------


def write(connection: sqlite3.Connection, item: DriftWrite | ResumeTask, position: int) -> None:
    """Write that a task drifted, who is told as well, or that it goes on."""
    match item:
        case ResumeTask():
            drifting.change(connection, item)
            close(connection, item.task, DriftState.RESUMED, position)
        case AddDrifted(drifted=drifted):
            _add(connection, drifted, position)
        case EscalateDrifted():
            row = (item.group, from_time_or_none(item.escalate_at), position, item.task)
            connection.execute(_ESCALATE, row)


def _add(connection: sqlite3.Connection, drifted: Drifted, position: int) -> None:
    last = (
        from_time(drifted.at),
        drifted.refusals,
        drifted.within // _MICROSECOND,
        to_json(drifted.reasons),
        to_json(drifted.actions),
    )
    if connection.execute(_AGAIN, (*last, position, drifted.task)).rowcount:
        _tell(connection, drifted)
        return
    connection.execute("DELETE FROM drifted WHERE task = ?", (drifted.task,))  # an earlier one, that was answered
    whose = (drifted.task, drifted.agent, drifted.tenant, drifted.group, from_time(drifted.since))
    where = (
        drifted.times,
        drifted.state.value,
        to_json(drifted.escalated),
        from_time_or_none(drifted.escalate_at),
        position,
    )
    connection.execute(_ADD, (*whose, *last, *where))


def _tell(connection: sqlite3.Connection, drifted: Drifted) -> None:
    ((_, earlier),) = _numbered(connection, "number", "task = ?", drifted.task)
    if earlier.group != drifted.group:
        others = [group for group in earlier.groups if group != drifted.group]
        row = (drifted.group, to_json(others), from_time_or_none(drifted.escalate_at), drifted.task)
        connection.execute(_TELL, row)


def close(connection: sqlite3.Connection, task: str, state: DriftState, position: int) -> None:
    """Note that the drift of a task needs nobody any more."""
    query = "UPDATE drifted SET state = ?, escalate_at = NULL, changed = ? WHERE task = ? AND state = 'open'"
    connection.execute(query, (state.value, position, task))


def reopen(connection: sqlite3.Connection, rule: Rule, at: datetime, position: int) -> None:
    """Let the drift of a task wait again whose last revocation was lifted: the task stands there suspended."""
    if rule.kind is RuleKind.TASK:
        connection.execute(_REOPEN, (from_time(at), position, rule.name, from_rule(rule)))


def forget(connection: sqlite3.Connection, batch: int) -> None:
    """Drop those whose task is forgotten; a bounded number of rows."""
    connection.execute(
        "DELETE FROM drifted WHERE number IN (SELECT number FROM drifted WHERE NOT EXISTS"
        " (SELECT 1 FROM task WHERE task.id = drifted.task) LIMIT ?)",
        (batch,),
    )


# --- reads --------------------------------------------------------------------------------------------------------


class DriftedReads(Asking):
    """The part of the store that answers about tasks that drift."""

    def drift(self, task_id: str) -> Sequence[Outside]:
        """Return what was refused lately because it lies outside a task, the newest last."""
        return self._ask(drifting.drift, task_id)

    def drifted(self, task_id: str) -> Drifted | None:
        """Return that a task drifted; None when it never did, or is forgotten."""
        return next((each for _, each in self._ask(_numbered, "number", "task = ?", task_id)), None)

    def drifted_due(self, now: datetime) -> Sequence[Drifted]:
        """Return open ones that the next group is to be told of; some of many."""
        where = f"state = 'open' AND escalate_at IS NOT NULL AND escalate_at <= ? LIMIT {BATCH}"
        return [each for _, each in self._ask(_numbered, "number", where, from_time(now))]

    def drifted_after(self, number: int, tenants: Sequence[str] | None, limit: int) -> Sequence[tuple[int, Drifted]]:
        """Return open ones of these tenants (None: of all) beyond a number, the oldest first, each with its own."""
        of, bound = _of(tenants)
        where = f"number > ? AND state = 'open' AND {of} ORDER BY number LIMIT ?"
        return self._ask(_numbered, "number", where, number, *bound, limit)

    def drifted_changed(
        self, start: int, stop: int, tenants: Sequence[str] | None, limit: int
    ) -> Sequence[tuple[int, Drifted]]:
        """Return those whose last change stands in [start, stop) of the log, in order, each with its place."""
        of, bound = _of(tenants)
        where = f"changed >= ? AND changed < ? AND {of} ORDER BY changed, number LIMIT ?"
        return self._ask(_numbered, "changed", where, start, stop, *bound, limit)


def _of(tenants: Sequence[str] | None) -> tuple[str, tuple[Any, ...]]:
    return ("true", ()) if tenants is None else ("tenant IN (SELECT value FROM json_each(?))", (to_json(tenants),))


def _numbered(
    connection: sqlite3.Connection, place: str, where: str, *bound: str | int
) -> Sequence[tuple[int, Drifted]]:
    query = f"SELECT {place}, {_DRIFTED} FROM drifted WHERE {where}"
    return [(row[0], _to_drifted(row[1:])) for row in connection.execute(query, bound)]


def _to_drifted(row: Row) -> Drifted:
    task, agent, tenant, told, since, at, refusals, within, reasons, actions, *more = row
    times, state, escalated, escalate_at = more
    return Drifted(
        task=task,
        agent=agent,
        tenant=tenant,
        group=told,
        since=to_time(since),
        at=to_time(at),
        refusals=refusals,
        within=within * _MICROSECOND,
        reasons=tuple(json.loads(reasons)),
        actions=tuple(json.loads(actions)),
        times=times,
        state=DriftState(state),
        escalated=tuple(json.loads(escalated)),
        escalate_at=to_time_or_none(escalate_at),
    )
