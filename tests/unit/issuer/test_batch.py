"""The worker: groups form by themselves, and no defect ends it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from broker.errors import Reason, Refusal
from broker.issuer.batch import MAX_WAITING, Chore, Worker
from broker.operations.calls import Context, ExchangeAnswer, ExchangeCall
from broker.store.interface import StoreUnavailable
from broker.svid.principal import Evidence

NOBODY = Evidence(leaf=b"", chain=b"", tls_version="", session_reused=False, source="")


def call(request: str) -> ExchangeCall:
    return ExchangeCall(context=Context(evidence=NOBODY, request=request), intent=Refusal(Reason.REQUEST_INVALID))


def echo(calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
    return [Refusal(Reason.REQUEST_INVALID, each.context.request) for each in calls]


@asynccontextmanager
async def working(
    exchange: Callable[[Sequence[ExchangeCall]], Sequence[ExchangeAnswer]] = echo, chores: Sequence[Chore] = ()
) -> AsyncIterator[Worker]:
    worker = Worker(exchange=exchange, chores=chores, after=lambda: None)
    worker.start()
    try:
        yield worker
    finally:
        await asyncio.to_thread(worker.stop)


async def test_what_waits_while_one_group_runs_is_the_next_group() -> None:
    groups: list[int] = []
    entered, go = threading.Event(), threading.Event()

    def slow(calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        groups.append(len(calls))
        entered.set()
        go.wait(10)
        return echo(calls)

    async with working(slow) as worker:
        first = asyncio.create_task(worker.exchange([call("first")]))
        await asyncio.to_thread(entered.wait, 10)
        rest = [asyncio.create_task(worker.exchange([call(str(number))])) for number in range(50)]
        await asyncio.sleep(0)
        go.set()
        answers = await asyncio.gather(first, *rest)
    assert groups == [1, 50]
    assert [answer[0].detail for answer in answers if isinstance(answer[0], Refusal)] == [
        "first",
        *(str(number) for number in range(50)),
    ]


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (StoreUnavailable("disk full"), Reason.AUDIT_UNAVAILABLE),
        (ZeroDivisionError("a defect"), Reason.INTERNAL),
        (Refusal(Reason.POLICY_UNAVAILABLE), Reason.POLICY_UNAVAILABLE),
    ],
)
async def test_a_problem_is_an_answer_and_the_worker_goes_on(problem: Exception, reason: Reason) -> None:
    troubles = [problem]

    def troubled(calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        if troubles:
            raise troubles.pop()
        return echo(calls)

    async with working(troubled) as worker:
        (answer,) = await worker.exchange([call("x")])
        assert isinstance(answer, Refusal)
        assert answer.reason is reason
        assert "a defect" not in answer.detail
        (again,) = await worker.exchange([call("y")])
        assert isinstance(again, Refusal)
        assert again.detail == "y"


async def test_a_failing_chore_does_not_stop_the_others() -> None:
    done = threading.Event()

    def fail() -> None:
        raise ZeroDivisionError

    chores = [Chore(name="fails", seconds=0.01, work=fail), Chore(name="works", seconds=0.01, work=done.set)]
    async with working(chores=chores) as worker:
        assert await asyncio.to_thread(done.wait, 10)
        assert await worker.run(lambda: 7) == 7


async def test_too_much_waiting_is_refused_at_once() -> None:
    entered, go = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        go.wait(10)

    async with working() as worker:
        blocking = asyncio.create_task(worker.run(block))
        await asyncio.to_thread(entered.wait, 10)
        waiting = [asyncio.create_task(worker.exchange([call(str(number))])) for number in range(MAX_WAITING)]
        await asyncio.sleep(0)
        (answer,) = await worker.exchange([call("one too many")])
        assert isinstance(answer, Refusal)
        assert answer.reason is Reason.LIMIT_BUSY
        with pytest.raises(Refusal):
            await worker.run(lambda: 7)
        go.set()
        await asyncio.gather(blocking, *waiting)


async def test_who_has_given_up_costs_nothing() -> None:
    entered, go = threading.Event(), threading.Event()
    ran: list[str] = []

    def block() -> None:
        entered.set()
        go.wait(10)

    async with working() as worker:
        blocking = asyncio.create_task(worker.run(block))
        await asyncio.to_thread(entered.wait, 10)
        late = asyncio.create_task(worker.run(lambda: ran.append("late")))
        await asyncio.sleep(0)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        go.set()
        await blocking
        await worker.run(lambda: None)
    assert ran == []
