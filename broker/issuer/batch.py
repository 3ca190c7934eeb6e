"""The issuer's one worker thread: it owns the operations and the store, and its groups form by themselves.

Calls of one kind that wait together are one group: whatever exchanges arrived while the last group was committed are
decided and committed together, and so are redemptions; there is no timer. Everything else runs after the groups, in
order of arrival; what is urgent runs before whatever waits, after the one group or job that has begun. Between jobs the
worker does the chores that are due.
"""

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar

import structlog

from broker.errors import Reason, Refusal
from broker.store.interface import StoreUnavailable

MAX_WAITING: Final = 4096
MAX_GROUP: Final = 512

Call = TypeVar("Call")
Answer = TypeVar("Answer")
Together: TypeAlias = Callable[[Sequence[Call]], Sequence[Answer | Refusal]]
"""Decides a group of calls of one kind, and gives one answer each, in their order."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """Work that is due every `seconds`, by the monotonic clock."""

    name: str
    seconds: float
    work: Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job(Generic[Answer]):
    work: Callable[[], Answer]
    future: "Future[Answer]" = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Calls(Generic[Call, Answer]):
    decide: Together[Call, Answer]
    calls: Sequence[Call]
    future: "Future[Sequence[Answer | Refusal]]" = field(default_factory=Future)


class Worker:
    """Runs jobs on its own thread.

    Args:
        chores: what to do in between.
        after: called after each round of jobs or chores, to tell readers of news.

    """

    def __init__(
        self,
        *,
        chores: Sequence[Chore],
        after: Callable[[], None],
    ) -> None:
        self._chores = [(chore, time.monotonic()) for chore in chores]
        self._after = after
        self._waiting: queue.SimpleQueue[_Job[Any] | _Calls[Any, Any] | None] = queue.SimpleQueue()
        self._first: queue.SimpleQueue[_Job[Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run_or_end, name="issuer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is waiting, and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    async def together(self, decide: Together[Call, Answer], calls: Sequence[Call]) -> Sequence[Answer | Refusal]:
        """Return one answer a call, decided with all that waits for the same; LIMIT_BUSY when too much waits.

        Args:
            decide: what decides this kind of calls; the object itself is the kind.
            calls: to be decided.

        """
        if self._waiting.qsize() >= MAX_WAITING:
            return [Refusal(Reason.LIMIT_BUSY) for _ in calls]
        job = _Calls(decide=decide, calls=calls)
        self._waiting.put(job)
        return await asyncio.wrap_future(job.future)

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """Return what the work returns.

        Raises:
            Refusal: the work's own; LIMIT_BUSY when too much is waiting.

        """
        if self._waiting.qsize() >= MAX_WAITING:
            raise Refusal(Reason.LIMIT_BUSY)
        job = _Job(work=work)
        self._waiting.put(job)
        return await asyncio.wrap_future(job.future)

    async def run_first(self, work: Callable[[], Answer]) -> Answer:
        """Return what the work returns, before anything else that waits and however much that is.

        Raises:
            Refusal: the work's own.

        """
        job = _Job(work=work)
        self._first.put(job)
        self._waiting.put(_Job(work=_nothing))  # wakes the worker
        return await asyncio.wrap_future(job.future)

    def _run_or_end(self) -> None:
        """Run; should the thread ever end by a defect, end the process, so that the supervisor starts another."""
        try:
            self._run()
        except BaseException as defect:  # noqa: BLE001  # whatever it is, nobody would answer any more
            _log.error("the worker ended", exc_info=defect)
            os._exit(os.EX_SOFTWARE)

    def _run(self) -> None:
        going = True
        while going:
            jobs = self._take()
            going = None not in jobs
            self._serve([job for job in jobs if job is not None and job.future.set_running_or_notify_cancel()])
            self._do_chores()
            self._tell_readers()

    def _tell_readers(self) -> None:
        try:
            self._after()  # it reads the store, which may be unavailable
        except Exception as problem:  # noqa: BLE001  # no defect may end the one worker
            _refusal_of(problem, chore="tell readers")

    def _take(self) -> list["_Job[Any] | _Calls[Any, Any] | None"]:
        """Return everything that waits, after waiting for something or for the next chore."""
        soonest = min((due for _, due in self._chores), default=time.monotonic() + 1)
        jobs: list[_Job[Any] | _Calls[Any, Any] | None] = []
        try:
            jobs.append(self._waiting.get(timeout=max(0.0, soonest - time.monotonic())))
            while len(jobs) < MAX_GROUP:
                jobs.append(self._waiting.get_nowait())
        except queue.Empty:
            pass
        return jobs

    def _serve(self, jobs: Sequence["_Job[Any] | _Calls[Any, Any]"]) -> None:
        groups: dict[int, list[_Calls[Any, Any]]] = {}
        for job in jobs:
            if isinstance(job, _Calls):
                groups.setdefault(id(job.decide), []).append(job)
        self._serve_first()
        for group in groups.values():
            _decide(group)
            self._serve_first()
        for job in jobs:
            if isinstance(job, _Job):
                self._serve_first()
                _do(job)

    def _serve_first(self) -> None:
        """Do what is urgent now; what becomes urgent meanwhile has its turn before the next job."""
        urgent = self._first.qsize()
        for _ in range(urgent):
            job = self._first.get_nowait()
            if job.future.set_running_or_notify_cancel():
                _do(job)
        if urgent:
            self._tell_readers()  # of what was stopped, and not only once a whole group is through

    def _do_chores(self) -> None:
        for index, (chore, due) in enumerate(self._chores):
            if due <= time.monotonic():
                try:
                    chore.work()
                except Exception as problem:  # noqa: BLE001  # no defect may end the one worker
                    _refusal_of(problem, chore=chore.name)
                self._chores[index] = (chore, time.monotonic() + chore.seconds)


def _decide(group: Sequence[_Calls[Any, Any]]) -> None:
    calls = [call for job in group for call in job.calls]
    try:
        answers = group[0].decide(calls)
    except Exception as problem:  # noqa: BLE001  # no defect may end the one worker
        answers = [_refusal_of(problem)] * len(calls)
    start = 0
    for job in group:
        job.future.set_result(answers[start : start + len(job.calls)])
        start += len(job.calls)


def _nothing() -> None:
    """Do nothing."""


def _do(job: _Job[Any]) -> None:
    try:
        job.future.set_result(job.work())
    except Exception as problem:  # noqa: BLE001  # no defect may end the one worker
        job.future.set_exception(_refusal_of(problem))


def _refusal_of(problem: Exception, chore: str = "") -> Refusal:
    """Return what a caller may hear of a problem; a defect is logged with its trace, and nothing of it goes out."""
    if isinstance(problem, Refusal):
        if chore:
            _log.warning("chore refused", chore=chore, reason=problem.reason.name)
        return problem
    if isinstance(problem, StoreUnavailable):
        _log.error("store unavailable", chore=chore, problem=str(problem))
        return Refusal(Reason.AUDIT_UNAVAILABLE)
    _log.error("defect", chore=chore, exc_info=problem)
    return Refusal(Reason.INTERNAL)
