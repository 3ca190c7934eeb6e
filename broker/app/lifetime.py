"""What every serving process does alike: it runs until a signal, and says what stands in its way."""

import asyncio
import resource
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import click

from broker.app.logs import configure_logs
from broker.credential.source import KeyFileError
from broker.errors import Refusal
from broker.link.identity import IdentityUnavailable
from broker.store.interface import StoreUnavailable
from broker.supervisor import NO_CORE, Control

DONE: Final = 0
UNAVAILABLE: Final = 69
CONFIGURATION: Final = 78
# Less than the supervisor waits before it kills.
STOP_SECONDS: Final = 8.0


async def guarded(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]], control: Control | None = None) -> int:
    """Run to the end; say what stands in the way of serving, and how to mend it.

    Args:
        serve: opens, serves until the event it is given is set, and closes.
        control: where a failure is reported; None says it here.

    """
    configure_logs()
    resource.setrlimit(resource.RLIMIT_CORE, NO_CORE)
    # Before anything is opened, and so before anybody is told that we are ready.
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await _until_done(asyncio.create_task(serve(stop)), stop)
    except IdentityUnavailable as problem:
        return _give_up(f"no identity: {problem}", UNAVAILABLE, control)
    except StoreUnavailable as problem:
        return _give_up(f"store: {problem}", UNAVAILABLE, control)
    except Refusal as problem:
        return _give_up(f"{problem.reason.name}: {problem.reason.meaning.next_step}", UNAVAILABLE, control)
    except KeyFileError as problem:
        return _give_up(f"keys: {problem}", CONFIGURATION, control)
    except OSError as problem:
        return _give_up(str(problem), CONFIGURATION, control)
    return DONE


async def _until_done(serving: "asyncio.Task[None]", stop: asyncio.Event) -> None:
    """Wait for the end; when a stop is asked for while something is still being opened, give that up."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    await asyncio.wait({serving}, timeout=STOP_SECONDS)
    if not serving.done():
        serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


def _give_up(message: str, code: int, control: Control | None) -> int:
    if control is not None and code == CONFIGURATION:
        control.report_failure(message)  # the supervisor says it, and ends
    else:
        click.secho(message, fg="red", err=True)
    return code


async def until_stopped(serving: "asyncio.Task[None]", stop: asyncio.Event) -> None:
    """Return when a stop is asked for, or when the supervisor is gone and no link can come any more."""
    stopping = asyncio.create_task(stop.wait())
    done, waiting = await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    if serving in done:
        serving.result()
