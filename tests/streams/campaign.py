"""A campaign: subscribers of all kinds watch one broker while everything happens to it; then all are checked."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.attacks.house import INVOICES, House, open_house
from tests.load.running import Followers, following
from tests.operations.world import ORDERS, RETAIL_DESK, SECURITY, SHARED, SUPPORT, WHOLESALE
from tests.streams.history import History, Truth, Violation, violations_of
from tests.streams.plan import Habits, planned
from tests.streams.recorded import SdkSubscriber, begun_at, read_journal
from tests.streams.traffic import Traffic, dice
from tests.streams.truth import Log, View

ENDINGS: Final = ("revocation.made", "task.ended")
WHOLE: Final = View(stream="audit", reader=SECURITY)
RETAIL: Final = View(stream="audit", reader=RETAIL_DESK, tenant="retail")
ONLY_ENDINGS: Final = View(stream="audit", reader=SECURITY, kinds=ENDINGS)


def revocations_of(reader: str) -> View:
    return View(stream="revocations", reader=reader)


# How many of each: compiled ones, of whom some do not read at all until the end, and those of the SDK.
COMPILED: Final[Mapping[View, int]] = {
    WHOLE: 20,
    RETAIL: 15,
    ONLY_ENDINGS: 15,
    revocations_of(ORDERS): 60,
    revocations_of(INVOICES): 40,
    revocations_of(SUPPORT): 20,
    revocations_of(WHOLESALE): 10,
    revocations_of(SHARED): 10,
}
HABITS: Final = Habits(breaks=0.05, stalls=0.05, held=5)
OF_THE_SDK: Final = (
    WHOLE, WHOLE, WHOLE, RETAIL, ONLY_ENDINGS,
    revocations_of(ORDERS), revocations_of(ORDERS), revocations_of(INVOICES), revocations_of(SUPPORT),
    revocations_of(WHOLESALE),
)  # fmt: skip
WRITERS: Final = 3
PATIENCE: Final = 300.0  # for all to come to the end, once nothing happens any more


@dataclass(kw_only=True)
class Outcome:
    """What became of a campaign."""

    seed: int
    violations: Sequence[Violation]
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class Campaign:
    """One campaign at work."""

    house: House
    program: Path
    seed: int
    dice: random.Random
    views: dict[str, View] = field(default_factory=dict)
    restarts: int = 0

    async def run(self, seconds: float) -> Outcome:
        """Let everything happen for some seconds, let everybody come to the end, and check them."""
        sdk = [self._of_the_sdk(number, view) for number, view in enumerate(OF_THE_SDK)]
        traffic = Traffic(house=self.house, dice=dice(self.seed))
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            stack.push_async_callback(traffic.close)
            compiled = await stack.enter_async_context(following(self.program, self._plan(), self.house.folder))
            for each in sdk:
                group.create_task(each.run())
            writers = [group.create_task(traffic.run()) for _ in range(WRITERS)]
            await self._disturb(seconds)
            for writer in writers:
                writer.cancel()
            until = await self._last_word(traffic)
            for each in sdk:
                each.until = until
            counts = await self._finish(compiled, until)
        log = Log.read(self.house.settings.store.path)
        found = [*read_journal(compiled.journal).values(), *(each.history() for each in sdk)]
        checked = [(history, self._truth(history, log, traffic, until)) for history in found]
        told = sum(len(truth.contents) for _, truth in checked)
        counts |= {
            "lives": sum(each.lives for each in sdk),
            "restarts": self.restarts,
            "positions": until,
            "told": told,
        }
        counts |= {"granted": traffic.granted, "revoked": traffic.revoked, "tasks_ended": traffic.ended}
        counts |= {"subscribers": len(found), "acknowledged": len(traffic.known), "unanswered": traffic.lost}
        return Outcome(
            seed=self.seed, violations=violations_of((begun_at(h, self.views[h.name].begins), t) for h, t in checked),
            counts=counts,
        )  # fmt: skip

    def _of_the_sdk(self, number: int, view: View) -> SdkSubscriber:
        name = f"sdk-{number}"
        self.views[name] = view
        return SdkSubscriber(name=name, view=view, house=self.house, dice=dice(self.seed + number))

    def _plan(self) -> Sequence[dict[str, Any]]:
        lines = []
        for view, line in planned(self.house, COMPILED, HABITS, self.dice):
            self.views[line["name"]] = view
            lines.append(line)
        return lines

    async def _disturb(self, seconds: float) -> None:
        """Restart the broker again and again."""
        loop = asyncio.get_running_loop()
        over = loop.time() + seconds
        while loop.time() < over:
            await asyncio.sleep(min(self.dice.uniform(2, 8), max(0.0, over - loop.time())))
            await self.house.restart()
            self.restarts += 1

    async def _last_word(self, traffic: Traffic) -> int:
        """Have something happen once more, now that the broker stays; return where the log ends."""
        await traffic.close()
        last = Traffic(house=self.house, dice=self.dice, known=traffic.known)
        for _ in range(10):
            await last.round()
        await last.close()
        return (await self.house.issuer.state()).size

    async def _finish(self, compiled: Followers, until: int) -> dict[str, int]:
        await compiled.release()
        return await compiled.done(until, within=PATIENCE)

    def _truth(self, history: History, log: Log, traffic: Traffic, until: int) -> Truth:
        return log.truth(self.views[history.name], until=until, known=traffic.known)


async def campaign(program: Path, *, seed: int, seconds: float) -> Outcome:
    """Run one in a house of its own."""
    async with open_house(heartbeat="PT1S") as house:
        return await Campaign(house=house, program=program, seed=seed, dice=dice(seed)).run(seconds)


def told(violations: Sequence[Violation]) -> str:
    """Say what was broken how often, and the first of each kind."""
    counts = Counter(each.property for each in violations)
    first = {each.property: each for each in reversed(violations)}
    return "\n".join(f"{counts[kind]} x {first[kind]}" for kind in counts)
