"""What the store's tests write: valid nouns with defaults."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.audit.entry import Entry
from broker.audit.event import Caller, RequestRefused, TaskEnded, seal
from broker.credential.grant import Grant
from broker.credential.revocation import Revocation, Rule, RuleKind
from broker.errors import Refusal
from broker.intent import Resource
from broker.scope import OneOf, Range, Scope
from broker.store.interface import (
    AddGrant,
    AddRevocation,
    AddTask,
    Effects,
    EndTask,
    Item,
    NotRevoked,
    RequestUnused,
    TaskAlive,
)
from broker.task import Task

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
AGENT = "spiffe://example.org/agent/support"
OTHER_AGENT = "spiffe://example.org/agent/billing"
ORDERS = "spiffe://example.org/service/orders"
INVOICES = "spiffe://example.org/service/invoices"
OPERATOR = "spiffe://example.org/operator/anna"


def salt() -> bytes:
    """One salt for all: tests are repeatable."""
    return b"\x07" * 32


def entry(note: str, at: datetime = NOW) -> Entry:
    """An event that carries a note in plain text and personal values behind commitments."""
    caller = Caller(spiffe_id=AGENT, login="x509", source="ipv4:127.0.0.1:1", request=note)
    event = RequestRefused(at=at, caller=caller, operation="test", reason="TEST", detail=f"about {note}")
    return seal(event, salt)


def ended(effects: Effects) -> Entry:
    """The event of a write that revoked credentials."""
    event = TaskEnded(
        at=NOW,
        caller=Caller(),
        decided=None,
        tenant="emea",
        task="task_1",
        agent=AGENT,
        cause="ended",
        revoked=len(effects),
        status_indexes={each.audience: ((each.status_index, each.status_index),) for each in effects},
    )
    return seal(event, salt)


def scope(audience: str = ORDERS) -> Scope:
    """A scope with each kind of constraint."""
    return Scope(
        actions=frozenset({"order.read"}),
        resource=Resource(type="order", id="1234"),
        constraints={"fields": OneOf(values=(["a", "b"], 1, True, "x")), "amount": Range(minimum=0, maximum=500)},
        audience=audience,
    )


def grant(
    name: str, *, audience: str = ORDERS, index: int = 0, **changes: Any
) -> Grant:  # each member has its own type
    """A grant with defaults."""
    members: dict[str, Any] = {
        "credential_id": f"cred_{name}",
        "agent": AGENT,
        "tenant": "emea",
        "task": "",
        "transaction_id": f"txn_{name}",
        "scope": scope(audience),
        "intent_digest": "sha-256:" + "A" * 43,
        "thumbprint": "t" * 43,
        "status_index": index,
        "policy_ids": ("reads", "support"),
        "issued_at": NOW.replace(microsecond=0),
        "expires_at": LATER,
    }
    return Grant(**(members | changes))


def granting(given: Grant, *, request_id: str = "", now: datetime = NOW) -> Item:
    """The item that an exchange commits."""
    guards: list[Any] = [
        NotRevoked(agent=given.agent, tenant=given.tenant, task=given.task, policy_ids=given.policy_ids),
    ]
    if given.task:
        guards.append(TaskAlive(task=given.task, agent=given.agent, now=now))
    if request_id:
        guards.append(RequestUnused(agent=given.agent, request_id=request_id))
    return Item(
        guards=tuple(guards),
        writes=(AddGrant(grant=given, request_id=request_id),),
        accepted=lambda _: entry(given.credential_id),
        refused=lambda refusal: entry(f"{given.credential_id} refused {refusal.reason.name}"),
    )


def task(name: str, **changes: Any) -> Task:  # each member has its own type
    """A task with defaults."""
    members: dict[str, Any] = {
        "id": f"task_{name}",
        "agent": AGENT,
        "begun_by": AGENT,
        "tenant": "emea",
        "purpose": "support",
        "conversation": "c-1",
        "begun_at": NOW,
        "deadline": LATER,
    }
    return Task(**(members | changes))


def beginning(begun: Task) -> Item:
    """The item that begins a task."""
    return Item(writes=(AddTask(task=begun),), accepted=lambda _: entry(begun.id))


def ending(task_id: str, at: datetime = NOW) -> Item:
    """The item that ends a task."""
    return Item(writes=(EndTask(task=task_id, at=at),), accepted=ended)


def revocation(kind: RuleKind, name: str, identity: str = "rev_1", at: datetime = NOW) -> Revocation:
    """A revocation with defaults."""
    return Revocation(id=identity, rule=Rule(kind=kind, name=name), tenant="", at=at, by=OPERATOR)


def revoking(kind: RuleKind, name: str, identity: str = "rev_1", at: datetime = NOW) -> Item:
    """The item that revokes."""
    return Item(writes=(AddRevocation(revocation=revocation(kind, name, identity, at)),), accepted=ended)


def noting(note: str) -> Item:
    """An item that only records an event."""
    return Item(accepted=lambda _: entry(note))


def refusal_of(note: str) -> Callable[[Refusal], Entry]:
    """What records a refusal."""

    def refused(refusal: Refusal) -> Entry:
        return entry(f"{note} refused {refusal.reason.name}")

    return refused


def root_of(contents: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word, as the tree's second opinion."""
    if not contents:
        return hashlib.sha256().digest()
    if len(contents) == 1:
        return hashlib.sha256(b"\x00" + contents[0]).digest()
    split = 1 << (len(contents) - 1).bit_length() - 1
    left, right = root_of(contents[:split]), root_of(contents[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()
