"""What is read of approvals: every question has an index that answers it."""

# ruff: noqa: S608 - only constants of this package are joined into queries; values are always bound
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from broker.approval import Approval
from broker.credential.revocation import Rule
from broker.intent import Intent
from broker.override import Stop
from broker.store.approval_items import ApprovalView, ChangeApproval, OpenApproval
from broker.store.drift_items import AddDrifted, EscalateDrifted
from broker.store.interface import AddOverride, AddRevocation, EndTask, Item, LiftRevocation, ResumeTask, SuspendTask
from broker.store.sqlite.approvals import APPROVAL, open_under, to_approval
from broker.store.sqlite.asking import Asking
from broker.store.sqlite.rows import from_time, to_json

# Of one kind, in one go.
BATCH: Final = 256
_SAME: Final = 8
# What may change approvals, or the drifted tasks that stand beside them.
_CHANGING: Final = (
    AddDrifted,
    AddOverride,
    AddRevocation,
    ChangeApproval,
    EndTask,
    EscalateDrifted,
    LiftRevocation,
    OpenApproval,
    ResumeTask,
    SuspendTask,
)


class ApprovalReads(Asking):
    """The part of the store that answers about approvals."""

    _approval_changes = 0

    @property
    def approval_changes(self) -> int:
        """How many groups of this process may have changed approvals."""
        return self._approval_changes

    def _note_approvals(self, items: Sequence[Item]) -> None:
        """Count a group that may change approvals, before it is tried."""
        if any(isinstance(write, _CHANGING) for item in items for write in item.writes):
            self._approval_changes += 1

    def approval(self, approval_id: str) -> Approval | None:
        """Return an approval that is still remembered."""
        return self._ask(_first, "id = ?", approval_id)

    def approvals_for(self, agent: str, intent: Intent) -> Sequence[Approval]:
        """Return what an agent asked for this very intent, the newest first; of many, the newest."""
        where = f"agent = ? AND task = ? AND intent_digest = ? ORDER BY number DESC LIMIT {_SAME}"
        return self._ask(_all, where, agent, intent.task, intent.digest())

    def bypass_for(self, agent: str, intent: Intent, now: datetime) -> Approval | None:
        """Return the approval whose bypass lets an intent pass: the same kind, in the same task."""
        where = (
            "task = ? AND task <> '' AND agent = ? AND action = ? AND resource_type = ? AND audience = ?"
            " AND bypass_until > ? ORDER BY number DESC"
        )
        kind = (intent.task, agent, intent.action, intent.resource.type, intent.audience)
        return self._ask(_first, where, *kind, from_time(now))

    def approvals_due(self, now: datetime) -> Sequence[Approval]:
        """Return approvals that are over by themselves, or that the next group may answer as well; some of many."""
        found: dict[str, Approval] = {}
        for where in (
            "state = 'pending' AND pending_until <= ?",
            "state = 'approved' AND usable_until <= ?",
            "state = 'pending' AND escalate_at IS NOT NULL AND escalate_at <= ?",
        ):
            found |= {each.id: each for each in self._ask(_all, f"{where} LIMIT {BATCH}", from_time(now))}
        return list(found.values())

    def approvals_after(self, number: int, view: ApprovalView, limit: int) -> Sequence[tuple[int, Approval]]:
        """Return the approvals that a view shows beyond a number, the oldest first, each with its own."""
        where, bound = _seen(view)
        query = f"SELECT number, {APPROVAL} FROM approval WHERE number > ? AND {where} ORDER BY number LIMIT ?"
        return self._ask(_numbered, query, number, *bound, limit)

    def approvals_changed(
        self, start: int, stop: int, view: ApprovalView, limit: int
    ) -> Sequence[tuple[int, Approval]]:
        """Return the approvals whose last change stands in [start, stop) of the log, in order, each with its place."""
        where, bound = _seen(view)
        query = (
            f"SELECT changed, {APPROVAL} FROM approval INDEXED BY approval_changed"
            f" WHERE changed >= ? AND changed < ? AND {where}"
            " ORDER BY changed, number LIMIT ?"
        )
        return self._ask(_numbered, query, start, stop, *bound, limit)

    def approvals_under(self, under: Rule | Stop, now: datetime) -> Sequence[str]:
        """Return the ids of the approvals that are open under a rule or a stop."""
        return self._ask(open_under, under, now)

    def approval_counts(self, agent: str) -> tuple[int, int]:
        """Return how many of an agent's held requests were approved, and how many denied, of those remembered."""
        return self._ask(_counts, agent)


def _counts(connection: sqlite3.Connection, agent: str) -> tuple[int, int]:
    query = (
        "SELECT count(*) FILTER (WHERE state <> 'denied'), count(*) FILTER (WHERE state = 'denied')"
        " FROM approval INDEXED BY approval_answered WHERE agent = ? AND (usable_until IS NOT NULL OR state = 'denied')"
    )
    approved, denied = connection.execute(query, (agent,)).fetchone()
    return approved, denied


def _seen(view: ApprovalView) -> tuple[str, tuple[Any, ...]]:
    bound = tuple(each.value for each in view.states)
    # Said only where it is asked for, and not as a condition that may be empty: no index would answer that.
    where = f"state IN ({', '.join('?' * len(bound))})" if bound else "true"
    if view.agent:
        return f"{where} AND agent = ?", (*bound, view.agent)
    if view.begun_by:
        person = " AND person IN (SELECT value FROM json_each(?))" if view.persons else ""
        begun = f"EXISTS (SELECT 1 FROM task WHERE id = approval.task AND begun_by = ?{person})"
        return f"{where} AND {begun}", (*bound, view.begun_by, *([to_json(view.persons)] if view.persons else []))
    if view.tenants is None:
        return where, bound
    return f"{where} AND tenant IN (SELECT value FROM json_each(?))", (*bound, to_json(view.tenants))


def _first(connection: sqlite3.Connection, where: str, *bound: str | int) -> Approval | None:
    return next(iter(_all(connection, f"{where} LIMIT 1", *bound)), None)


def _all(connection: sqlite3.Connection, where: str, *bound: str | int) -> Sequence[Approval]:
    return [to_approval(row) for row in connection.execute(f"SELECT {APPROVAL} FROM approval WHERE {where}", bound)]


def _numbered(connection: sqlite3.Connection, query: str, *bound: str | int) -> Sequence[tuple[int, Approval]]:
    return [(row[0], to_approval(row[1:])) for row in connection.execute(query, bound)]
