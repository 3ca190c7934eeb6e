"""What a subscriber was told, held against what it was promised: the six properties of etcd's watches, by their names.

Pure: a recorded history and the truth go in, violations come out. A history is everything that one subscriber went
through, over all its streams, in order.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import accumulate
from typing import assert_never

Content = frozenset[str]


class Property(StrEnum):
    """What is promised."""

    ORDERED = "ordered"  # events come in the order of their positions, over reconnects as well
    UNIQUE = "unique"  # what was acknowledged never comes again, and nothing comes twice over one stream
    RELIABLE = "reliable"  # who was told what stands before and behind a position was told what stands there
    ATOMIC = "atomic"  # an event comes whole, as it was committed: all that ended by it in one message
    RESUMABLE = "resumable"  # a cursor goes on where it stands
    BOOKMARKABLE = "bookmarkable"  # a snapshot holds all before its position; a heartbeat (P, T) knows all before T


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A stream said its first word.

    Attributes:
        after: the position of the cursor that it was opened with; None for a stream that begins with a snapshot.

    """

    after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A message: the range that it covers, and what in it was told.

    Attributes:
        start: the first position covered.
        stop: one past the last.
        items: position and content. Of an event of the log that is its leaf hash; of a revocation, what ended.
        snapshot: what had ended before `start`; None when there is none.
        size: the heartbeat's position; None where the subscriber is not shown one.
        read_at: the heartbeat's time.

    """

    start: int
    stop: int
    items: Sequence[tuple[int, Content]] = ()
    snapshot: Content | None = None
    size: int | None = None
    read_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """Everything before a position was acknowledged, durably."""

    position: int


Step = Opened | Told | Acknowledged


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that one subscriber went through."""

    name: str
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What there was to be told to one reader.

    Attributes:
        size: of the log; whoever had until the end was to be told everything before it.
        contents: what stands where, of what this reader may see.
        over: when what a content names is over, and need not be in snapshots any more; empty for what is never over.
        known: positions, each with an instant by which somebody had been told that it was committed.

    """

    size: int
    contents: Mapping[int, Content]
    over: Mapping[str, datetime] = field(default_factory=dict)
    known: Sequence[tuple[int, datetime]] = ()

    def before(self, position: int) -> Content:
        """Return everything named before a position."""
        return frozenset().union(*(found for at, found in self.contents.items() if at < position))


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that was broken."""

    property: Property
    history: str
    step: int
    text: str

    def __str__(self) -> str:
        return f"{self.property}: {self.history}, step {self.step}: {self.text}"


def violations(history: History, truth: Truth) -> Sequence[Violation]:
    """Return in what a history breaks the promises."""
    return list(_Check(history, truth).run())


def violations_of(histories: Iterable[tuple[History, Truth]]) -> Sequence[Violation]:
    """Return the violations of several, each against the truth of its reader."""
    return [found for history, truth in histories for found in violations(history, truth)]


class _Check:
    """One history on its way through the checks."""

    def __init__(self, history: History, truth: Truth) -> None:
        self._history = history
        self._truth = truth
        self._positions = sorted(truth.contents)
        known = sorted(truth.known, key=lambda each: each[1])
        self._known_at = [since for _, since in known]
        self._known = list(accumulate((position for position, _ in known), max))
        self._step = 0
        self._reached: int | None = None  # where the next message has to begin; None before the first one of all
        self._acknowledged = 0  # nothing before it may come again
        self._last = -1  # the position told last over this stream
        self._size = 0  # the highest that any heartbeat has said
        self._read_at: datetime | None = None  # and the latest
        self._opened_at = 0

    def run(self) -> Iterator[Violation]:
        for number, step in enumerate(self._history.steps):
            self._step = number
            match step:
                case Opened():
                    yield from self._open(step)
                case Told():
                    yield from self._tell(step)
                case Acknowledged(position=position):
                    yield from self._acknowledge(position)
                case _:
                    assert_never(step)
        reached = self._reached or 0
        if reached < self._truth.size:
            yield self._broken(Property.RELIABLE, f"it ended at {reached} of {self._truth.size}")

    def _broken(self, which: Property, text: str) -> Violation:
        return Violation(property=which, history=self._history.name, step=self._step, text=text)

    def _open(self, opened: Opened) -> Iterator[Violation]:
        """From now on what was not acknowledged may come again, from the cursor on."""
        self._opened_at = self._step + 1
        self._last = -1
        self._reached = opened.after
        if opened.after is not None and opened.after > self._acknowledged:
            yield self._broken(
                Property.RESUMABLE, f"opened at {opened.after}, beyond what was acknowledged ({self._acknowledged})"
            )

    def _acknowledge(self, position: int) -> Iterator[Violation]:
        """Beyond what was told may be acknowledged where there was nothing to be told."""
        reached = self._reached if self._reached is not None else position
        for skipped in self._positions_in(max(reached, self._acknowledged), position):
            yield self._broken(Property.RELIABLE, f"acknowledged up to {position}, and never told {skipped}")
        self._reached = max(reached, position)
        self._acknowledged = max(self._acknowledged, position)

    def _tell(self, told: Told) -> Iterator[Violation]:
        yield from self._check_range(told)
        yield from self._check_items(told)
        yield from self._check_left_out(told)
        yield from self._check_freshness(told)
        if told.snapshot is not None:
            yield from self._check_snapshot(told, told.snapshot)
        elif self._reached is None:
            yield self._broken(Property.BOOKMARKABLE, f"it begins at {told.start} without a snapshot")
        self._reached = told.stop

    def _check_range(self, told: Told) -> Iterator[Violation]:
        if told.stop < told.start:
            yield self._broken(Property.ORDERED, f"a range [{told.start}, {told.stop})")
        if self._reached is None or told.start == self._reached:
            return
        text = f"it goes on at {told.start} instead of {self._reached}"
        if self._step == self._opened_at:
            yield self._broken(Property.RESUMABLE, text)
        elif told.start > self._reached:
            yield self._broken(Property.RELIABLE, text)
        else:
            yield self._broken(Property.ORDERED, text)

    def _check_items(self, told: Told) -> Iterator[Violation]:
        for position, content in told.items:
            if position == self._last:
                yield self._broken(Property.UNIQUE, f"{position} comes twice")
            elif position < self._last:
                yield self._broken(Property.ORDERED, f"{position} comes after {self._last}")
            if position < self._acknowledged:
                yield self._broken(Property.UNIQUE, f"{position} comes again, acknowledged was {self._acknowledged}")
            if not told.start <= position < told.stop:
                yield self._broken(Property.RELIABLE, f"{position} stands outside [{told.start}, {told.stop})")
            if content != (wanted := self._truth.contents.get(position, frozenset())):
                yield self._broken(
                    Property.ATOMIC, f"at {position} stands {sorted(wanted)}, and {sorted(content)} was told"
                )
            self._last = max(self._last, position)

    def _check_left_out(self, told: Told) -> Iterator[Violation]:
        """Whatever stands in the range was told, unless it was acknowledged before."""
        found = {position for position, _ in told.items}
        for position in self._positions_in(max(told.start, self._acknowledged), told.stop):
            if position not in found:
                yield self._broken(Property.RELIABLE, f"{position} is left out of [{told.start}, {told.stop})")

    def _positions_in(self, start: int, stop: int) -> Sequence[int]:
        """Return the positions of a range at which there is something for this reader."""
        return self._positions[bisect_left(self._positions, start) : bisect_left(self._positions, stop)]

    def _check_freshness(self, told: Told) -> Iterator[Violation]:
        if told.size is None or told.read_at is None:
            return
        if told.size < self._size or (self._read_at and told.read_at < self._read_at):
            yield self._broken(
                Property.BOOKMARKABLE,
                f"({told.size}, {told.read_at}) comes after ({self._size}, {self._read_at})",
            )
        if told.stop > told.size:
            yield self._broken(Property.BOOKMARKABLE, f"it covers {told.stop} and had read {told.size}")
        known = bisect_right(self._known_at, told.read_at)
        if known and (position := self._known[known - 1]) >= told.size:
            yield self._broken(Property.BOOKMARKABLE, f"({told.size}, {told.read_at}) lacks {position}, known by then")
        self._size = max(self._size, told.size)
        self._read_at = max(self._read_at or told.read_at, told.read_at)

    def _check_snapshot(self, told: Told, snapshot: Content) -> Iterator[Violation]:
        wanted = self._truth.before(told.start)
        over = {name for name in wanted if told.read_at and self._truth.over.get(name, told.read_at) < told.read_at}
        if missing := wanted - over - snapshot:
            yield self._broken(Property.BOOKMARKABLE, f"the snapshot at {told.start} lacks {sorted(missing)}")
        if invented := snapshot - wanted:
            yield self._broken(Property.ATOMIC, f"the snapshot at {told.start} holds {sorted(invented)}")
