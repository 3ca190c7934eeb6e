"""The resource side: a service accepts a call only with a credential that covers it and has not been revoked.

async with open_validator(channel=to_the_broker, issuer=..., audience=...) as validation:
    await validation.feed.ready()
    server = grpc.aio.server(interceptors=[validation.interceptor(bundles=..., services=..., calls=...)])
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from broker.svid.authenticate import Authenticator
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId
from broker.validator.check import MAX_STALENESS, Call, Membership, Validator
from broker.validator.feed import Feed, FeedSettings
from broker.validator.interceptor import Guard, Mapper, MappingError, ValidatorInterceptor, verified_token
from broker.validator.view import RevocationView

__all__ = [
    "Call",
    "Feed",
    "FeedSettings",
    "Guard",
    "Mapper",
    "MappingError",
    "Membership",
    "RevocationView",
    "Validation",
    "Validator",
    "ValidatorInterceptor",
    "open_validator",
    "verified_token",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """A validator whose view is being kept current."""

    audience: str
    validator: Validator
    feed: Feed
    clock: Callable[[], datetime]

    def interceptor(
        self,
        *,
        bundles: Callable[[], TrustBundles],
        services: Sequence[ServiceDescriptor],
        calls: Mapping[str, Mapper],
    ) -> ValidatorInterceptor:
        """Return what guards a gRPC server; see ValidatorInterceptor."""
        authenticator = Authenticator(own_id=SpiffeId.parse(self.audience))
        guard = Guard(validator=self.validator, authenticator=authenticator, bundles=bundles, clock=self.clock)
        return ValidatorInterceptor(guard=guard, services=services, calls=calls)


@asynccontextmanager
async def open_validator(
    *,
    channel: grpc.aio.Channel,
    issuer: str,
    audience: str,
    membership: Membership | None = None,
    max_staleness: timedelta = MAX_STALENESS,
) -> AsyncIterator[Validation]:
    """Follow the broker's revocations as long as the context lasts.

    Args:
        channel: to the broker, with the service's own SVID.
        issuer: the broker's `iss`.
        audience: the service's own SPIFFE ID, as the policy bundle registers it.
        membership: see Validator.
        max_staleness: see Validator.

    """

    def clock() -> datetime:
        return datetime.now(UTC)

    view = RevocationView(issuer=issuer)
    settings = FeedSettings(silence=max_staleness)
    feed = Feed(channel=channel, view=view, clock=clock, jitter=random.random, settings=settings)
    validator = Validator(
        issuer=issuer, audience=audience, view=view, max_staleness=max_staleness, membership=membership
    )
    following = asyncio.create_task(feed.run(), name="revocation feed")
    try:
        yield Validation(audience=audience, validator=validator, feed=feed, clock=clock)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
