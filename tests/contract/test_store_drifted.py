"""Drifted tasks that wait for a person: one of a task, closed with it, told of in order, whatever the engine."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.credential.revocation import Revocation, Rule, RuleKind
from broker.drifted import Drifted, DriftState
from broker.errors import Reason
from broker.store.drift_items import AddDrifted, DriftOpen, EscalateDrifted
from broker.store.interface import (
    AddRevocation,
    Committed,
    EndTask,
    Item,
    Rejected,
    ResumeTask,
    Store,
    SuspendTask,
    TaskSuspended,
    Write,
)
from tests.contract.store_builders import AGENT, NOW, beginning, entry, task
from tests.contract.test_store import sqlite_file, sqlite_memory

DRIFTED = Drifted(
    task="task_a",
    agent=AGENT,
    tenant="retail",
    group="desk",
    since=NOW,
    at=NOW,
    refusals=3,
    within=timedelta(minutes=10),
    reasons=("DUTY_SEPARATED", "TASK_BOUNDARY_EXCEEDED"),
    actions=("order.delete", "order.refund"),
    escalate_at=NOW + timedelta(minutes=5),
)
LATER = NOW + timedelta(minutes=6)


@pytest.fixture(params=[sqlite_file, sqlite_memory], ids=["sqlite-file", "sqlite-memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = request.param(tmp_path)
    yield opened
    opened.close()


def write(store: Store, *writes: Write, event: str = "changed") -> int:
    (answer,) = store.commit([Item(writes=writes, accepted=lambda _: entry(event))])
    assert isinstance(answer, Committed)
    assert answer.position is not None
    return answer.position


def begun(store: Store, *names: str) -> None:
    store.commit([beginning(task(name)) for name in names])


def listed(store: Store, tenants: tuple[str, ...] | None = None) -> list[str]:
    return [each.task for _, each in store.drifted_after(0, tenants, 10)]


def test_it_is_remembered_as_it_was_written(store: Store) -> None:
    begun(store, "a")
    assert store.drifted("task_a") is None
    write(store, AddDrifted(drifted=DRIFTED))
    assert store.drifted("task_a") == DRIFTED
    assert [each for _, each in store.drifted_after(0, None, 10)] == [DRIFTED]


def test_there_is_one_of_a_task_and_it_is_told_as_often(store: Store) -> None:
    begun(store, "a")
    write(store, AddDrifted(drifted=DRIFTED))
    again = replace(DRIFTED, since=LATER, at=LATER, actions=("order.list",), escalate_at=None)
    write(store, AddDrifted(drifted=again))
    expected = replace(DRIFTED, at=LATER, actions=("order.list",), times=2)
    assert store.drifted("task_a") == expected, "whom was told since when stays"


def test_a_group_that_is_named_by_now_is_told_beside_those_before(store: Store) -> None:
    begun(store, "a")
    write(store, AddDrifted(drifted=DRIFTED))
    at = LATER + timedelta(minutes=5)
    again = replace(DRIFTED, since=LATER, at=LATER, escalate_at=at, group="other")
    write(store, AddDrifted(drifted=again))
    expected = replace(DRIFTED, at=LATER, times=2, group="other", escalated=("desk",), escalate_at=at)
    assert store.drifted("task_a") == expected
    write(store, AddDrifted(drifted=replace(DRIFTED, at=LATER)))
    back = replace(expected, times=3, group="desk", escalated=("other",), escalate_at=DRIFTED.escalate_at)
    assert store.drifted("task_a") == back, "each once"


def test_one_that_was_answered_begins_anew_behind_the_others(store: Store) -> None:
    begun(store, "a", "b")
    for each in (DRIFTED, replace(DRIFTED, task="task_b")):
        write(store, AddDrifted(drifted=each))
    write(store, ResumeTask(task="task_a"))
    assert listed(store) == ["task_b"]
    anew = replace(DRIFTED, since=LATER, at=LATER)
    write(store, AddDrifted(drifted=anew))
    assert (store.drifted("task_a"), listed(store)) == (anew, ["task_b", "task_a"])


REVOCATION = Revocation(id="rev_a", rule=Rule(kind=RuleKind.TASK, name="task_a"), tenant="retail", at=NOW, by="op")
CLOSING: dict[str, tuple[Write, DriftState]] = {
    "resumed": (ResumeTask(task="task_a"), DriftState.RESUMED),
    "ended": (EndTask(task="task_a", at=NOW), DriftState.ENDED),
    "revoked": (AddRevocation(revocation=REVOCATION), DriftState.ENDED),
}


@pytest.mark.parametrize(("closing", "state"), CLOSING.values(), ids=CLOSING)
def test_it_is_closed_with_the_task_and_no_other_is(store: Store, closing: Write, state: DriftState) -> None:
    begun(store, "a", "b")
    for each in (DRIFTED, replace(DRIFTED, task="task_b")):
        write(store, AddDrifted(drifted=each))
    place = write(store, closing)
    assert store.drifted("task_a") == replace(DRIFTED, state=state, escalate_at=None)
    assert listed(store) == ["task_b"]
    assert [(at, each.state) for at, each in store.drifted_changed(place, place + 1, None, 10)] == [(place, state)]
    write(store, EscalateDrifted(task="task_a", group="duty", escalate_at=None))
    closed = store.drifted("task_a")
    assert closed is not None
    assert closed.escalated == ()


def test_what_is_of_another_tenant_or_agent_is_left_open_by_a_wider_rule(store: Store) -> None:
    begun(store, "a")
    write(store, AddDrifted(drifted=DRIFTED))
    rule = Rule(kind=RuleKind.AGENT, name=AGENT)
    write(store, AddRevocation(revocation=replace(REVOCATION, rule=rule)))
    assert listed(store) == ["task_a"]


def test_it_is_told_further_when_it_is_due(store: Store) -> None:
    begun(store, "a")
    added = write(store, AddDrifted(drifted=DRIFTED))
    assert store.drifted_due(NOW + timedelta(minutes=4)) == []
    assert store.drifted_due(LATER) == [DRIFTED]
    place = write(store, EscalateDrifted(task="task_a", group="duty", escalate_at=LATER))
    write(store, EscalateDrifted(task="task_a", group="security", escalate_at=None))
    told = replace(DRIFTED, escalated=("duty", "security"), escalate_at=None)
    assert store.drifted("task_a") == told
    assert told.groups == ("desk", "duty", "security")
    assert store.drifted_due(LATER) == []
    assert store.drifted_changed(added, place + 1, None, 10) == []
    assert store.drifted_changed(place + 1, place + 2, None, 10) == [(place + 1, told)]


def test_where_nobody_more_is_told_nothing_has_changed(store: Store) -> None:
    begun(store, "a")
    place = write(store, AddDrifted(drifted=DRIFTED))
    store.commit([Item(writes=(EscalateDrifted(task="task_a", group="", escalate_at=None),))])
    assert store.drifted_changed(place, place + 1, None, 10) == [(place, replace(DRIFTED, escalate_at=None))]


def test_only_those_of_some_tenants_are_listed_and_followed(store: Store) -> None:
    begun(store, "a", "b")
    write(store, AddDrifted(drifted=DRIFTED))
    write(store, AddDrifted(drifted=replace(DRIFTED, task="task_b", tenant="wholesale")))
    assert listed(store, ("retail",)) == ["task_a"]
    assert listed(store, ()) == []
    found = store.drifted_changed(0, store.size(), ("wholesale",), 10)
    assert [each.task for _, each in found] == ["task_b"]


def test_what_waits_is_listed_in_order_and_in_parts(store: Store) -> None:
    names = [f"{number}" for number in range(5)]
    begun(store, *names)
    for name in names:
        write(store, AddDrifted(drifted=replace(DRIFTED, task=f"task_{name}")))
    first = store.drifted_after(0, None, 2)
    rest = store.drifted_after(first[-1][0], None, 10)
    assert [each.task for _, each in (*first, *rest)] == [f"task_{name}" for name in names]


def test_the_guards(store: Store) -> None:
    begun(store, "a")
    guards = (DriftOpen(task="task_a"), TaskSuspended(task="task_a", now=NOW))

    def told() -> list[Reason | None]:
        answers = store.commit([Item(guards=(guard,)) for guard in guards])
        return [answer.reason if isinstance(answer, Rejected) else None for answer in answers]

    assert told() == [Reason.TASK_NOT_SUSPENDED, Reason.TASK_NOT_SUSPENDED]
    write(store, SuspendTask(task="task_a", at=NOW))
    assert told() == [Reason.TASK_NOT_SUSPENDED, None]
    write(store, ResumeTask(task="task_a"))
    write(store, AddDrifted(drifted=DRIFTED))
    assert told() == [None, None], "reported, and not suspended"
    write(store, ResumeTask(task="task_a"))
    assert told() == [Reason.TASK_NOT_SUSPENDED, Reason.TASK_NOT_SUSPENDED]


def test_it_is_forgotten_with_its_task(store: Store) -> None:
    begun(store, "a")
    write(store, AddDrifted(drifted=DRIFTED))
    write(store, AddDrifted(drifted=replace(DRIFTED, task="task_none")))
    store.forget_expired(NOW)
    assert store.drifted("task_none") is None
    assert store.drifted("task_a") is not None
    write(store, EndTask(task="task_a", at=NOW))
    store.forget_expired(NOW + timedelta(days=30))
    assert store.drifted("task_a") is None
