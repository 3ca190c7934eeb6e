"""Sittings of SIGKILL under load: at random instants and at named points. Each kill names where it hit.

A sitting is one broker with a store of its own, killed a number of times; after each kill its store is compared with
what clients were told, and the time until somebody is served again is taken.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.facts import Facts
from tests.faults.ledger import differences
from tests.faults.load import PATIENCE, Load
from tests.faults.points import Point
from tests.faults.spawned import Spawned, spawn
from tests.polling import eventually

VICTIMS = ("issuer", "issuer", "door", "issuer", "all")
_CHANGE = (
    Point.DOOR_RECEIVED,
    Point.ISSUER_RECEIVED,
    Point.HALF_WRITTEN,
    Point.BEFORE_COMMIT,
    Point.AFTER_COMMIT,
    Point.BEFORE_ANSWER,
    Point.DOOR_ANSWERED,
    Point.DOOR_ENCODED,
)
# Which points a request of each verb comes by.
PLACES: Sequence[tuple[Point, str]] = (
    *((point, "exchange") for point in Point),
    *((point, "hold") for point in (Point.HALF_WRITTEN, Point.BEFORE_COMMIT, Point.AFTER_COMMIT)),
    *((point, verb) for verb in ("approve", "deny", "redeem", "report", "revoke", "end_task") for point in _CHANGE),
    *((point, "begin_task") for point in _CHANGE),
)


@dataclass(slots=True, kw_only=True)
class Sitting:
    """What a sitting has found.

    Attributes:
        kills: how many hit where.
        resumed: seconds from each kill until somebody was served.
        lost: in what the store broke its word.
        unanswered: credentials that were committed before anybody heard of them.
        told: how much of each was acknowledged.
        events: entries of the log.

    """

    kills: Counter[str] = field(default_factory=Counter)
    resumed: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unanswered: set[str] = field(default_factory=set)
    told: Counter[str] = field(default_factory=Counter)
    events: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills.total()} kills; {dict(self.told)}; {len(self.unanswered)} committed and unanswered;"
            f" {self.events} events; served again after {max(self.resumed, default=0):.1f} s at most;"
            f" {len(self.lost)} lost"
        )


async def at_random(folder: Path, count: int, seed: int) -> Sitting:
    """Kill issuer, door or both at instants that nobody chose."""
    async with sitting(folder, seed) as under:
        while under.found.kills.total() < count and not under.found.lost:
            victim = VICTIMS[under.found.kills.total() % len(VICTIMS)]
            await _kill_at_some_instant(under, victim)
            await under.judge()
        return under.found


async def at_points(folder: Path, places: Sequence[tuple[Point, str]], seed: int) -> Sitting:
    """Have a process end itself at each of these points."""
    async with sitting(folder, seed) as under:
        for point, verb in places:
            under.broker.orders.give(point, verb, passes=under.dice.randrange(1, 4))

            async def carried_out() -> bool:
                under.working()
                return under.broker.orders.carried_out

            await eventually(carried_out, within=PATIENCE)
            under.hit(f"{point.victim}: {point.name} {verb}", time.monotonic())
            await under.judge()
            if under.found.lost:
                break
        return under.found


@dataclass(slots=True, kw_only=True)
class Under:
    """A broker under load, and what has been found of it."""

    broker: Spawned
    load: Load
    running: "asyncio.Task[None]"
    dice: random.Random
    found: Sitting = field(default_factory=Sitting)
    _hit_at: float = 0.0

    def working(self) -> None:
        """Raise what ended the load, when something has."""
        if self.running.done():
            self.running.result()

    def hit(self, where: str, at: float) -> None:
        self.found.kills[where] += 1
        self._hit_at = at

    async def judge(self) -> None:
        """Wait until somebody is served, and compare."""
        await self.load.probe()
        self.found.resumed.append(time.monotonic() - self._hit_at)
        self.note(self.broker.facts())

    def note(self, facts: Facts) -> None:
        """Count what this store and its clients have come to."""
        ledger, found = self.broker.ledger, self.found
        found.lost += differences(ledger, facts)
        found.unanswered = unanswered(facts)
        found.events = len(facts.events)
        found.told = Counter(
            credentials=len(ledger.held),
            revocations=len(ledger.revocations),
            ends=len(ledger.ended),
            approvals=sum(state == "approved" for _, state, _ in ledger.answered),
            denials=sum(state == "denied" for _, state, _ in ledger.answered),
            redemptions=len(ledger.spent),
            reports=len(ledger.reported),
        )


class sitting:  # noqa: N801 -- a context manager
    """A broker, its load, and at the end the store opened again."""

    def __init__(
        self, folder: Path, seed: int, *, careless: bool = False, preload: Path | None = None, keys: str = ""
    ) -> None:
        self._spawning = spawn(folder, careless=careless, preload=preload, keys=keys)
        self._seed = seed

    async def __aenter__(self) -> Under:
        broker = await self._spawning.__aenter__()
        load = Load(broker, self._seed)
        self._under = Under(
            broker=broker,
            load=load,
            running=asyncio.create_task(load.run()),
            dice=random.Random(self._seed),  # noqa: S311
        )
        return self._under

    async def __aexit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: object) -> None:
        under = self._under
        try:
            if kind is not None:
                self._say(under)
            if kind is None and under.load.going and not under.found.lost:
                under.load.going = False
                await under.running
                await under.broker.serves()
                under.note(await under.broker.reopened())
        finally:
            under.running.cancel()
            await asyncio.gather(under.running, return_exceptions=True)
            await under.load.close()
            await self._spawning.__aexit__(None, None, None)

    @staticmethod
    def _say(under: Under) -> None:
        """Print the end of the broker's log, which goes with its folder."""
        print("\n".join((under.broker.folder / "log").read_text().splitlines()[-40:]))  # noqa: T201


async def _kill_at_some_instant(under: Under, victim: str) -> None:
    """Wait for a number of answers, then for a part of the time that one takes, and kill."""
    wanted = under.load.answers + under.dice.randrange(5, 60)

    async def answered() -> bool:
        under.working()
        return under.load.answers >= wanted

    await eventually(answered, within=PATIENCE)
    await asyncio.sleep(under.dice.random() * 0.01)  # the instant is what is random here
    under.broker.kill(victim)
    at = time.monotonic()
    last = under.broker.orders.last_of("_door" if victim == "door" else "_issuer")
    under.hit(f"{victim}: after {last or 'no point'}", at)
    if victim == "all":
        under.broker.start()


def unanswered(facts: Facts) -> set[str]:
    """Return the credentials that were committed before anybody heard of them, and were asked for again."""
    return {event["credential"] for event in facts.of("credential.reissued")}
