"""The comparison itself: a store that breaks its word is found out, each way of breaking it for itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tests.faults.ledger import Facts, Held, Ledger, differences
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
    assert await whole.security.keep_checkpoint()
    return whole.ledger, await whole.reopened()


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
    "charge-lost": (lambda facts: changed(facts, charged={}, counted=0), "charged 0, its event names 1"),
    "not-counted": (lambda facts: changed(facts, counted=facts.counted - 1), "limits have counted"),
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


def test_a_token_that_no_event_names_is_found(told: tuple[Ledger, Facts]) -> None:
    ledger, facts = told
    forged = replace(ledger.held[0], digest="sha-256:another")
    assert any("held a token with 0 events" in line for line in differences(replace(ledger, held=[forged]), facts))
