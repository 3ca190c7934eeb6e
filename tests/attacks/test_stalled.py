"""Readers that do not read hold nobody up, and lose nothing by it, not even by a restart meanwhile (H3).

Said in counts and order, not in seconds: the healthy one is told everything while the others have not read a second
message.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.attacks.house import House, open_house
from tests.load.running import following
from tests.operations.world import ORDERS, RETAIL_DESK, SECURITY
from tests.streams.history import Opened, violations, violations_of
from tests.streams.plan import Habits, planned
from tests.streams.raw import Raw
from tests.streams.recorded import begun_at, read_journal
from tests.streams.traffic import Traffic, dice
from tests.streams.truth import Log, View

# The compiled readers are built with cold caches once in a while.
pytestmark = pytest.mark.timeout(900)

STALLED = {
    View(stream="audit", reader=SECURITY): 30,
    View(stream="audit", reader=RETAIL_DESK, tenant="retail"): 20,
}
HEALTHY = View(stream="revocations", reader=ORDERS)
ROUNDS = 12


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


async def test_h3_fifty_stalled_readers_hold_nobody_up_and_lose_nothing(house: House, load_program: Path) -> None:
    traffic = Traffic(house=house, dice=dice(5))
    healthy, log = Raw(house=house, view=HEALTHY), Raw(house=house, view=next(iter(STALLED)))
    plan = list(planned(house, STALLED, Habits(held=50), dice(5)))
    views = {line["name"]: view for view, line in plan}
    async with following(load_program, [line for _, line in plan], house.folder) as stalled:
        for number in range(ROUNDS):
            if number == ROUNDS // 2:
                await traffic.close()
                await house.restart()  # over which the stalled ones lose their streams
            for _ in range(4):
                await traffic.round()
            size = (await house.issuer.state()).size
            await healthy.read_to(size)
            await log.read_to(size)
        until = (await house.issuer.state()).size
        assert await stalled.release() == 50  # the first message of each, and nothing since
        await stalled.done(until, within=300)
    await traffic.close()
    truth = Log.read(house.settings.store.path)
    for each in (healthy, log):
        assert not violations(each.history(), truth.truth(each.view, until=size, known=traffic.known))
    histories = read_journal(stalled.journal)
    assert len(histories) == 50
    assert all(sum(isinstance(step, Opened) for step in each.steps) > 1 for each in histories.values())
    assert not violations_of(
        (begun_at(each, 0), truth.truth(views[name], until=until)) for name, each in histories.items()
    )
