"""Refunds, which in the house of two tenants wait for the desk of the agent's own."""

import grpc

from broker.v1 import exchange_pb2
from tests.attacks.entrances import begin_task, exchange, outcome, request


async def hold(channel: grpc.aio.Channel) -> str:
    """Let an agent ask for what its desk has to approve; return the approval that it waits for."""
    told = await outcome(exchange(channel, refund((await begin_task(channel)).task.task_id)))
    assert told.reason == "STEP_UP_REQUIRED", told
    return told.metadata["approval_id"]


def refund(task: str, approval: str = "") -> exchange_pb2.ExchangeRequest:
    """A refund within a task, on an approval where there is one."""
    asked = request(action="order.refund", task_id=task, parameters='{"amount": 4200, "currency": "EUR"}')
    asked.approval_id = approval
    return asked
