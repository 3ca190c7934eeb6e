"""What a service judges its calls with, kept current by a feed from the broker."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

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
from broker.validator.view import RevocationView


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """A validator whose view is being kept current, and the way to spend what is good once."""

    audience: str
    validator: Validator
    feed: Feed
    redeemer: Redeemer
    clock: Callable[[], datetime]

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
        )


@asynccontextmanager
async def open_validator(
    *,
    channel: grpc.aio.Channel,
    issuer: str,
    audience: str,
    membership: Membership | None = None,
    bounds: Bounds | None = None,
) -> AsyncIterator[Validation]:
    """Follow the broker's revocations as long as the context lasts.

    Args:
        channel: to the broker, with the service's own SVID.
        issuer: the broker's `iss`.
        audience: the service's own SPIFFE ID, as the policy bundle registers it.
        membership: see Validator.
        bounds: how old the view may be, by class of call; see Bounds for the defaults.

    """
    bounds = bounds or Bounds()

    def clock() -> datetime:
        return datetime.now(UTC)

    view = RevocationView(issuer=issuer)
    settings = FeedSettings(silence=bounds.read)
    feed = Feed(channel=channel, view=view, clock=clock, jitter=random.random, settings=settings)
    validator = Validator(issuer=issuer, audience=audience, view=view, bounds=bounds, membership=membership)
    redeemer = Redeemer(channel=channel, new_key=lambda: secrets.token_urlsafe(16), jitter=random.random)
    following = asyncio.create_task(feed.run(), name="revocation feed")
    try:
        yield Validation(audience=audience, validator=validator, feed=feed, redeemer=redeemer, clock=clock)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
