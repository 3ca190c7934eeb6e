"""Both halves in one process."""

import asyncio

import click

from broker.app.door import open_door, serving_as
from broker.app.identity import open_identity
from broker.app.issuer import open_issuer
from broker.app.lifetime import guarded
from broker.settings import Settings


async def run_embedded(settings: Settings) -> int:
    """Serve with both halves in this process until SIGTERM or SIGINT; return the exit code."""

    async def serve(stop: asyncio.Event) -> None:
        async with (
            open_identity(settings) as identity,
            open_issuer(settings, identity.bundles) as issuer,
            open_door(settings, identity, issuer) as door,
        ):
            policy = (await issuer.state()).policy_digest or "none, so everything is refused"
            where = serving_as(settings, door)
            click.echo(f"broker: ready: {where}; policy {policy}; issuer and door are one process")
            await stop.wait()

    return await guarded(serve)
