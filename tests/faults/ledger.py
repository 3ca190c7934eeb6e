"""What a client was told, and what the store says: the two are compared after each fault."""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.audit.checkpoint import CheckpointInvalid, VerifierKey
from broker.audit.verify import LoggedEntry, verify_log
from broker.store.sqlite import OfflineLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One token that a client holds."""

    request_id: str
    credential: str
    digest: str


@dataclass(slots=True, kw_only=True)
class Ledger:
    """Everything that was acknowledged, and what was not.

    Attributes:
        held: tokens, in the order of their answers.
        lost: request ids of exchanges that got no answer, or "unavailable".
        revocations: id, credential and position of what was acknowledged.
        begun: ids of tasks.
        ended: task and position of what was acknowledged.
        notes: signed checkpoints that somebody has kept outside the broker.
        key: the first verifier key of the checkpoints; the log says which ones followed.

    """

    held: list[Held] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    revocations: list[tuple[str, str, int]] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    ended: list[tuple[str, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    key: str = ""


@dataclass(slots=True, kw_only=True)
class Facts:
    """The store at rest: rows as they are, the log as it was found.

    Attributes:
        entries: the log.
        events: each entry's members.
        granted: request id of each grant, by credential.
        revocations: rule of each revocation in force, by id.
        tasks: end of each task, by id; None while it lives.
        conversations: the task of each conversation.
        revoked: credentials that ended early.
        overrides: ids of those in force.
        charged: what each credential was charged, by its id.
        counted: what all limits have counted.

    """

    entries: list[LoggedEntry]
    notes: list[str]
    events: list[Mapping[str, Any]]
    granted: dict[str, str]
    revocations: dict[str, str]
    tasks: dict[str, int | None]
    conversations: dict[str, str]
    revoked: set[str]
    overrides: set[str]
    charged: dict[str, int]
    counted: int

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
        granted = dict(rows.execute("SELECT credential, request_id FROM granted").fetchall())
        tasks = rows.execute("SELECT id, ended_at, conversation FROM task").fetchall()
        revocations = dict(rows.execute("SELECT id, rule FROM revocation").fetchall())
        revoked = {credential for (credential,) in rows.execute("SELECT credential FROM revoked")}
        overrides = {override for (override,) in rows.execute("SELECT id FROM override")}
        charged = dict(rows.execute("SELECT credential, sum(amount) FROM charge GROUP BY credential").fetchall())
        (counted,) = rows.execute("SELECT coalesce(sum(total), 0) FROM counter").fetchone()
        (size,) = rows.execute("SELECT size FROM log").fetchone()
        if log.size() != size:  # a commit fell between the two
            return read(database)
        entries = list(log.entries())
        return Facts(
            entries=entries,
            notes=log.notes(),
            events=[json.loads(entry.content) for entry in entries],
            granted=granted,
            revocations=revocations,
            tasks={task: ended for task, ended, _ in tasks},
            conversations={conversation: task for task, _, conversation in tasks},
            revoked=revoked,
            overrides=overrides,
            charged=charged,
            counted=counted,
        )


def differences(ledger: Ledger, facts: Facts) -> list[str]:
    """Return in what the store breaks its word; empty when in nothing."""
    parts = (_tokens(ledger, facts), _rows(facts), _charges(facts), _acknowledged(ledger, facts), _log(ledger, facts))
    return [line for part in parts for line in part]


def _tokens(ledger: Ledger, facts: Facts) -> list[str]:
    """Check that no token is held without its event, and none under two names."""
    granted = Counter(event["credential"] for event in facts.of("credential.granted"))
    given = Counter(
        (event["credential"], event["token_digest"])
        for event in (*facts.of("credential.granted"), *facts.of("credential.reissued"))
    )
    found: list[str] = []
    for held in ledger.held:
        if granted[held.credential] != 1:
            found.append(f"{held.credential}: held, with {granted[held.credential]} events of its grant")
        if given[held.credential, held.digest] != 1:
            found.append(f"{held.credential}: held a token with {given[held.credential, held.digest]} events")
        if facts.granted.get(held.credential) != held.request_id:
            found.append(f"{held.credential}: held, but not granted for its request")
    requests = Counter(request for request in facts.granted.values() if request)
    found += [f"{request}: {count} grants" for request, count in requests.items() if count > 1]
    return found


def _rows(facts: Facts) -> list[str]:
    """Check that what is in force and what the log says are the same, told or not."""
    found: list[str] = []
    pairs = {
        "grants": (set(facts.granted), [event["credential"] for event in facts.of("credential.granted")]),
        "revocations": (set(facts.revocations), [event["revocation"] for event in facts.of("revocation.made")]),
        "tasks": (set(facts.tasks), [event["task"] for event in facts.of("task.begun")]),
        "ended tasks": (
            {task for task, ended in facts.tasks.items() if ended is not None},
            [event["task"] for event in facts.of("task.ended")],
        ),
    }
    for name, (rows, logged) in pairs.items():
        if rows != set(logged) or len(logged) != len(set(logged)):
            found.append(f"{name}: rows and events differ in {sorted(rows ^ set(logged)) or 'number'}")
    return found


def _charges(facts: Facts) -> list[str]:
    """Check that each grant was charged what its event names, and that the limits have counted just that."""
    named = {event["credential"]: len(event.get("charged", ())) for event in facts.of("credential.granted")}
    found = [
        f"{credential}: charged {facts.charged.get(credential, 0)}, its event names {count}"
        for credential, count in named.items()
        if facts.charged.get(credential, 0) != count
    ]
    if facts.counted != sum(facts.charged.values()):
        found.append(f"limits have counted {facts.counted}, charged was {sum(facts.charged.values())}")
    return found


def _acknowledged(ledger: Ledger, facts: Facts) -> list[str]:
    """Check that whatever was acknowledged is in force, and stands in the log where the answer said."""

    def event_at(position: int, event_type: str) -> Mapping[str, Any]:
        event = facts.events[position] if position < len(facts.events) else {}
        return event if event.get("type") == event_type else {}

    found: list[str] = []
    for revocation, credential, position in ledger.revocations:
        if facts.revocations.get(revocation) != f"credential {credential}" or credential not in facts.revoked:
            found.append(f"{revocation}: acknowledged, not in force")
        if event_at(position, "revocation.made").get("revocation") != revocation:
            found.append(f"{revocation}: acknowledged, not in the log at {position}")
    found += [f"{task}: begun, and gone" for task in ledger.begun if task not in facts.tasks]
    for task, position in ledger.ended:
        if facts.tasks.get(task) is None:
            found.append(f"{task}: ended, and alive")
        if event_at(position, "task.ended").get("task") != task:
            found.append(f"{task}: ended, not in the log at {position}")
        living = {event["credential"] for event in facts.of("credential.granted") if event.get("task") == task}
        found += [f"{credential}: outlives its task" for credential in sorted(living - facts.revoked)]
    return found


def _log(ledger: Ledger, facts: Facts) -> list[str]:
    """Check positions and hashes, against the checkpoints that were kept and those beside the log."""
    if [entry.position for entry in facts.entries] != list(range(len(facts.entries))):
        return ["the log's positions have gaps"]
    if not ledger.key:
        return ["no checkpoint was kept"]
    try:
        # What lies beside the log was signed by the broker too, all of it.
        notes = [*ledger.notes, *facts.notes]
        report = verify_log(facts.entries, pinned=notes, key=VerifierKey.parse(ledger.key))
    except CheckpointInvalid as problem:
        return [f"a checkpoint: {problem}"]
    return [] if report.fault is None else [f"the log: {report.fault}"]
