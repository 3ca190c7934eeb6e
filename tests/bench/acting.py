"""Acting: what each class of call costs the service that judges it, over the durable broker.

Reads, and writes that may be done many times, are judged by the service alone; what is good once it spends at the
broker first, where that is committed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

from broker.intent import Json, Resource
from broker.v1 import exchange_pb2, exchange_pb2_grpc, task_pb2, task_pb2_grpc, types_pb2
from broker.validator import Call, Guard, Impact, open_validator
from tests.bench.load import intent
from tests.bench.stage import ISSUER, Stage
from tests.operations.world import ORDERS

_ORDER: Final = "1234"
A_TASK: Final = 16
_REFUND: Final[dict[str, Json]] = {"amount": 1, "currency": "EUR"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    """A guard, and an agent that gets credentials for it."""

    guard: Guard
    evidence: Any
    exchanges: Any
    tasks: Any

    async def tokens(self, action: str, count: int) -> list[str]:
        """Return so many; a task has as many of them as the bundle lets it have."""
        found: list[str] = []
        while len(found) < count:
            begun = await self.tasks.BeginTask(task_pb2.BeginTaskRequest(purpose="customer-support"))
            some = min(A_TASK, count - len(found))
            found += [await self._token(action, begun.task.task_id) for _ in range(some)]
        return found

    async def _token(self, action: str, task: str) -> str:
        asked = types_pb2.Intent(
            action=action,
            resource=types_pb2.Resource(type="order", id=_ORDER),
            parameters='{"amount": 1, "currency": "EUR"}' if action == "order.refund" else "",
            purpose="customer-support",
            audience=ORDERS,
            task_id=task,
        )
        given = await self.exchanges.Exchange(exchange_pb2.ExchangeRequest(intent=asked))
        return str(given.credential.token)

    async def judge(self, token: str, action: str) -> None:
        parameters = _REFUND if action == "order.refund" else {}
        call = Call(action=action, resource=Resource(type="order", id=_ORDER), tenant="retail", parameters=parameters)
        await self.guard.accept(token, call, evidence=self.evidence, within=Impact.READ)


@asynccontextmanager
async def _serving(stage: Stage) -> AsyncIterator[_Service]:
    async with (
        stage.channel("agent", "durable") as agent,
        stage.channel("service", "durable") as service,
        open_validator(channel=service, issuer=ISSUER, audience=ORDERS) as validation,
    ):
        await validation.feed.ready()
        yield _Service(
            guard=validation.guard(stage.domain.bundles),
            evidence=stage.svids["agent"].evidence(),
            exchanges=exchange_pb2_grpc.ExchangeServiceStub(agent),
            tasks=task_pb2_grpc.TaskServiceStub(agent),
        )


async def act(
    stage: Stage, rounds: int, seconds: float, in_flight: int, tell: Callable[[int], object]
) -> dict[str, list[float]]:
    """Return what each costs, in milliseconds of wall time, a sample a round; nothing else runs meanwhile."""
    count = max(5, round(seconds * 60))
    found: dict[str, list[float]] = {name: [] for name in ("read", "many", "once", "together", "exchange")}
    async with _serving(stage) as service:
        for number in range(rounds):
            tell(number)
            for name, action in (("read", "order.read"), ("many", "order.cancel")):
                (token,) = await service.tokens(action, 1)
                await service.judge(token, action)  # its signature is verified once
                found[name].append(await _each([partial(service.judge, token, action)] * count))
            tokens = await service.tokens("order.refund", count + in_flight)
            alone, together = tokens[:count], tokens[count:]
            found["once"].append(await _each([partial(service.judge, token, "order.refund") for token in alone]))
            begun = time.perf_counter()
            await asyncio.gather(*(service.judge(token, "order.refund") for token in together))
            found["together"].append((time.perf_counter() - begun) / len(together) * 1e3)
            found["exchange"].append(
                await _each([partial(service.exchanges.Exchange, intent(n)) for n in range(count)])
            )
    return found


async def _each(work: Sequence[Callable[[], Any]]) -> float:
    """Do one after another; return the median time of one, in milliseconds."""
    times = []
    for one in work:
        begun = time.perf_counter()
        await one()
        times.append((time.perf_counter() - begun) * 1e3)
    return median(times)
