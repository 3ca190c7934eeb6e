"""What a client was told, and what the store says: the two are compared after each fault."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.audit.checkpoint import CheckpointInvalid, VerifierKey
from broker.audit.verify import verify_log
from tests.faults.bundle import MAXIMA
from tests.faults.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One token that a client holds; `approval`: what it was asked for with."""

    request_id: str
    credential: str
    digest: str
    approval: str = ""


@dataclass(slots=True, kw_only=True)
class Ledger:
    """Everything that was acknowledged, and what was not.

    Attributes:
        held: tokens, in the order of their answers.
        lost: request ids of exchanges that got no answer, or "unavailable".
        revocations: id, credential and position of what was acknowledged.
        begun: ids of tasks.
        ended: task and position of what was acknowledged.
        waiting: approvals that requests are held for.
        answered: approval, state and position of what people were told that they have decided; position None when
            they were told that they had before.
        spent: credential and position of what a service was told that it may act on.
        reported: report and position of what was acknowledged.
        broken: what a client was told that it must never be told.
        notes: signed checkpoints that somebody has kept outside the broker.
        key: the first verifier key of the checkpoints; the log says which ones followed.

    """

    held: list[Held] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    revocations: list[tuple[str, str, int]] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    ended: list[tuple[str, int]] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    answered: list[tuple[str, str, int | None]] = field(default_factory=list)
    spent: list[tuple[str, int]] = field(default_factory=list)
    reported: list[tuple[str, int]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    key: str = ""


def differences(ledger: Ledger, facts: Facts) -> list[str]:
    """Return in what the store breaks its word; empty when in nothing."""
    parts = (
        ledger.broken,
        _tokens(ledger, facts),
        _rows(facts),
        _charges(facts),
        _acknowledged(ledger, facts),
        _approvals(ledger, facts),
        _spent_and_reported(ledger, facts),
        _log(ledger, facts),
    )
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
    lifted = {event["revocation"] for event in facts.of("revocation.lifted")}
    made = [event["revocation"] for event in facts.of("revocation.made")]
    pairs = {
        "grants": (set(facts.granted), [event["credential"] for event in facts.of("credential.granted")]),
        "revocations": (set(facts.revocations), [each for each in made if each not in lifted]),
        "tasks": (set(facts.tasks), [event["task"] for event in facts.of("task.begun")]),
        "ended tasks": (
            {task for task, ended in facts.tasks.items() if ended is not None},
            [event["task"] for event in facts.of("task.ended")],
        ),
        "approvals": (set(facts.approvals), [event["approval"] for event in facts.of("approval.requested")]),
        "redemptions": (set(facts.redemptions), [event["credential"] for event in facts.of("credential.redeemed")]),
        "reports": (
            set(facts.reports),
            [event["use"] for event in facts.of("usage.accepted")]
            + [event["report"] for event in facts.of("outcome.reported")],
        ),
    }
    for name, (rows, logged) in pairs.items():
        if rows != set(logged) or len(logged) != len(set(logged)):
            found.append(f"{name}: rows and events differ in {sorted(rows ^ set(logged)) or 'number'}")
    return found


def _charges(facts: Facts) -> list[str]:
    """Check that each grant was charged what its event names, that limits counted just that, and never too much.

    What failed was given back: its charge is gone.
    """
    named = {event["credential"]: len(event.get("charged", ())) for event in facts.of("credential.granted")}
    named |= {event["credential"]: 0 for event in facts.of("outcome.reported") if event["outcome"] == "failed"}
    found = [
        f"{credential}: charged {facts.charged.get(credential, 0)}, its event names {count}"
        for credential, count in named.items()
        if facts.charged.get(credential, 0) != count
    ]
    counted = sum(total for _, _, total in facts.counters)
    if counted != sum(facts.charged.values()):
        found.append(f"limits have counted {counted}, charged was {sum(facts.charged.values())}")
    found += [
        f"{policy}: {total} counted for one {per}, {MAXIMA[policy, per]} is its limit"
        for policy, per, total in facts.counters
        if total > MAXIMA[policy, per]
    ]
    return found


def _event_at(facts: Facts, position: int, event_type: str) -> Mapping[str, Any]:
    event = facts.events[position] if position < len(facts.events) else {}
    return event if event.get("type") == event_type else {}


def _acknowledged(ledger: Ledger, facts: Facts) -> list[str]:
    """Check that whatever was acknowledged is in force, and stands in the log where the answer said."""
    found: list[str] = []
    for revocation, credential, position in ledger.revocations:
        if facts.revocations.get(revocation) != f"credential {credential}" or credential not in facts.revoked:
            found.append(f"{revocation}: acknowledged, not in force")
        if _event_at(facts, position, "revocation.made").get("revocation") != revocation:
            found.append(f"{revocation}: acknowledged, not in the log at {position}")
    found += [f"{task}: begun, and gone" for task in ledger.begun if task not in facts.tasks]
    for task, position in ledger.ended:
        if facts.tasks.get(task) is None:
            found.append(f"{task}: ended, and alive")
        if _event_at(facts, position, "task.ended").get("task") != task:
            found.append(f"{task}: ended, not in the log at {position}")
        living = {event["credential"] for event in facts.of("credential.granted") if event.get("task") == task}
        found += [f"{credential}: outlives its task" for credential in sorted(living - facts.revoked)]
    return found


def _approvals(ledger: Ledger, facts: Facts) -> list[str]:
    """Check that each answer of a person stands, that each approval gave one credential, and a "no" none."""
    given = Counter(facts.approved.values())
    found = [f"{approval}: {count} credentials" for approval, count in given.items() if count > 1]
    used = {approval for approval, state in facts.approvals.items() if state == "used"}
    if used != set(given):
        found.append(f"approvals used and approvals of grants differ in {sorted(used ^ set(given))}")
    logged = Counter(event["approval"] for event in facts.of("credential.granted") if event.get("approval"))
    if logged != given:
        found.append(f"approvals of grants and of their events differ in {sorted(logged.keys() ^ given.keys())}")
    found += [f"{approval}: held for, and gone" for approval in ledger.waiting if approval not in facts.approvals]
    for approval, state, position in ledger.answered:
        if facts.approvals.get(approval) not in {"approved": ("approved", "used"), "denied": ("denied",)}[state]:
            found.append(f"{approval}: {state}, and is {facts.approvals.get(approval)}")
        if position is not None and _event_at(facts, position, f"approval.{state}").get("approval") != approval:
            found.append(f"{approval}: {state}, not in the log at {position}")
    found += [
        f"{held.credential}: given on {held.approval}, which its grant does not name"
        for held in ledger.held
        if facts.approved.get(held.credential, "") != held.approval
    ]
    return found


def _spent_and_reported(ledger: Ledger, facts: Facts) -> list[str]:
    """Check that what a service was told to be spent or recorded stands where the answer said."""
    found = [
        f"{credential}: spent, not in the log at {position}"
        for credential, position in ledger.spent
        if facts.redemptions.get(credential) != position
        or _event_at(facts, position, "credential.redeemed").get("credential") != credential
    ]
    found += [
        f"{report}: recorded, not in the log at {position}"
        for report, position in ledger.reported
        if facts.reports.get(report) != position
        or report
        not in (
            _event_at(facts, position, "usage.accepted").get("use"),
            _event_at(facts, position, "outcome.reported").get("report"),
        )
    ]
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
