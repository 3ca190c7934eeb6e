"""Limits over the wire: whichever entrance a grant comes by, and however many come at once, they count together."""

import asyncio
import re
from collections import Counter

import grpc

from broker.v1 import types_pb2
from tests.attacks.entrances import begin_task, conversation, exchange, outcome, request
from tests.attacks.house import House
from tests.operations.world import SUPPORT

# As the example bundle has it: 20 refunds in a task, and 1000 euros in a conversation.
GRANTS, AMOUNT = 20, 100_000


async def test_both_entrances_at_once_give_no_more_than_the_limit(house: House) -> None:
    channel = house.good(SUPPORT)
    task: types_pb2.Task = (await begin_task(channel)).task

    async def refund(number: int) -> tuple[grpc.StatusCode, str]:
        parameters = '{"amount": 1, "currency": "EUR"}'
        asked = request(action="order.refund", task_id=task.task_id, parameters=parameters, request_id=f"r{number}")
        entrance = exchange if number % 2 else conversation
        answered = await outcome(entrance(channel, asked))
        return answered.code, answered.reason

    answers = Counter(await asyncio.gather(*map(refund, range(100))))
    assert answers[grpc.StatusCode.OK, ""] == GRANTS
    assert answers[grpc.StatusCode.PERMISSION_DENIED, "LIMIT_REACHED"] == 100 - GRANTS


async def test_the_refusal_names_policy_and_period_and_no_amount(house: House) -> None:
    channel = house.good(SUPPORT)
    for _ in range(AMOUNT // 5000 // GRANTS + 1):
        task: types_pb2.Task = (await begin_task(channel, conversation="one")).task
        for _ in range(GRANTS):
            asked = request(
                action="order.refund", task_id=task.task_id, parameters='{"amount": 4999, "currency": "EUR"}'
            )
            answered = await outcome(exchange(channel, asked))
            if answered.code is not grpc.StatusCode.OK:
                break
    assert answered.reason == "LIMIT_REACHED"
    assert answered.metadata["detail"] == "policy support-may-refund, per conversation"
    assert answered.metadata["policy_ids"] == "support-may-refund"
    assert not re.search(r"(?<![\w-])4999(?![\w-])", str(answered))  # an id may hold any digits
    free: types_pb2.Task = (await begin_task(channel, conversation="another")).task
    asked = request(action="order.refund", task_id=free.task_id, parameters='{"amount": 4999, "currency": "EUR"}')
    assert (await outcome(exchange(channel, asked))).code is grpc.StatusCode.OK
