"""`broker task`: the piece of work that credentials belong to and die with."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from broker.cli.connection import options, run, show
from broker.cli.duration import Duration
from broker.cli.person import person
from broker.client import Continued, Ending, Session, Task
from broker.errors import Refusal
from broker.intent import Json, parse_parameters

Command = TypeVar("Command", bound=Callable[..., Any])


class _Extent(click.ParamType):  # type: ignore[type-arg]
    """A type, or TYPE/ID."""

    name = "TYPE[/ID]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str | tuple[str, str]:
        """Return a type, or a type and an id."""
        kind, slash, name = str(value).partition("/")
        if not kind or (slash and not name):
            self.fail("give a type, such as order, or TYPE/ID, such as order/1234", param, ctx)
        return (kind, name) if slash else kind


class _Limits(click.ParamType):  # type: ignore[type-arg]
    """One JSON object: action to parameter to limit."""

    name = "JSON"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Json]:
        """Return the object."""
        if isinstance(value, dict):
            return value
        try:
            return parse_parameters(str(value))
        except Refusal as refusal:
            self.fail(refusal.reason.meaning.next_step, param, ctx)


def _narrowing(command: Command) -> Command:
    """Add the options that say what a task is narrowed to."""
    for option in (
        click.option("--limits", type=_Limits(), help='On parameters: {"order.refund": {"amount": {"max": 4200}}}.'),
        click.option("--service", "services", multiple=True, help="One of the only services, by its SPIFFE ID."),
        click.option("--resource", "resources", type=_Extent(), multiple=True, help="One of the only resources."),
        click.option("--action", "actions", multiple=True, help="One of the only actions; give it again for more."),
    ):
        command = option(command)
    return command


def _boundary(named: dict[str, Any]) -> dict[str, Any]:
    """Return what was said; nothing said restricts nothing."""
    return {name: named[name] or None for name in ("actions", "resources", "services", "limits")}


@click.group
def task() -> None:
    """Begin, follow and end tasks; writes need one, and its credentials end with it."""


@task.command
@options
@click.option("--purpose", required=True, help="What for; registered for this agent.")
@click.option("--type", "kind", default="", help="Of which type of the bundle; needed where more than one fits.")
@click.option("--tenant", default="", help="For which tenant, when this agent works for several.")
@click.option("--lifetime", type=Duration(), help="When it ends by itself, such as 15m; else as configured.")
@click.option("--conversation", default="", help="Your own name for it, for the audit log.")
@click.option("--heartbeat", type=Duration(), help="Ends when `broker task heartbeat` stays away three times so long.")
@_narrowing
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def begin(  # noqa: PLR0913  # one parameter an option
    *,
    address: str,
    broker_id: str,
    socket: str | None,
    spiffe_id: str | None,
    purpose: str,
    kind: str,
    tenant: str,
    lifetime: timedelta | None,
    conversation: str,
    heartbeat: timedelta | None,
    as_json: bool,
    **named: Any,  # noqa: ANN401  # those of _narrowing
) -> None:
    """Begin a task and show its id, for `broker exchange --task`.

    --action, --resource, --service and --limits narrow what its type allows; what is not named stays as it is there.
    """

    async def work(session: Session) -> Task:
        return await session.begin_task(
            purpose=purpose,
            type=kind,
            tenant=tenant,
            lifetime=lifetime,
            conversation=conversation,
            heartbeat=heartbeat,
            **_boundary(named),
        )

    begun = run(address, broker_id, socket, spiffe_id, work)
    show(
        {"task": begun.id, "tenant": begun.tenant, "ends": begun.deadline.isoformat()} | _typed(begun), as_json=as_json
    )


@task.command
@options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("name", metavar="TASK")
def end(*, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, name: str, as_json: bool) -> None:
    """End a task, and its credentials with it; durable when this returns."""

    async def work(session: Session) -> Ending:
        return await session.end_task(name)

    _show_ending(name, run(address, broker_id, socket, spiffe_id, work), as_json=as_json)


@task.command
@options
@click.option("--reason", default="", help="Why, for the audit log.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("name", metavar="TASK")
def cancel(  # noqa: PLR0913  # one parameter an option
    *,
    address: str,
    broker_id: str,
    socket: str | None,
    spiffe_id: str | None,
    reason: str,
    name: str,
    as_json: bool,
) -> None:
    """End a task because it is not wanted any more; as `end`, with a reason."""

    async def work(session: Session) -> Ending:
        return await session.cancel_task(name, reason=reason)

    _show_ending(name, run(address, broker_id, socket, spiffe_id, work), as_json=as_json)


@task.command
@options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("name", metavar="TASK")
def heartbeat(
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, name: str, as_json: bool
) -> None:
    """Say that a task is still worked on; its credentials are judged again by the policy in force."""

    async def work(session: Session) -> Continued:
        return await session.heartbeat_task(name)

    _show_going(run(address, broker_id, socket, spiffe_id, work), as_json=as_json)


@task.command
@options
@_narrowing
@click.option("--reason", default="", help="Why, for the audit log.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("name", metavar="TASK")
def narrow(  # noqa: PLR0913  # one parameter an option
    *,
    address: str,
    broker_id: str,
    socket: str | None,
    spiffe_id: str | None,
    reason: str,
    name: str,
    as_json: bool,
    **named: Any,  # noqa: ANN401  # those of _narrowing
) -> None:
    """Let a task go on within less; what no longer fits has ended when this returns."""
    if not any(named.values()):
        raise click.UsageError("name what to narrow it to: --action, --resource, --service or --limits")

    async def work(session: Session) -> Continued:
        return await session.narrow_task(name, reason=reason, **_boundary(named))

    _show_going(run(address, broker_id, socket, spiffe_id, work), as_json=as_json)


@task.command
@options
@click.option("--reason", required=True, help="Why, for the audit log.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@person
@click.argument("name", metavar="TASK")
def resume(  # noqa: PLR0913  # one parameter an option
    *,
    address: str,
    broker_id: str,
    socket: str | None,
    spiffe_id: str | None,
    reason: str,
    name: str,
    identity_token: str | None,
    as_json: bool,
) -> None:
    """Let a task go on that drifted: as who was told of it, or an operator. What ended with that stays ended."""

    async def work(session: Session) -> Ending:
        return await session.resume_task(name, reason=reason, identity_token=identity_token)

    resumed = run(address, broker_id, socket, spiffe_id, work)
    show({"resumed": name, "position": resumed.position}, as_json=as_json)


def _show_ending(name: str, ended: Ending, *, as_json: bool) -> None:
    show({"task": name, "ended credentials": ended.revoked, "position": ended.position}, as_json=as_json)


def _show_going(going: Continued, *, as_json: bool) -> None:
    now = going.task
    shown: dict[str, object] = {"task": now.id, "ended credentials": going.revoked, "ends": now.deadline.isoformat()}
    show(shown | _typed(now), as_json=as_json)


def _typed(task: Task) -> dict[str, object]:
    """Return type, heartbeat and boundary as they are shown, where there are any."""
    boundary = task.boundary.to_json()
    shown = {
        "type": task.type,
        "heartbeat": f"{task.heartbeat.total_seconds():g} s" if task.heartbeat else "",
        "boundary": json.dumps(boundary, ensure_ascii=True) if boundary else "",
        "suspended since": task.suspended_at.isoformat() if task.suspended_at else "",
    }
    return {name: value for name, value in shown.items() if value}
