"""What the commands that call a broker share: how it is reached, and how its refusals look."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import click

from broker.audit.shape import EventMalformed
from broker.client import BrokerError, RefusedError, Session, Unavailable, Unreachable, connect
from broker.errors import Reason
from broker.link.identity import IdentityUnavailable

NOT_ITS_LOG: Final = (
    "Whoever answers there is no broker that this release can read, or lies; `audit tail --json` keeps it."
)
REFUSED: Final = 1
UNREACHABLE: Final = 69

P = ParamSpec("P")
T = TypeVar("T")


def _address(_context: click.Context, _option: click.Parameter, value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal():
        raise click.BadParameter("give host:port, such as 127.0.0.1:8443")
    return value


def options(command: Callable[P, T]) -> Callable[P, T]:
    """Add the options that say which broker, as whom."""
    decorators = [
        click.option("--broker", "address", envvar="BROKER_ADDRESS", default="127.0.0.1:8443", show_default=True,
                     callback=_address,
                     help="The broker's host and port.  [env: BROKER_ADDRESS]"),
        click.option("--broker-id", envvar="BROKER_ID", required=True,
                     help="The broker's SPIFFE ID; the connection is refused to anyone else.  [env: BROKER_ID]"),
        click.option("--workload-api", "socket", envvar="SPIFFE_ENDPOINT_SOCKET",
                     help="Where the SPIRE agent answers.  [env: SPIFFE_ENDPOINT_SOCKET]"),
        click.option("--spiffe-id", help="The SVID to use, when this workload has several."),
    ]  # fmt: skip
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def run(
    address: str, broker_id: str, socket: str | None, spiffe_id: str | None, work: Callable[[Session], Awaitable[T]]
) -> T:
    """Run work in a session; show a refusal and end with its exit code."""

    async def within() -> T:
        async with connect(address, broker_id=broker_id, socket=socket, spiffe_id=spiffe_id) as session:
            return await work(session)

    return guarded(within())


def guarded(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, or end the command with what a person can act on."""
    try:
        return asyncio.run(work)
    except IdentityUnavailable as problem:
        fail(problem.message, problem.fix, UNREACHABLE)
    except Unreachable as problem:
        fail(f"the broker does not answer: {problem}", str(problem.__cause__ or ""), UNREACHABLE)
    except Unavailable as refusal:
        fail(f"unavailable: {_reason(refusal)}", refusal.next_step, UNREACHABLE)
    except RefusedError as refusal:
        policies = f" by {', '.join(refusal.policy_ids)}" if refusal.policy_ids else ""
        fail(f"refused{policies}: {_reason(refusal)}. {refusal.sentence}", refusal.next_step, REFUSED)
    except BrokerError as problem:
        fail(str(problem), "", REFUSED)
    except EventMalformed as problem:
        fail(f"what the broker sent is not its log: {problem}", NOT_ITS_LOG, REFUSED)
    except KeyboardInterrupt:
        sys.exit(130)


def _reason(refusal: RefusedError) -> str:
    name = refusal.reason.name if isinstance(refusal.reason, Reason) else refusal.reason
    return f"{name} ({refusal.detail})" if refusal.detail else name


def fail(what: str, fix: str, code: int) -> NoReturn:
    """Say what went wrong and how to mend it, and end."""
    click.secho(what, fg="red", err=True)
    if fix:
        click.echo(f"  → {fix}", err=True)
    sys.exit(code)


def show(value: dict[str, object], *, as_json: bool) -> None:
    """Print one answer: a JSON object for programs, a line a member for people."""
    if as_json:
        click.echo(json.dumps(value))
        return
    width = max(len(name) for name in value)
    for name, member in value.items():
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {member}")
