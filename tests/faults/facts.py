"""What a store says, read without the broker."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.audit.verify import LoggedEntry
from broker.store.sqlite import OfflineLog


@dataclass(slots=True, kw_only=True)
class Facts:
    """The store at rest: rows as they are, the log as it was found.

    Attributes:
        entries: the log.
        events: each entry's members.
        granted: request id of each grant, by credential.
        revocations: rule of each revocation in force, by id.
        tasks: end of each task, by id; None while it lives.
        suspended: tasks that are.
        drifted: where each task that drifted stands, by id.
        conversations: the task of each conversation.
        revoked: credentials that ended early.
        overrides: ids of those in force.
        approvals: where each stands, by id.
        approved: the approval that each credential was given on, where it was.
        redemptions: position of the event of each credential that was spent.
        reports: position of the event of each report.
        charged: what each credential was charged, by its id.
        counters: what each limit has counted: policy, period, total.

    """

    entries: list[LoggedEntry]
    notes: list[str]
    events: list[Mapping[str, Any]]
    granted: dict[str, str]
    revocations: dict[str, str]
    tasks: dict[str, int | None]
    suspended: set[str]
    drifted: dict[str, str]
    conversations: dict[str, str]
    revoked: set[str]
    overrides: set[str]
    approvals: dict[str, str]
    approved: dict[str, str]
    redemptions: dict[str, int]
    reports: dict[str, int]
    charged: dict[str, int]
    counters: list[tuple[str, str, int]]

    def of(self, event_type: str) -> list[Mapping[str, Any]]:
        """Return the events of one type."""
        return [event for event in self.events if event["type"] == event_type]

    def credential_of(self, request_id: str) -> str | None:
        """Return the credential that was committed under a request id."""
        return next((credential for credential, of in self.granted.items() if of == request_id), None)


def read(database: Path) -> Facts:
    """Read a store without touching it, whether or not a broker runs on it: rows and log of one moment."""
    with OfflineLog.open(database) as log, closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as rows:
        rows.execute("BEGIN")

        def pairs(query: str) -> dict[str, Any]:
            return dict(rows.execute(query).fetchall())

        granted = pairs("SELECT credential, request_id FROM granted")
        facts = Facts(
            entries=[],
            notes=log.notes(),
            events=[],
            granted=granted,
            revocations=pairs("SELECT id, rule FROM revocation"),
            tasks=pairs("SELECT id, ended_at FROM task"),
            suspended=set(pairs("SELECT id, suspended_at FROM task WHERE suspended_at IS NOT NULL")),
            drifted=pairs("SELECT task, state FROM drifted"),
            conversations=pairs("SELECT conversation, id FROM task"),
            revoked=set(pairs("SELECT credential, position FROM revoked")),
            overrides=set(pairs("SELECT id, kind FROM override")),
            approvals=pairs("SELECT id, state FROM approval"),
            approved=pairs("SELECT credential, approval FROM granted WHERE approval <> ''"),
            redemptions=pairs("SELECT credential, position FROM redemption"),
            reports=pairs("SELECT id, position FROM report"),
            charged=pairs("SELECT credential, sum(amount) FROM charge GROUP BY credential"),
            counters=rows.execute("SELECT policy, per, total FROM counter").fetchall(),
        )
        (size,) = rows.execute("SELECT size FROM log").fetchone()
        if log.size() != size:  # a commit fell between the two
            return read(database)
        facts.entries = list(log.entries())
        facts.events = [json.loads(entry.content) for entry in facts.entries]
        return facts
