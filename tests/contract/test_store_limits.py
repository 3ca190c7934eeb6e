"""What every store does with limits, duties and sequences: it counts, gives back once, refuses, and forgets in time."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.errors import Reason
from broker.store.interface import (
    ActivatePolicy,
    Answer,
    Charge,
    Committed,
    Counter,
    GiveBack,
    Granted,
    Guard,
    Item,
    NoteGranted,
    NotGranted,
    Rejected,
    Step,
    StepsOpen,
    Store,
    WithinLimit,
    Write,
)
from tests.contract.store_builders import AGENT, LATER, NOW, beginning, ended, ending, grant, granting, task
from tests.contract.test_store import sqlite_file, sqlite_memory

DAY = timedelta(days=1)
COUNTER = Counter(policy="refunds", place=0, per="day", parameter="", subject=f"{AGENT} 2026-11-21", ends=NOW + DAY)
OTHERS = [
    replace(COUNTER, policy="other"),
    replace(COUNTER, place=1),
    replace(COUNTER, per="agent"),
    replace(COUNTER, parameter="amount"),
    replace(COUNTER, subject=f"{AGENT} 2026-11-22"),
]


@pytest.fixture(params=[sqlite_file, sqlite_memory], ids=["sqlite-file", "sqlite-memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = request.param(tmp_path)
    yield opened
    opened.close()


def charging(name: str, *counters: Counter, amount: int = 1, maximum: int = 10, index: int = 0, **more: Any) -> Item:
    """The item of a grant that is charged."""
    given = grant(name, index=index, **more)
    item = granting(given)
    guards: list[Guard] = [WithinLimit(counter=each, amount=amount, maximum=maximum) for each in counters]
    charge = Charge(credential=given.credential_id, at=NOW, amounts=tuple((each, amount) for each in counters))
    return replace(item, guards=(*item.guards, *guards), writes=(*item.writes, charge))


def giving_back(name: str) -> Item:
    return Item(writes=(GiveBack(credential=f"cred_{name}", at=NOW),), accepted=ended)


def fits(store: Store, counter: Counter, amount: int, maximum: int = 10) -> bool:
    """Whether so much still fits: the total, from outside."""
    (answer,) = store.commit([Item(guards=(WithinLimit(counter=counter, amount=amount, maximum=maximum),))])
    return isinstance(answer, Committed)


def total(store: Store, counter: Counter) -> int:
    return next(10_000 - room for room in range(10_000, -1, -1) if fits(store, counter, room, 10_000))


def refusal(answer: Answer) -> tuple[Reason, str] | None:
    return (answer.reason, answer.detail) if isinstance(answer, Rejected) else None


def test_what_is_charged_adds_up_and_never_goes_beyond(store: Store) -> None:
    answers = store.commit([charging(f"{number}", COUNTER, index=number) for number in range(12)])
    assert [type(answer) for answer in answers] == [Committed] * 10 + [Rejected] * 2
    assert refusal(answers[-1]) == (Reason.LIMIT_REACHED, "policy refunds, per day")
    assert store.grant("cred_9") is not None
    assert store.grant("cred_10") is None
    assert all(fits(store, other, 10) for other in OTHERS)


def test_the_last_that_fits_passes_and_the_first_that_does_not_is_refused(store: Store) -> None:
    store.commit([charging("a", COUNTER, amount=7)])
    four, three, nothing = store.commit(
        [
            charging("b", COUNTER, amount=4, index=1),
            charging("c", COUNTER, amount=3, index=2),
            charging("d", COUNTER, amount=0, index=3),
        ]
    )
    assert refusal(four) is not None
    assert isinstance(three, Committed)
    assert isinstance(nothing, Committed)


def test_a_refused_grant_is_charged_under_no_limit(store: Store) -> None:
    small = replace(COUNTER, policy="small")
    store.commit([charging("a", COUNTER, amount=5)])
    item = charging("b", COUNTER, amount=5, index=1)
    item = replace(item, guards=(*item.guards, WithinLimit(counter=small, amount=5, maximum=4)))
    (answer,) = store.commit([item])
    assert refusal(answer) == (Reason.LIMIT_REACHED, "policy small, per day")
    assert fits(store, COUNTER, 5)


def test_a_limit_that_was_lowered_refuses_everything(store: Store) -> None:
    store.commit([charging("a", COUNTER, amount=9)])
    assert not fits(store, COUNTER, 0, 8)


def test_a_charge_is_given_back_once_and_its_credential_is_over(store: Store) -> None:
    amount = replace(COUNTER, parameter="amount")
    store.commit([charging("a", COUNTER, amount, amount=6), charging("b", COUNTER, amount, amount=3, index=1)])
    (answer, again) = store.commit([giving_back("a"), giving_back("a")])
    assert isinstance(answer, Committed)
    assert isinstance(again, Committed)
    assert [each.credential_id for each in answer.revoked] == ["cred_a"]
    assert again.revoked == ()
    store.commit([giving_back("a"), giving_back("nobody")])
    for counter in (COUNTER, amount):
        assert fits(store, counter, 7)
        assert not fits(store, counter, 8)


def test_giving_back_wakes_the_readers_of_revocations(store: Store) -> None:
    before = store.endings
    store.commit([giving_back("a")])
    assert store.endings > before


def test_any_order_of_charging_and_giving_back_counts_the_same(store: Store) -> None:
    chance = random.Random(7)  # noqa: S311 - repeatable
    charged: dict[str, int] = {}
    for number in range(120):
        if charged and chance.random() < 0.4:
            name = chance.choice(sorted(charged))
            store.commit([giving_back(name)] * chance.randint(1, 3))
            del charged[name]
            continue
        amount = chance.randint(0, 40)
        (answer,) = store.commit([charging(f"{number}", COUNTER, amount=amount, maximum=100, index=number)])
        assert isinstance(answer, Committed) == (sum(charged.values()) + amount <= 100)
        if isinstance(answer, Committed):
            charged[f"{number}"] = amount
    assert total(store, COUNTER) == sum(charged.values())


def test_a_counter_is_forgotten_when_its_day_is_over_and_not_before(store: Store) -> None:
    store.commit([charging("a", COUNTER, amount=9)])
    store.forget_expired(NOW + DAY - timedelta(microseconds=1))
    assert not fits(store, COUNTER, 2)
    store.forget_expired(NOW + DAY)
    assert fits(store, COUNTER, 10)


def test_what_is_counted_by_task_is_forgotten_with_the_task(store: Store) -> None:
    of_task = replace(COUNTER, per="task", subject="task_1", ends=None)
    step = Step(subject="task_1", sequence="a b", place=0)
    store.commit([beginning(task("1")), beginning(task("2"))])
    store.commit(
        [
            charging("a", of_task, amount=9, task="task_1"),
            Item(writes=(NoteGranted(task="task_1", action="a", steps=(step,)),)),
        ]
    )
    store.commit([ending("task_1", at=LATER)])
    while store.forget_expired(LATER - timedelta(microseconds=1)):
        pass
    assert not fits(store, of_task, 2)
    assert store.granted("task_1", ["task_1"]) != Granted()
    while store.forget_expired(LATER + DAY):
        pass
    assert store.task("task_1") is None
    assert fits(store, of_task, 10)
    assert store.granted("task_1", ["task_1"]) == Granted()


def test_a_charge_that_outlived_its_counter_takes_nothing_from_another(store: Store) -> None:
    store.commit([charging("a", COUNTER, amount=9)])
    store.forget_expired(NOW + DAY)
    new = replace(COUNTER, subject=f"{AGENT} 2026-11-22", ends=NOW + 2 * DAY)
    store.commit([charging("b", new, amount=9, index=1)])
    store.commit([giving_back("a")])
    assert not fits(store, new, 2)


def test_charges_are_given_back_for_a_week(store: Store) -> None:
    by_agent = replace(COUNTER, per="agent", subject=AGENT, ends=None)
    store.commit([charging("a", by_agent, amount=4), charging("b", by_agent, amount=4, index=1)])
    store.forget_expired(NOW + 7 * DAY - timedelta(microseconds=1))
    store.commit([giving_back("a")])
    assert fits(store, by_agent, 6)
    store.forget_expired(NOW + 7 * DAY)
    store.commit([giving_back("b")])
    assert fits(store, by_agent, 6)
    assert not fits(store, by_agent, 7)


def test_what_is_counted_by_agent_stands_as_long_as_its_limit(store: Store) -> None:
    stays = replace(COUNTER, per="agent", subject=AGENT, ends=None)
    goes = [replace(stays, policy="gone"), replace(stays, place=1), replace(stays, parameter="amount")]
    store.commit([charging("a", COUNTER, stays, *goes, amount=9)])
    store.commit([Item(writes=(ActivatePolicy(digest="sha-256:b", standing=(("refunds", 0, ""),)),))])
    store.forget_expired(NOW)
    assert not fits(store, stays, 2)
    assert not fits(store, COUNTER, 2)
    assert all(fits(store, each, 10) for each in goes)


def noting(action: str, *steps: Step) -> Item:
    return Item(writes=(NoteGranted(task="task_1", action=action, steps=steps),))


def test_duties_are_kept_apart_within_a_task(store: Store) -> None:
    apart = Item(guards=(NotGranted(task="task_1", actions=frozenset({"b", "c"})),))
    elsewhere = Item(guards=(NotGranted(task="task_2", actions=frozenset({"b", "c"})),))
    first, _, _, second, third = store.commit([noting("a"), apart, noting("b"), apart, elsewhere])
    assert isinstance(first, Committed)
    assert refusal(second) == (Reason.DUTY_SEPARATED, "")
    assert isinstance(third, Committed)
    assert store.granted("task_1", []).actions == {"a", "b"}
    assert store.granted("task_2", []).actions == frozenset()


def step(place: int, subject: str = "task_1") -> Step:
    return Step(subject=subject, sequence="a b c", place=place)


def open_until(place: int, reason: Reason = Reason.SEQUENCE_REFUSED, subject: str = "task_1") -> Item:
    return Item(guards=(StepsOpen(subject=subject, sequence="a b c", steps=place, reason=reason),))


@pytest.mark.parametrize(
    ("places", "taken"),
    [
        ((), 0),
        ((1,), 0),
        ((0,), 1),
        ((0, 0), 1),
        ((0, 2), 1),
        ((1, 0), 1),
        ((0, 1), 2),
        ((0, 1, 2, 2), 2),
        ((2, 0, 1), 2),
    ],
)
def test_steps_are_taken_in_their_order(store: Store, places: tuple[int, ...], taken: int) -> None:
    store.commit([noting("", step(place)) for place in places])
    assert store.granted("task_1", ["task_1"]).steps.get(("task_1", "a b c"), 0) == taken
    (answer, elsewhere) = store.commit([open_until(2), open_until(2, subject="task_2")])
    assert refusal(answer) == ((Reason.SEQUENCE_REFUSED, "") if taken == 2 else None)
    assert isinstance(elsewhere, Committed)


@pytest.mark.parametrize(("places", "taken"), [((0, 2), 1), ((0, 1, 1), 2), ((0, 2, 1, 2), 3), ((1, 2, 0), 1)])
def test_a_step_out_of_turn_is_none(store: Store, places: tuple[int, ...], taken: int) -> None:
    steps = [Step(subject="task_1", sequence="a b c d", place=place) for place in places]
    store.commit([noting("", each) for each in steps])
    assert store.granted("task_1", ["task_1"]).steps == ({("task_1", "a b c d"): taken} if 0 in places else {})


def test_the_guard_gives_the_reason_that_it_was_given(store: Store) -> None:
    store.commit([noting("", step(0)), noting("", step(1))])
    (answer,) = store.commit([open_until(2, Reason.SEQUENCE_CHANGED)])
    assert refusal(answer) == (Reason.SEQUENCE_CHANGED, "")


def test_a_conversation_is_forgotten_when_nothing_was_heard_of_it_for_long(store: Store) -> None:
    talk = f"{AGENT} c-1"
    counter = replace(COUNTER, per="conversation", subject=talk, ends=NOW + 30 * DAY)
    writes: list[Write] = [NoteGranted(task="task_1", action="", steps=(replace(step(0, talk), ends=NOW + 30 * DAY),))]
    store.commit([charging("a", counter, amount=9), Item(writes=tuple(writes))])
    heard = replace(counter, ends=NOW + 31 * DAY)
    further = NoteGranted(task="task_1", action="", steps=(replace(step(2, talk), ends=NOW + 31 * DAY),))
    store.commit([charging("b", heard, amount=1, index=1), Item(writes=(further,))])
    store.forget_expired(NOW + 30 * DAY)
    assert not fits(store, counter, 1)
    assert store.granted("", [talk]).steps == {(talk, "a b c"): 1}
    store.forget_expired(NOW + 31 * DAY)
    assert fits(store, counter, 10)
    assert store.granted("", [talk]).steps == {}


def test_what_was_charged_counts_in_the_next_process_too(tmp_path: Path) -> None:
    first = sqlite_file(tmp_path)
    first.commit([charging("a", COUNTER, amount=9), noting("a", step(0))])
    first.close()
    again = sqlite_file(tmp_path)
    assert not fits(again, COUNTER, 2)
    assert again.granted("task_1", ["task_1"]) == Granted(actions=frozenset({"a"}), steps={("task_1", "a b c"): 1})
    again.close()
