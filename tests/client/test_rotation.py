"""Leaves and authorities rotate under an agent that goes on calling: no call fails."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest

from tests.client.stage import Stage, get, open_stage
from tests.fakes.trust_domain import Svid
from tests.operations.world import BROKER, ORDERS, SUPPORT
from tests.polling import eventually

CALLS = 5_000
AT_ONCE = 16
ROTATIONS = 24


class Caller:
    """Calls without end; each call is an exchange, and a call of the guarded service with what it gave."""

    def __init__(self, stage: Stage) -> None:
        self.stub = stage.stub()
        self.done = 0
        self.going = True
        self.failed: list[Exception] = []
        self.moved = asyncio.Condition()

    async def run(self) -> None:
        """Call until enough is done, and nothing rotates any more."""
        while self.going or self.done < CALLS:
            try:
                await self.stub.BeginTask(get())
            except Exception as problem:
                self.failed.append(problem)
            self.done += 1
            async with self.moved:
                self.moved.notify_all()

    async def reach(self, count: int) -> None:
        """Wait until so many calls are done."""
        async with self.moved:
            await self.moved.wait_for(lambda: self.done >= count)


def leaf(stage: Stage, who: str) -> Svid:
    return stage.house.svid(who, ttl=timedelta(hours=1), dns=("broker.example.org",) if who == BROKER else ())


async def rotate(stage: Stage, caller: Caller) -> None:
    """Renew one leaf after another, a CA rotation in the middle of it, spread over the calls."""
    house = stage.house
    apis = ((stage.agent, SUPPORT), (house.workload, BROKER), (stage.service, ORDERS))
    current = {who: leaf(stage, who) for _, who in apis}

    def tell() -> None:
        for api, who in apis:
            api.give_svid(current[who], house.home)

    step = CALLS // (ROTATIONS + 3)
    prepared = None
    for number in range(ROTATIONS):
        await caller.reach(step * (number + 1))
        if number == ROTATIONS // 3:  # the new authority is trusted first, then issues
            prepared = house.home.prepare_authority()
        elif number == ROTATIONS // 3 + 3 and prepared is not None:
            house.home.activate(prepared)
        elif number == ROTATIONS // 3 * 2 + 3:  # by now it has issued to all; the old one goes
            house.home.remove_authority()
        _, who = apis[number % len(apis)]
        current[who], before = leaf(stage, who), len(stage.session._generations._generations)
        tell()
        if who == SUPPORT:
            await eventually(partial(_used, stage, before))  # or the next one would come first
    caller.going = False


async def _used(stage: Stage, before: int) -> bool:
    """Whether the agent has called with a leaf that it had not called with then."""
    return len(stage.session._generations._generations) > before


@pytest.mark.timeout(600)
async def test_no_call_fails_while_everything_rotates() -> None:
    async with open_stage() as stage:
        caller = Caller(stage)
        async with asyncio.timeout(550), asyncio.TaskGroup() as group:
            group.create_task(rotate(stage, caller))
            for _ in range(AT_ONCE):
                group.create_task(caller.run())
        assert len(stage.house.home.authorities) == 1, "the authority that began has left"
        assert not caller.failed, (len(caller.failed), caller.failed[:3])
        assert len(set(stage.orders.handled)) == len(stage.orders.handled) == caller.done >= CALLS
        assert len(stage.session._generations._generations) == ROTATIONS // 3 + 1
