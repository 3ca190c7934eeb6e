"""The comparison itself: a store that breaks its word is found out, each way of breaking it for itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tests.faults.facts import Facts
from tests.faults.ledger import Held, Ledger, differences
from tests.faults.requests import LARGE, LARGE_PARAMETERS, REFUND, REFUND_PARAMETERS, use_of
from tests.faults.spawned import Spawned


@pytest.fixture(scope="module")
async def told(whole: Spawned) -> tuple[Ledger, Facts]:
    """One of everything, and a store that holds it."""
    held = await whole.agent.exchange("first")
    assert isinstance(held, Held)
    task, _ = await whole.agent.begin("a conversation")
    assert isinstance(await whole.agent.exchange("in-task", task=task), Held)
    assert await whole.security.revoke(held.credential) == ""
    assert await whole.agent.end(task) == ""
    await people_and_services(whole)
    assert await whole.security.keep_checkpoint()
    return whole.ledger, await whole.reopened()


async def people_and_services(whole: Spawned) -> None:
    """Have requests answered, and a credential spent and reported."""
    task, _ = await whole.agent.begin("a conversation with people")
    approval = await whole.agent.hold("large", task)
    assert await whole.lead.approve(approval) == ""
    large = await whole.agent.exchange("large", task=task, action=LARGE, parameters=LARGE_PARAMETERS, approval=approval)
    assert isinstance(large, Held), large
    denied = await whole.agent.hold("larger", task)
    assert await whole.lead.deny(denied) == ""
    refund = await whole.agent.exchange("refund", task=task, action=REFUND, parameters=REFUND_PARAMETERS)
    assert isinstance(refund, Held), refund
    assert isinstance(await whole.service.spend(refund.credential, "a-key-of-one-attempt"), int)
    use = use_of(refund.credential, "00000000-0000-4000-8000-000000000001")
    assert await whole.service.report(use) == ""


def without_event(facts: Facts, event_type: str) -> Facts:
    """Let an event never have been written: the log is whole, one entry shorter."""
    kept = [index for index, event in enumerate(facts.events) if event["type"] != event_type]
    entries = [replace(facts.entries[index], position=position) for position, index in enumerate(kept)]
    return changed(facts, entries=entries, events=[facts.events[index] for index in kept])


def changed(facts: Facts, **changes: object) -> Facts:
    return replace(facts, **changes)  # type: ignore[arg-type]  # any field


def twice(facts: Facts) -> Facts:
    """Let one grant have two events."""
    again = next(event for event in facts.events if event["type"] == "credential.granted")
    return changed(facts, events=[*facts.events, again])


def states(facts: Facts, old: str, new: str) -> Facts:
    """Let approvals of one state stand in another."""
    found = {
        approval: new if state == old or (old == "approved" and state == "used") else state
        for approval, state in facts.approvals.items()
    }
    return changed(facts, approvals=found)


BROKEN: dict[str, tuple[Callable[[Facts], Facts], str]] = {
    "grant-without-event": (lambda facts: without_event(facts, "credential.granted"), "held, with 0 events"),
    "grant-with-two-events": (twice, "held, with 2 events"),
    "event-without-grant": (lambda facts: changed(facts, granted={}), "grants: rows and events differ"),
    "granted-for-another-request": (
        lambda facts: changed(facts, granted=dict.fromkeys(facts.granted, "other")),
        "not granted for its request",
    ),
    "two-grants-for-one-request": (
        lambda facts: changed(facts, granted=dict.fromkeys(facts.granted, "first")),
        "first: ",
    ),
    "revocation-lost": (lambda facts: changed(facts, revocations={}), "acknowledged, not in force"),
    "revocation-without-effect": (lambda facts: changed(facts, revoked=set()), "acknowledged, not in force"),
    "revocation-without-event": (lambda facts: without_event(facts, "revocation.made"), "not in the log at"),
    "task-lost": (lambda facts: changed(facts, tasks={}), "begun, and gone"),
    "task-alive": (lambda facts: changed(facts, tasks=dict.fromkeys(facts.tasks)), "ended, and alive"),
    "task-outlived": (lambda facts: changed(facts, revoked=set()), "outlives its task"),
    "charge-lost": (lambda facts: changed(facts, charged={}, counters=[]), "charged 0, its event names 1"),
    "not-counted": (lambda facts: changed(facts, counters=facts.counters[1:]), "limits have counted"),
    "limit-passed": (
        lambda facts: changed(
            facts, counters=[(policy, per, total * 1000_000) for policy, per, total in facts.counters]
        ),
        "is its limit",
    ),
    "approval-lost": (lambda facts: changed(facts, approvals={}), "held for, and gone"),
    "approval-forgotten": (lambda facts: states(facts, "approved", "pending"), "approved, and is pending"),
    "denial-forgotten": (lambda facts: states(facts, "denied", "approved"), "denied, and is approved"),
    "denial-without-event": (lambda facts: without_event(facts, "approval.denied"), "denied, not in the log at"),
    "approval-used-twice": (
        lambda facts: changed(facts, approved=dict.fromkeys(facts.granted, next(iter(facts.approved.values())))),
        "credentials",
    ),
    "approval-not-used": (lambda facts: states(facts, "used", "approved"), "approvals used and approvals of grants"),
    "given-on-nothing": (lambda facts: changed(facts, approved={}), "which its grant does not name"),
    "redemption-lost": (lambda facts: changed(facts, redemptions={}), "spent, not in the log at"),
    "redemption-without-event": (lambda facts: without_event(facts, "credential.redeemed"), "redemptions: rows and"),
    "report-lost": (lambda facts: changed(facts, reports={}), "recorded, not in the log at"),
    "report-without-event": (lambda facts: without_event(facts, "usage.accepted"), "reports: rows and events"),
    "gap": (lambda facts: changed(facts, entries=[*facts.entries[:3], *facts.entries[4:]]), "positions have gaps"),
    "tail-cut": (lambda facts: changed(facts, entries=facts.entries[:-2]), "the log: "),
    "entry-changed": (
        lambda facts: changed(facts, entries=[replace(facts.entries[0], content=b"{}"), *facts.entries[1:]]),
        "the log: ",
    ),
}


def found(told: tuple[Ledger, Facts], broken: Callable[[Facts], Facts]) -> Sequence[str]:
    ledger, facts = told
    return differences(ledger, broken(facts))


def test_a_store_that_keeps_its_word(told: tuple[Ledger, Facts]) -> None:
    assert found(told, lambda facts: facts) == []


@pytest.mark.parametrize(("broken", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_word_is_found(told: tuple[Ledger, Facts], broken: Callable[[Facts], Facts], words: str) -> None:
    assert any(words in line for line in found(told, broken))


def test_what_a_client_must_never_be_told_is_found(told: tuple[Ledger, Facts]) -> None:
    ledger, facts = told
    assert differences(replace(ledger, broken=["given twice"]), facts) == ["given twice"]


def test_a_token_that_no_event_names_is_found(told: tuple[Ledger, Facts]) -> None:
    ledger, facts = told
    forged = replace(ledger.held[0], digest="sha-256:another")
    assert any("held a token with 0 events" in line for line in differences(replace(ledger, held=[forged]), facts))
