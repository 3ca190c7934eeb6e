"""Work that is brought to its end even when the one who waits for it is cancelled."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from broker.client.credential import Ending, Task
from broker.client.errors import RefusedError, Unavailable, Unreachable
from broker.errors import Reason

_ATTEMPTS: Final = 3
# There is nothing left to end.
_OVER: Final = frozenset(
    {Reason.TASK_ENDED, Reason.TASK_DEADLINE_PASSED, Reason.TASK_HEARTBEAT_MISSED, Reason.TASK_REVOKED}
)
_T = TypeVar("_T")

_log = logging.getLogger(__name__)


@asynccontextmanager
async def running(
    begin: Callable[[], Coroutine[Any, Any, Task]],
    end: Callable[[Task], Awaitable[Ending]],
    beat: Callable[[Task], Awaitable[object]],
) -> AsyncIterator[Task]:
    """Begin a task, let it be heard of, and end it whatever happens in between.

    Args:
        begin: begins it.
        end: ends it.
        beat: lets it be heard of.

    Raises:
        BrokerError: it could not be begun, or not be ended. When the block itself raised, its exception goes on, with a
            note that the task was not ended.

    """
    beginning = asyncio.ensure_future(begin())
    try:
        task = await finished(beginning)
    except asyncio.CancelledError:
        if not beginning.cancelled() and beginning.exception() is None:  # it was begun, and nobody will know of it
            await _end_after(asyncio.CancelledError(), end, beginning.result())
        raise
    beating = asyncio.create_task(_beat(beat, task))
    try:
        try:
            yield task
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
    except BaseException as problem:
        await _end_after(problem, end, task)
        raise
    await finished(_end(end, task))


async def _beat(beat: Callable[[Task], Awaitable[object]], task: Task) -> None:
    """Let a task be heard of as often as it must be, until it is over; what fails is tried again at the next turn."""
    while task.heartbeat is not None:
        await asyncio.sleep(task.heartbeat.total_seconds())
        try:
            await beat(task)
        except RefusedError as refusal:
            _log.warning("heartbeat of task %s refused: %s", task.id, refusal)
            if refusal.reason in _OVER:
                return
        except Exception as problem:  # noqa: BLE001 - the next one may pass
            _log.warning("heartbeat of task %s failed: %s", task.id, problem)


async def finished(work: Coroutine[Any, Any, _T] | asyncio.Future[_T]) -> _T:
    """Wait until some work is done, cancelled or not, and be cancelled only then. The work has a deadline of its own.

    Raises:
        asyncio.CancelledError: this was cancelled in the meantime, and the work did not fail.

    """
    doing = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not doing.cancelled() and (failure := doing.exception()) is not None:
            cancelled.add_note(f"In the meantime: {failure}")
        raise cancelled
    return doing.result()


async def _end_after(problem: BaseException, end: Callable[[Task], Awaitable[Ending]], task: Task) -> None:
    """End a task after something went wrong, which goes on; a failure to end it is said beside it."""
    try:
        await finished(_end(end, task))
    except Exception as second:  # noqa: BLE001 - reported; the first one goes on
        _log.warning("task %s was not ended: %s", task.id, second)
        problem.add_note(f"Task {task.id} was not ended: {second}")


async def _end(end: Callable[[Task], Awaitable[Ending]], task: Task) -> None:
    """End a task; ask again when the answer is lost, which is safe: a task ends once."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await end(task)
        except RefusedError as refusal:
            if refusal.reason in _OVER:
                return
            if not isinstance(refusal, Unavailable) or attempt == _ATTEMPTS:
                raise
        except Unreachable:
            if attempt == _ATTEMPTS:
                raise
        else:
            return
