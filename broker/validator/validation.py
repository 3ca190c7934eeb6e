"""What a service judges its calls with, kept current by a feed from the broker."""

import asyncio
import logging
import random
import secrets
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from broker.svid.authenticate import Authenticator
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId
from broker.validator.asgi import App, ValidatorMiddleware
from broker.validator.bounds import Bounds, Entry
from broker.validator.check import Membership, Validator
from broker.validator.feed import Feed, FeedSettings
from broker.validator.guard import Guard
from broker.validator.interceptor import ValidatorInterceptor
from broker.validator.redeem import Redeemer
from broker.validator.reporter import Reporter
from broker.validator.reports import Reports
from broker.validator.spool import Spool
from broker.validator.view import RevocationView

_LOG: Final = logging.getLogger(__name__)
# At the end, how long is waited for what can still be sent.
_LAST_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """A validator whose view is being kept current, the way to spend what is good once, and what is reported.

    `reports` and `reporter` are None without a spool.
    """

    audience: str
    validator: Validator
    feed: Feed
    redeemer: Redeemer
    clock: Callable[[], datetime]
    reports: Reports | None = None
    reporter: Reporter | None = None

    def interceptor(
        self,
        *,
        bundles: Callable[[], TrustBundles],
        services: Sequence[ServiceDescriptor],
        calls: Mapping[str, Entry],
        open_to: Collection[str] = (),
    ) -> ValidatorInterceptor:
        """Return what guards a gRPC server; see ValidatorInterceptor."""
        return ValidatorInterceptor(guard=self.guard(bundles), services=services, calls=calls, open_to=open_to)

    def middleware(
        self,
        app: App,
        *,
        bundles: Callable[[], TrustBundles],
        calls: Mapping[str, Entry],
        open_to: Collection[str] = (),
        routes: Collection[str] | None = None,
    ) -> ValidatorMiddleware:
        """Return what guards an ASGI application; see ValidatorMiddleware."""
        return ValidatorMiddleware(app, guard=self.guard(bundles), calls=calls, open_to=open_to, routes=routes)

    def guard(self, bundles: Callable[[], TrustBundles]) -> Guard:
        """Return what judges single calls; see `Guard.accept`."""
        authenticator = Authenticator(own_id=SpiffeId.parse(self.audience))
        return Guard(
            validator=self.validator,
            authenticator=authenticator,
            bundles=bundles,
            clock=self.clock,
            redeemer=self.redeemer,
            reports=self.reports,
        )


def _clock() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid.uuid4())


@asynccontextmanager
async def _reporting(
    channel: grpc.aio.Channel, folder: Path | None
) -> AsyncIterator[tuple[Reports | None, Reporter | None]]:
    """Send what is reported as long as the context lasts; at its end, what goes out quickly. The rest waits there."""
    if folder is None:
        _LOG.warning("no spool folder: uses of credentials and their outcomes are not reported (docs/trace.md)")
        yield None, None
        return
    spool = await asyncio.to_thread(Spool, folder, clock=_clock, new_id=_new_id)
    reporter = Reporter(channel=channel, spool=spool, jitter=random.random)
    sending = asyncio.create_task(reporter.run(), name="reports")
    try:
        yield Reports(spool=spool, clock=_clock, new_id=_new_id), reporter
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if reporter.problem else _LAST_SECONDS):
                await reporter.emptied()
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        await asyncio.to_thread(spool.close)


@asynccontextmanager
async def open_validator(
    *,
    channel: grpc.aio.Channel,
    issuer: str,
    audience: str,
    membership: Membership | None = None,
    bounds: Bounds | None = None,
    spool: Path | None = None,
) -> AsyncIterator[Validation]:
    """Follow the broker's revocations as long as the context lasts.

    Args:
        channel: to the broker, with the service's own SVID.
        issuer: the broker's `iss`.
        audience: the service's own SPIFFE ID, as the policy bundle registers it.
        membership: see Validator.
        bounds: how old the view may be, by class of call; see Bounds for the defaults.
        spool: a folder of this process's own, where reports of uses and outcomes wait to be sent; None: none are made.

    Raises:
        SpoolUnusable: the folder cannot hold them; the message says what to do.

    """
    bounds = bounds or Bounds()
    view = RevocationView(issuer=issuer)
    settings = FeedSettings(silence=bounds.read)
    feed = Feed(channel=channel, view=view, clock=_clock, jitter=random.random, settings=settings)
    validator = Validator(issuer=issuer, audience=audience, view=view, bounds=bounds, membership=membership)
    redeemer = Redeemer(channel=channel, new_key=lambda: secrets.token_urlsafe(16), jitter=random.random)
    async with _reporting(channel, spool) as (reports, reporter):
        following = asyncio.create_task(feed.run(), name="revocation feed")
        try:
            yield Validation(
                audience=audience,
                validator=validator,
                feed=feed,
                redeemer=redeemer,
                clock=_clock,
                reports=reports,
                reporter=reporter,
            )
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
