"""Rounds: every side of every comparison in turn, again and again, so that what disturbs the machine disturbs all."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final, TypeAlias

from tests.bench import books
from tests.bench.acting import act
from tests.bench.checks import Checks
from tests.bench.floors import Floors
from tests.bench.load import Command, Loader
from tests.bench.measures import Measures
from tests.bench.revoking import revoke
from tests.bench.stage import Stage

IN_FLIGHT: Final = 64
STREAM: Final = {"unary": False, "stream": True}
# (server, how); the naive broker and the reference in Go have no stream.
LOADS: Final = tuple(
    (server, how)
    for how in STREAM
    for server in ("durable", "off", "naive", "bare", "go")
    if not (server in {"naive", "go"} and STREAM[how])
)
ALONE: Final = ("durable", "off", "bare")

Tell: TypeAlias = Callable[[int, int, str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: how often each side has its turn.
        seconds: how long a turn under load lasts; the other ones last a fraction of it.
        revocations: how many are timed.

    """

    rounds: int = 5
    seconds: float = 0.5
    revocations: int = 20


def measure(stage: Stage, plan: Plan, tell: Tell) -> Measures:
    """Return what was measured.

    Args:
        stage: the servers.
        plan: how much.
        tell: told of the progress: how many turns are over, of how many, and what is next.

    Raises:
        BooksWrong: a server did not write what is said of its side.

    """
    measures = Measures()
    loader = Loader.start(stage.folder)
    floors, checks = Floors(stage.folder), Checks()
    loads = tuple((server, how) for server, how in LOADS if server in stage.servers)
    turns = (plan.rounds + 1) * (len(loads) + len(ALONE)) + 2 * plan.rounds + plan.revocations
    given: Counter[str] = Counter()
    done = 0

    def next_turn(note: str) -> None:
        nonlocal done
        tell(done, turns, note)
        done += 1

    try:
        with closing(floors):
            for number in range(plan.rounds + 1):
                # The first round warms everything up, and is not kept.
                kept = measures if number else Measures()
                for server, how in _rotated(loads, number):
                    next_turn(f"round {number}/{plan.rounds}: {server}, {how}")
                    seconds = plan.seconds if number else plan.seconds / 3
                    given[server] += _load(stage, loader, kept, server, how, seconds)
                for server in ALONE:
                    next_turn(f"round {number}/{plan.rounds}: {server}, one at a time")
                    given[server] += _alone(stage, loader, kept, server, plan.seconds / 2)
                if number:
                    next_turn(f"round {number}/{plan.rounds}: floors and checks")
                    _quiet(kept, floors, checks, plan.seconds / 8)
    finally:
        loader.stop()
    books.check(stage.folder, given)
    for took in asyncio.run(revoke(stage, plan.revocations, lambda _: next_turn("revocations"))):
        measures.add("revoke", took)
    acting = act(stage, plan.rounds, plan.seconds, IN_FLIGHT, lambda number: next_turn(f"acts, round {number + 1}"))
    for name, samples in asyncio.run(acting).items():
        for sample in samples:
            measures.add(f"act.{name}", sample)
    return measures


def _rotated(loads: tuple[tuple[str, str], ...], by: int) -> tuple[tuple[str, str], ...]:
    """Begin each round with another one, so that none always follows the same neighbour's heat."""
    start = by % len(loads)
    return loads[start:] + loads[:start]


def _load(stage: Stage, loader: Loader, kept: Measures, name: str, how: str, seconds: float) -> int:
    server = stage.servers[name]
    before = server.cpu_seconds()
    done = loader(Command(port=server.port, stream=STREAM[how], in_flight=IN_FLIGHT, seconds=seconds))
    used = server.cpu_seconds() - before
    kept.add(f"rate.{name}.{how}", done.answers / done.seconds)
    kept.add(f"cpu.{name}.{how}", used / done.answers * 1e6)
    kept.add(f"client.{name}.{how}", done.cpu / done.seconds)
    return done.answers


def _alone(stage: Stage, loader: Loader, kept: Measures, name: str, seconds: float) -> int:
    done = loader(Command(port=stage.servers[name].port, stream=False, in_flight=1, seconds=seconds))
    kept.add(f"wait.{name}", done.middle * 1e3)
    return done.answers


def _quiet(kept: Measures, floors: Floors, checks: Checks, seconds: float) -> None:
    """What is timed while no load runs."""
    kept.add("flush", floors.flush())
    for name, value in floors.time(seconds).items():
        kept.add(f"floor.{name}", value)
    for name, value in checks.time(seconds).items():
        kept.add(f"check.{name}", value)
