"""What every serving process does alike: it runs until a signal, and says what stands in its way."""

import asyncio
import resource
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import click

from broker.app.logs import configure_logs
from broker.credential.source import KeyFileError
from broker.errors import Refusal
from broker.link.identity import IdentityUnavailable
from broker.store.interface import StoreUnavailable
from broker.supervisor import Control

DONE: Final = 0
UNAVAILABLE: Final = 69
CONFIGURATION: Final = 78


async def guarded(serve: Callable[[], Awaitable[None]], control: Control | None = None) -> int:
    """Run to the end; say what stands in the way of serving, and how to mend it."""
    configure_logs()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no key in a core file
    try:
        await serve()
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


def _give_up(message: str, code: int, control: Control | None) -> int:
    if control is not None and code == CONFIGURATION:
        control.report_failure(message)  # the supervisor says it, and ends
    else:
        click.secho(message, fg="red", err=True)
    return code


async def stop_asked() -> None:
    """Return when SIGTERM or SIGINT arrives."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


async def until_stopped(serving: "asyncio.Task[None]") -> None:
    """Return when a signal asks for it, or when the supervisor is gone and no link can come any more."""
    stopping = asyncio.create_task(stop_asked())
    done, waiting = await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for task in done:
        task.result()
