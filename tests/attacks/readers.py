"""The SDK before a house, as somebody."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count

from broker.client.channel import Endpoint
from broker.client.session import Session
from broker.link.identity import Identity
from broker.svid.leaf import thumbprint_of
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId
from tests.attacks.house import House
from tests.fakes.trust_domain import Svid
from tests.operations.world import BROKER


class Supply:
    """One identity for the SDK, and the trust of the house."""

    def __init__(self, house: House, svid: Svid) -> None:
        self._house = house
        self._identity = Identity(
            spiffe_id=SpiffeId.parse(svid.id),
            certificate_chain=svid.certificate_chain,
            private_key=svid.private_key,
            not_after=svid.leaf.not_valid_after_utc,
            thumbprint=thumbprint_of(svid.leaf),
        )

    def identity(self) -> Identity:
        return self._identity

    def bundles(self) -> TrustBundles:
        return self._house.identity.bundles()


@asynccontextmanager
async def session(house: House, who: str, *, broker: str = BROKER) -> AsyncIterator[Session]:
    """The SDK, as somebody who expects the broker, or somebody else, at the house's port."""
    numbers = count()
    opened = Session(
        supply=Supply(house, house.svid(who)),
        broker=Endpoint(address=f"127.0.0.1:{house.door.port}", spiffe_id=SpiffeId.parse(broker)),
        clock=lambda: datetime.now(UTC),
        new_id=lambda prefix: f"{prefix}_{next(numbers)}",
    )
    try:
        yield opened
    finally:
        await opened.close()
