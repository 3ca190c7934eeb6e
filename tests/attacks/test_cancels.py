"""A caller that goes away in the middle (G3): no credential without its event, nothing held, and nothing half done.

ATTACKS_CANCELS=1000 tries each of the twenty points that often.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import pytest

from tests.attacks.entrances import (
    begin_task,
    conversation,
    end_task,
    exchange,
    impose,
    lift_override,
    outcome,
    overrides,
    request,
    revoke,
)
from tests.attacks.house import AUDITOR, House
from tests.operations.world import SECURITY, SUPPORT, WHOLESALE
from tests.polling import eventually

POINTS = range(20)
TIMES = int(os.environ.get("ATTACKS_CANCELS", "4"))
# Turns of the event loop from one point to the next: the last lies beyond the answer.
STEP = 12


async def gone_after(turns: int, call: Callable[[], Awaitable[Any]]) -> str:
    """Cancel a call after so many turns of the loop; say how it ended."""

    async def asking() -> Any:
        return await outcome(call())

    asked = asyncio.ensure_future(asking())
    for _ in range(turns):
        if asked.done():
            break
        await asyncio.sleep(0)
    if not asked.done():
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return "gone"
    reason: str = (await asked).reason
    return reason


@pytest.mark.timeout(0 if TIMES > 10 else 120)
@pytest.mark.parametrize("way", ["Exchange", "ExchangeStream"])
async def test_g3_an_exchange_that_is_cancelled_leaves_nothing_half_done(own_house: House, way: str) -> None:
    house, ended = own_house, Counter[str]()
    channel = house.good(SUPPORT)
    ids = [f"r{point}-{number}" for point in POINTS for number in range(TIMES)]
    for number, name in enumerate(ids):
        ask = partial(exchange if way == "Exchange" else conversation, channel, request(request_id=name))
        ended[await gone_after(number // TIMES * STEP, ask)] += 1
    assert ended["gone"], "none was cancelled"
    # Asked again, each is answered: no lock is held, and what was granted unheard is the same credential.
    held = {name: (await exchange(channel, request(request_id=name))).credential for name in ids}
    log = await house.log()
    granted = [event["credential"] for event in log if event["type"] == "credential.granted"]
    assert sorted(granted) == sorted(credential.credential_id for credential in held.values())
    again = [event["credential"] for event in log if event["type"] == "credential.reissued"]
    assert set(again) <= set(granted)
    assert len(again) < len(ids), "each was committed before anybody went away"


@pytest.mark.timeout(0 if TIMES > 10 else 120)
async def test_g3_what_else_is_cancelled_happened_whole_or_not_at_all(own_house: House) -> None:
    house = own_house
    agent, security = house.good(SUPPORT), house.good(SECURITY)

    async def task() -> str:
        name: str = (await begin_task(agent)).task.task_id
        return name

    calls: dict[str, Callable[[str], Awaitable[Any]]] = {
        "task.begun": lambda _: begin_task(agent),
        "task.ended": lambda name: end_task(agent, name),
        "revocation.made": lambda name: revoke(security, task_id=name),
        "override.imposed": lambda _: impose(security, agent=WHOLESALE),
    }
    gone = 0
    for point in POINTS:
        for call in calls.values():
            gone += await gone_after(point * STEP, partial(call, await task())) == "gone"
    assert gone
    # Every verb goes on, and every row has its event: the store would not open again otherwise.

    async def lifted() -> bool:
        """Lift what stands; what went out before its caller was gone may still be on its way."""
        for each in (await overrides(house.good(AUDITOR))).overrides:
            await lift_override(house.good(AUDITOR), each.override_id)
        return (await outcome(exchange(house.good(WHOLESALE), request()))).code is grpc.StatusCode.OK

    await eventually(lifted)
    await house.restart()
    channel = house.channel(house.svid(SUPPORT))
    assert (await outcome(exchange(channel, request()))).code is grpc.StatusCode.OK
    await channel.close()
