"""What the commands that call a broker share: how it is reached, and how its refusals look."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

import click

from broker.client import Session, connect
from broker.client.errors import RefusedError, UnavailableError
from broker.link.source import IdentityUnavailable

REFUSED: Final = 1
UNREACHABLE: Final = 69

P = ParamSpec("P")
T = TypeVar("T")


def options(command: Callable[P, T]) -> Callable[P, T]:
    """Add the options that say which broker, as whom."""
    decorators = [
        click.option("--broker", "address", envvar="BROKER_ADDRESS", default="127.0.0.1:8443", show_default=True,
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
        fail(f"no SVID: {problem}", problem.fix, UNREACHABLE)
    except UnavailableError as refusal:
        fail(f"unavailable ({refusal.reason_name}): {refusal}", refusal.next_step, UNREACHABLE)
    except RefusedError as refusal:
        policies = f" by {', '.join(refusal.policy_ids)}" if refusal.policy_ids else ""
        fail(f"refused{policies}: {refusal.reason_name}. {refusal.sentence}", refusal.next_step, REFUSED)
    except KeyboardInterrupt:
        sys.exit(130)


def fail(what: str, fix: str, code: int) -> "Any":  # noqa: ANN401  # NoReturn is lost on callers in except blocks
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
