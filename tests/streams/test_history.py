"""The checker itself: what it must take, and for each property what it must not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.streams.history import Acknowledged, History, Opened, Property, Step, Told, Truth, violations

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def at(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


def some(*names: str) -> frozenset[str]:
    return frozenset(names)


def event(position: int) -> tuple[int, frozenset[str]]:
    return position, some(f"e{position}")


def message(start: int, stop: int, *positions: int, size: int = 6, read_at: int = 100) -> Told:
    return Told(start=start, stop=stop, items=[event(each) for each in positions], size=size, read_at=at(read_at))


# Six events, of which this reader may not see the one at 3; somebody knew of each a second after the one before.
TRUTH = Truth(
    size=6,
    contents=dict(event(position) for position in (0, 1, 2, 4, 5)),
    known=[(position, at(position)) for position in range(6)],
)
START = Opened(after=0)


def found(*steps: Step, truth: Truth = TRUTH) -> set[str]:
    return {each.property for each in violations(History(name="a", steps=steps), truth)}


GOOD: dict[str, list[Step]] = {
    "all-at-once": [START, message(0, 6, 0, 1, 2, 4, 5)],
    "one-by-one": [
        START,
        message(0, 1, 0),
        message(1, 2, 1),
        message(2, 4, 2),
        message(4, 5, 4),
        message(5, 6, 5),
        message(6, 6),
    ],
    "resumed": [START, message(0, 2, 0, 1), Acknowledged(position=2), Opened(after=2), message(2, 6, 2, 4, 5)],
    "not-acknowledged-comes-again": [
        START,
        message(0, 3, 0, 1, 2),
        Acknowledged(position=1),
        Opened(after=1),
        message(1, 6, 1, 2, 4, 5),
    ],
    "in-the-middle-of-a-message": [
        START,
        message(0, 3, 0, 1, 2),
        Acknowledged(position=2),
        Opened(after=0),
        message(0, 3, 2),
        message(3, 6, 4, 5),
    ],
    "acknowledged-where-nothing-stands": [
        START,
        message(0, 3, 0, 1, 2),
        Acknowledged(position=3),
        Acknowledged(position=4),
        Opened(after=4),
        message(4, 6, 4, 5),
    ],
    "not-yet-known-when-it-read": [START, message(0, 3, 0, 1, 2, size=3, read_at=2), message(3, 6, 4, 5)],
}


@pytest.mark.parametrize("steps", GOOD.values(), ids=GOOD)
def test_what_is_promised_is_taken(steps: list[Step]) -> None:
    assert found(*steps) == set()


BAD: dict[str, tuple[Property, list[Step]]] = {
    "out-of-order-within": (Property.ORDERED, [START, message(0, 6, 0, 2, 1, 4, 5)]),
    "out-of-order-between": (Property.ORDERED, [START, message(0, 3, 1, 2), message(3, 6, 0, 4, 5)]),
    "the-range-goes-back": (Property.ORDERED, [START, message(0, 3, 0, 1, 2), message(2, 6, 4, 5)]),
    "a-range-inside-out": (Property.ORDERED, [START, message(0, 6, 0, 1, 2, 4, 5), message(6, 5)]),
    "twice-within": (Property.UNIQUE, [START, message(0, 6, 0, 1, 1, 2, 4, 5)]),
    "twice-between": (Property.UNIQUE, [START, message(0, 3, 0, 1, 2), message(3, 6, 2, 4, 5)]),
    "acknowledged-comes-again": (
        Property.UNIQUE,
        [START, message(0, 3, 0, 1, 2), Acknowledged(position=3), Opened(after=2), message(2, 6, 2, 4, 5)],
    ),
    "one-is-missing": (Property.RELIABLE, [START, message(0, 6, 0, 1, 4, 5)]),
    "the-last-is-missing": (Property.RELIABLE, [START, message(0, 6, 0, 1, 2, 4)]),
    "a-range-is-missing": (Property.RELIABLE, [START, message(0, 2, 0, 1), message(3, 6, 4, 5)]),
    "the-end-never-comes": (Property.RELIABLE, [START, message(0, 3, 0, 1, 2)]),
    "nothing-ever-comes": (Property.RELIABLE, []),
    "acknowledged-unheard": (
        Property.RELIABLE,
        [START, message(0, 2, 0, 1), Acknowledged(position=4), Opened(after=4), message(4, 6, 4, 5)],
    ),
    "outside-its-range": (Property.RELIABLE, [START, message(0, 2, 0, 1, 2), message(2, 6, 2, 4, 5)]),
    "another-event": (Property.ATOMIC, [START, replace(message(0, 6), items=[event(0), (1, some("e9"))])]),
    "anothers-event": (Property.ATOMIC, [START, message(0, 6, 0, 1, 2, 3, 4, 5)]),
    "opened-elsewhere": (
        Property.RESUMABLE,
        [START, message(0, 2, 0, 1), Acknowledged(position=2), Opened(after=2), message(4, 6, 4, 5)],
    ),
    "opened-before": (
        Property.RESUMABLE,
        [START, message(0, 2, 0, 1), Acknowledged(position=2), Opened(after=2), message(0, 6, 2, 4, 5)],
    ),
    "the-reader-skips": (Property.RESUMABLE, [START, message(0, 2, 0, 1), Opened(after=2), message(2, 6, 2, 4, 5)]),
    "a-beginning-that-is-none": (Property.RESUMABLE, [START, message(1, 6, 1, 2, 4, 5)]),
    "stale": (Property.BOOKMARKABLE, [START, message(0, 3, 0, 1, 2, size=3, read_at=3), message(3, 6, 4, 5)]),
    "back-in-time": (
        Property.BOOKMARKABLE,
        [START, message(0, 4, 0, 1, 2, read_at=100), message(4, 6, 4, 5, read_at=99)],
    ),
    "back-in-the-log": (
        Property.BOOKMARKABLE,
        [START, message(0, 4, 0, 1, 2), message(4, 5, 4, size=5), message(5, 6, 5)],
    ),
    "beyond-what-was-read": (Property.BOOKMARKABLE, [START, message(0, 6, 0, 1, 2, 4, 5, size=5, read_at=1)]),
}


@pytest.mark.parametrize(("broken", "steps"), BAD.values(), ids=BAD)
def test_what_is_broken_is_named(broken: Property, steps: list[Step]) -> None:
    assert broken in found(*steps)


# --- revocations: several things end by one event, and a snapshot stands for what was before ------------------------

ENDED = Truth(size=6, contents={1: some("a", "b"), 3: some("c"), 4: some("d", "e")}, over={"c": at(50)})


def snapshot(position: int, *names: str, read_at: int = 10) -> Told:
    return Told(start=position, stop=position, snapshot=some(*names), size=position, read_at=at(read_at))


REST = Told(start=4, stop=6, items=[(4, some("d", "e"))], size=6, read_at=at(100))
BEGUN = Opened(after=None)


def test_a_snapshot_and_what_follows() -> None:
    assert found(BEGUN, snapshot(4, "a", "b", "c"), REST, truth=ENDED) == set()


def test_a_snapshot_may_leave_out_what_is_over_and_nothing_else() -> None:
    late = replace(REST, read_at=at(100))
    assert found(BEGUN, snapshot(4, "a", "b", read_at=51), late, truth=ENDED) == set()
    assert found(BEGUN, snapshot(4, "a", "b", read_at=50), late, truth=ENDED) == {Property.BOOKMARKABLE}


def test_a_snapshot_that_holds_what_never_ended() -> None:
    assert found(BEGUN, snapshot(4, "a", "b", "c", "d"), REST, truth=ENDED) == {Property.ATOMIC}


def test_without_a_cursor_there_is_a_snapshot() -> None:
    assert found(BEGUN, REST, truth=ENDED) == {Property.BOOKMARKABLE}


def test_half_of_what_ended_is_torn() -> None:
    torn = replace(REST, items=[(4, some("d"))])
    assert found(BEGUN, snapshot(4, "a", "b", "c"), torn, truth=ENDED) == {Property.ATOMIC}


def test_one_event_over_two_messages_is_torn() -> None:
    first = Told(start=4, stop=5, items=[(4, some("d"))], size=6, read_at=at(100))
    second = Told(start=5, stop=6, items=[(4, some("e"))], size=6, read_at=at(100))
    assert Property.ATOMIC in found(BEGUN, snapshot(4, "a", "b", "c"), first, second, truth=ENDED)


def test_a_subscriber_that_sees_no_heartbeat_is_held_to_the_rest() -> None:
    told = Told(start=0, stop=6, items=[event(each) for each in (0, 1, 4, 5)])
    assert found(START, told) == {Property.RELIABLE}
