"""`broker task`: the piece of work that credentials belong to and die with."""

from datetime import timedelta

import click

from broker.cli.connection import options, run, show
from broker.cli.duration import Duration
from broker.client import Ending, Session, Task


@click.group
def task() -> None:
    """Begin and end tasks; writes need one, and its credentials end with it."""


@task.command
@options
@click.option("--purpose", required=True, help="What for; registered for this agent.")
@click.option("--tenant", default="", help="For which tenant, when this agent works for several.")
@click.option("--lifetime", type=Duration(), help="When it ends by itself, such as 15m; else as configured.")
@click.option("--conversation", default="", help="Your own name for it, for the audit log.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def begin(  # noqa: PLR0913  # one parameter an option
    *,
    address: str,
    broker_id: str,
    socket: str | None,
    spiffe_id: str | None,
    purpose: str,
    tenant: str,
    lifetime: timedelta | None,
    conversation: str,
    as_json: bool,
) -> None:
    """Begin a task and show its id, for `broker exchange --task`."""

    async def work(session: Session) -> Task:
        return await session.begin_task(purpose=purpose, tenant=tenant, lifetime=lifetime, conversation=conversation)

    begun = run(address, broker_id, socket, spiffe_id, work)
    show({"task": begun.id, "tenant": begun.tenant, "ends": begun.deadline.isoformat()}, as_json=as_json)


@task.command
@options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("name", metavar="TASK")
def end(*, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, name: str, as_json: bool) -> None:
    """End a task, and its credentials with it; durable when this returns."""

    async def work(session: Session) -> Ending:
        return await session.end_task(name)

    ended = run(address, broker_id, socket, spiffe_id, work)
    show({"task": name, "ended credentials": ended.revoked, "position": ended.position}, as_json=as_json)
