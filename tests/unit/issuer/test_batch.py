"""The worker: groups form by themselves, and no defect ends it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
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
    chores: Sequence[Chore] = (),
) -> AsyncIterator[Worker]:
    worker = Worker(chores=chores, after=lambda: None)
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

    async with working() as worker:
        first = asyncio.create_task(worker.together(slow, [call("first")]))
        await asyncio.to_thread(entered.wait, 10)
        rest = [asyncio.create_task(worker.together(slow, [call(str(number))])) for number in range(50)]
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

    async with working() as worker:
        (answer,) = await worker.together(troubled, [call("x")])
        assert isinstance(answer, Refusal)
        assert answer.reason is reason
        assert "a defect" not in answer.detail
        (again,) = await worker.together(troubled, [call("y")])
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
        waiting = [asyncio.create_task(worker.together(echo, [call(str(number))])) for number in range(MAX_WAITING)]
        await asyncio.sleep(0)
        (answer,) = await worker.together(echo, [call("one too many")])
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


async def test_what_is_urgent_is_done_before_whatever_waits_and_however_much_that_is() -> None:
    entered, go = threading.Event(), threading.Event()
    done: list[str] = []

    def block() -> None:
        entered.set()
        go.wait(10)

    def noted(calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        done.append(f"{len(calls)} exchanges")
        return echo(calls)

    async with working() as worker:
        blocking = asyncio.create_task(worker.run(block))
        await asyncio.to_thread(entered.wait, 10)
        jobs = [asyncio.create_task(worker.run(lambda: done.append("job"))) for _ in range(2)]
        waiting = [asyncio.create_task(worker.together(noted, [call(str(number))])) for number in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal):  # the control: there is no room
            await worker.run(lambda: 7)
        urgent = asyncio.create_task(worker.run_first(lambda: done.append("urgent")))
        await asyncio.sleep(0)
        go.set()
        await urgent
        await asyncio.gather(blocking, *waiting, *jobs)
    assert done[0] == "urgent"
    assert len(done) > 2


async def test_what_becomes_urgent_runs_before_the_next_job() -> None:
    done: list[str] = []
    loop = asyncio.get_running_loop()
    async with working() as worker:
        came, go = asyncio.Event(), threading.Event()

        def first() -> None:
            loop.call_soon_threadsafe(came.set)
            go.wait(10)
            done.append("first")

        running = [asyncio.create_task(worker.run(first))]
        running += [asyncio.create_task(worker.run(lambda: done.append("next"))) for _ in range(3)]
        await came.wait()
        running.append(asyncio.create_task(worker.run_first(lambda: done.append("urgent"))))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*running)
    assert done == ["first", "urgent", "next", "next", "next"]


async def test_a_defect_of_what_is_urgent_is_its_own() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    async with working() as worker:
        with pytest.raises(Refusal) as caught:
            await worker.run_first(broken)
        assert caught.value.reason is Reason.INTERNAL
        assert await worker.run_first(lambda: 7) == 7


async def test_readers_are_told_of_what_was_urgent_before_the_group_that_waited() -> None:
    seen: list[str] = []
    entered, go = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        go.wait(10)

    def noted(calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        seen.append("group")
        return echo(calls)

    worker = Worker(chores=(), after=lambda: seen.append("told"))
    worker.start()
    try:
        blocking = asyncio.create_task(worker.run(block))
        await asyncio.to_thread(entered.wait, 10)
        seen.clear()
        waiting = asyncio.create_task(worker.together(noted, [call("waits")]))
        urgent = asyncio.create_task(worker.run_first(lambda: seen.append("urgent")))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(blocking, waiting, urgent)
    finally:
        await asyncio.to_thread(worker.stop)
    at = seen.index("urgent")
    assert seen[at : at + 3] == ["urgent", "told", "group"]


async def test_calls_of_one_kind_that_wait_together_are_one_group_of_their_own() -> None:
    groups: list[tuple[str, int]] = []
    entered, go = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        go.wait(10)

    def one(calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        groups.append(("one", len(calls)))
        return echo(calls)

    def another(calls: Sequence[str]) -> Sequence[str]:
        groups.append(("another", len(calls)))
        raise ZeroDivisionError("a defect of this kind is no other's")

    async with working() as worker:
        blocking = asyncio.create_task(worker.run(block))
        await asyncio.to_thread(entered.wait, 10)
        ones, others = [], []
        for number in range(5):
            ones.append(asyncio.create_task(worker.together(one, [call(f"{number}-a"), call(f"{number}-b")])))
            others.append(asyncio.create_task(worker.together(another, [str(number)])))
        await asyncio.sleep(0)
        go.set()
        await blocking
        told = [answer for each in await asyncio.gather(*ones) for answer in each]
        failed = [answer for each in await asyncio.gather(*others) for answer in each]
    assert groups == [("one", 10), ("another", 5)]
    assert [answer.detail for answer in told if isinstance(answer, Refusal)] == [
        f"{number}-{which}" for number in range(5) for which in "ab"
    ]
    assert [answer.reason for answer in failed if isinstance(answer, Refusal)] == [Reason.INTERNAL] * 5
