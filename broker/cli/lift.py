"""`broker lift`: let new credentials pass again after a revocation."""

import click

from broker.cli.connection import options, run, show
from broker.client import Ending, Session


@click.command
@options
@click.argument("revocation")
@click.option("--reason", default="", help="Why, for the audit log.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def lift(  # noqa: PLR0913  # one parameter an option
    *, address: str, broker_id: str, socket: str | None, spiffe_id: str | None, revocation: str, reason: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Lift a revocation by its id (rev_...). What it ended stays ended; what it kept from passing passes again."""

    async def work(session: Session) -> Ending:
        return await session.lift(revocation, reason=reason)

    lifted = run(address, broker_id, socket, spiffe_id, work)
    show({"lifted": lifted.revocation, "position": lifted.position}, as_json=as_json)
