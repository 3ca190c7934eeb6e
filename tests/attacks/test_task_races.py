"""A task's end against exchanges in flight, over the wire: no live credential is left."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from random import Random
from typing import Any

import grpc

from broker.v1 import types_pb2
from tests.attacks.entrances import (
    Outcome,
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
LONGEST = 0.06  # seconds that a call waits before it starts, so that either may be first


async def narrow(channel: grpc.aio.Channel, task: str) -> Any:
    return await narrow_task(channel, task, "order.read")


# What ends it, or takes the action out of it, and why an exchange after that is refused.
LATE: dict[Callable[[grpc.aio.Channel, str], Awaitable[Any]], str] = {
    end_task: "TASK_ENDED",
    cancel_task: "TASK_ENDED",
    narrow: "TASK_BOUNDARY_EXCEEDED",
}
ENDS = tuple(LATE)


async def test_no_credential_outlives_its_task(house: House) -> None:
    channel, chance = house.good(SUPPORT), Random(1)  # noqa: S311 - a test's
    house.time.still = datetime.now(UTC)  # what has ended is forgotten when it would be over
    given: set[str] = set()
    refused: Counter[str] = Counter()

    async def after(seconds: float, call: Callable[[], Awaitable[Any]]) -> Any:
        await asyncio.sleep(seconds)
        return await outcome(call())

    def count(answers: Iterable[Outcome]) -> None:
        for each in answers:
            if each.code is grpc.StatusCode.OK:
                given.add(each.answer.credential.credential_id)
            else:
                refused[each.reason] += 1

    async def race(number: int) -> None:
        task: types_pb2.Task = (await begin_task(channel)).task
        asked = request(action="order.cancel", task_id=task.task_id)
        end = ENDS[number % len(ENDS)]
        calls: list[Callable[[], Awaitable[Any]]] = [lambda: exchange(channel, asked)] * 2
        calls.append(lambda: end(channel, task.task_id))
        before = await outcome(exchange(channel, asked))
        *exchanged, ended = await asyncio.gather(*(after(chance.uniform(0, LONGEST), call) for call in calls))
        late = await outcome(exchange(channel, asked))
        assert before.code is ended.code is grpc.StatusCode.OK, (before.reason, ended.reason)
        assert late.reason == LATE[end]
        count((before, *exchanged))

    for start in range(0, RACES // 2, 20):
        await asyncio.gather(*(race(start + number) for number in range(20)))
    answer = await first(revocations(channel))
    assert given <= set(answer.snapshot.credential_ids)
    assert refused.keys() <= set(LATE.values()), refused
