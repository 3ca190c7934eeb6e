"""`broker revoke`: end what a rule covers, now and until it is lifted."""

import click

from broker.cli.connection import options, run, show
from broker.client import Ending, Session
from broker.credential.revocation import RuleKind

_KINDS = [kind.value for kind in RuleKind]


@click.command
@options
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("name")
@click.option("--reason", default="", help="Why, for the audit log.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def revoke(  # noqa: PLR0913  # one parameter an option
    *,
    address: str,
    broker_id: str,
    socket: str | None,
    spiffe_id: str | None,
    kind: str,
    name: str,
    reason: str,
    as_json: bool,
) -> None:
    """Revoke one credential by its id, or all of a task, agent, tenant or policy.

    When this returns, the revocation is durable and no new credential passes under it.
    """

    async def work(session: Session) -> Ending:
        return await session.revoke(RuleKind(kind), name, reason=reason)

    made = run(address, broker_id, socket, spiffe_id, work)
    show(
        {"revocation": made.revocation, "ended credentials": made.revoked, "position": made.position},
        as_json=as_json,
    )
