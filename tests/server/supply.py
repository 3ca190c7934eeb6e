"""Sessions whose supply of identities a test replaces at will."""

from typing import Any

from broker.client.channel import Endpoint
from broker.client.session import Session
from broker.link.identity import Identity, IdentityUnavailable
from broker.svid.leaf import thumbprint_of
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId
from tests.fakes.issuer import new_ids
from tests.fakes.trust_domain import Svid, TrustDomain
from tests.server.world import BROKER, ORDERS, World

INTENT: dict[str, Any] = {
    "action": "order.read",
    "resource": ("order", "1234"),
    "purpose": "support",
    "audience": ORDERS,
}


def identity_of(svid: Svid) -> Identity:
    """An issued SVID as a process holds it."""
    return Identity(
        spiffe_id=SpiffeId.parse(svid.id),
        certificate_chain=svid.certificate_chain,
        private_key=svid.private_key,
        not_after=svid.leaf.not_valid_after_utc,
        thumbprint=thumbprint_of(svid.leaf),
    )


class Supply:
    """Implements link's IdentitySupply."""

    def __init__(self, domain: TrustDomain, svid: Svid | None) -> None:
        self.domain = domain
        self.svid = svid

    def identity(self) -> Identity:
        """The current SVID."""
        if self.svid is None:
            raise IdentityUnavailable("There is none.", fix="Make one.")
        return identity_of(self.svid)

    def bundles(self) -> TrustBundles:
        """The domain's bundle."""
        return self.domain.bundles()


def session_with(
    world: World, supply: Supply, *, port: int = 0, broker: str = str(BROKER), deadline: float = 30
) -> Session:
    endpoint = Endpoint(address=f"127.0.0.1:{port or world.door.port}", spiffe_id=SpiffeId.parse(broker))
    return Session(supply=supply, broker=endpoint, clock=world.issuer.clock, new_id=new_ids(), deadline=deadline)
