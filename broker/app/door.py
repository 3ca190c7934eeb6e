"""The door, composed, and as a process of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog

from broker.app.identity import open_identity
from broker.app.ids import new_id, now
from broker.app.lifetime import guarded, until_stopped
from broker.issuer.client import RemoteIssuer
from broker.issuer.port import Issuer
from broker.link.credentials import server_credentials
from broker.link.source import IdentitySource
from broker.server.door import Door
from broker.server.limits import Limits
from broker.server.observe import Counters
from broker.settings import Settings
from broker.supervisor import Control

GRACE_SECONDS: Final = 5.0


async def run_door(settings: Settings, control: Control) -> int:
    """Serve the door; the issuer is reached over the links that the supervisor gives; return the exit code."""

    async def serve(stop: asyncio.Event) -> None:
        issuer = RemoteIssuer(on_lost=control.ask_for_link)
        attaching = asyncio.create_task(issuer.attach_all(control.links()))
        async with open_identity(settings) as identity, open_door(settings, identity, issuer) as door:
            control.report_ready(serving_as(settings, door))
            await until_stopped(attaching, stop)

    return await guarded(serve, control)


@asynccontextmanager
async def open_door(settings: Settings, identity: IdentitySource, issuer: Issuer) -> AsyncIterator[Door]:
    """Listen on the agent port and the admin socket.

    Raises:
        OSError: one of them cannot be listened on.

    """
    counters = Counters()
    credentials = server_credentials(
        identity, on_handshake=counters.handshake_begun, on_failure=counters.rotation_failed
    )
    door = Door(
        issuer=issuer,
        credentials=credentials,
        address=settings.listen.address,
        admin_socket=settings.admin.socket,
        counters=counters,
        log=structlog.get_logger("broker.door"),
        new_id=new_id,
        clock=now,
        limits=_limits(settings),
    )
    async with AsyncExitStack() as stack:
        await door.start()
        stack.push_async_callback(door.stop, GRACE_SECONDS)
        yield door


def _limits(settings: Settings) -> Limits:
    configured = settings.limits
    return Limits(
        call=configured.call_deadline.total_seconds(),
        heartbeat=configured.heartbeat.total_seconds(),
        connection_age=configured.connection_age.total_seconds(),
    )


def serving_as(settings: Settings, door: Door) -> str:
    """Return where the door listens and who it is, for people."""
    return f"{settings.listen.address.rpartition(':')[0]}:{door.port} as {settings.broker.spiffe_id}"
