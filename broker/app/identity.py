"""The broker's own SVID and the trust bundles, opened."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.link.source import IdentitySource
from broker.settings import Settings


@asynccontextmanager
async def open_identity(settings: Settings) -> AsyncIterator[IdentitySource]:
    """Open the supply of the broker's own SVID and of all trust bundles.

    Raises:
        IdentityUnavailable: the SPIRE agent does not answer, or has no entry for this process.

    """
    source = await IdentitySource.open(
        socket=settings.workload_api.socket,
        spiffe_id=settings.broker.spiffe_id,
        hint=None,
        timeout=settings.workload_api.timeout.total_seconds(),
    )
    try:
        yield source
    finally:
        await asyncio.to_thread(source.close)
