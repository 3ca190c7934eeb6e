"""A task's end against exchanges in flight, over the wire: no live credential is left."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import grpc

from broker.v1 import types_pb2
from tests.attacks.entrances import (
    begin_task,
    cancel_task,
    end_task,
    exchange,
    first,
    narrow_task,
    outcome,
    request,
    revocations,
)
from tests.attacks.house import House
from tests.operations.world import SUPPORT

RACES = 200
TURNS = 1000
ENDS: tuple[Callable[[grpc.aio.Channel, str], Awaitable[Any]], ...] = (
    end_task,
    cancel_task,
    lambda channel, task: narrow_task(channel, task, "order.read"),
)


async def test_no_credential_outlives_its_task(house: House) -> None:
    channel, chance = house.good(SUPPORT), Random(1)  # noqa: S311 - a test's
    given: set[str] = set()
    refused: Counter[str] = Counter()

    async def after(turns: int, call: Callable[[], Awaitable[Any]]) -> Any:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await outcome(call())

    async def race(number: int) -> None:
        task: types_pb2.Task = (await begin_task(channel)).task
        asked = request(action="order.cancel", task_id=task.task_id)
        calls: list[Callable[[], Awaitable[Any]]] = [lambda: exchange(channel, asked)] * 2
        calls.append(lambda: ENDS[number % len(ENDS)](channel, task.task_id))
        *exchanged, end = await asyncio.gather(*(after(chance.randrange(TURNS), call) for call in calls))
        assert end.code is grpc.StatusCode.OK
        for each in exchanged:
            if each.code is grpc.StatusCode.OK:
                given.add(each.answer.credential.credential_id)
            else:
                refused[each.reason] += 1

    for start in range(0, RACES // 2, 20):
        await asyncio.gather(*(race(start + number) for number in range(20)))
    answer = await first(revocations(channel))
    assert given <= set(answer.snapshot.credential_ids)
    assert given, "some exchange was first"
    assert refused.keys() == {"TASK_ENDED", "TASK_BOUNDARY_EXCEEDED"}, refused
