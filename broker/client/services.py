"""Services: what a session can reach with a credential, each over the connection that the credential is bound to."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import grpc

from broker.client.ask import Ask
from broker.client.channel import Generation, Generations
from broker.client.credential import Credential
from broker.client.errors import BrokerError, refused
from broker.client.line import Endpoint
from broker.errors import Refusal
from broker.link.handshake import Protocol
from broker.link.tunnel import Tunnel
from broker.svid.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service.

    Attributes:
        endpoint: where it listens, and who it must be.
        obtain: gives a credential for what is about to be done there.
        forget: lets go of a held credential that the service did not accept.
        generations: of the session.
        deadline: seconds that a call may take when it says nothing itself.

    """

    endpoint: Endpoint
    obtain: Callable[[Ask], Awaitable[Credential]]
    forget: Callable[[Credential], None]
    generations: Generations
    deadline: float

    def channel(self, credential: Credential | None) -> grpc.aio.Channel:
        """Return the channel with the SVID that a credential is bound to; the current one without.

        Raises:
            BrokerError: that SVID is over, and the credential with it.

        """
        return self.generations.line(self._generation(credential), self.endpoint).channel

    def tunnel(self, credential: Credential) -> Tunnel:
        """Return the way for HTTP/1.1 with the SVID that a credential is bound to.

        Raises:
            BrokerError: that SVID is over, and the credential with it.

        """
        endpoint = replace(self.endpoint, protocol=Protocol.HTTP_1_1)
        return self.generations.tunnel(self._generation(credential), endpoint)

    def _generation(self, credential: Credential | None) -> Generation:
        current = self.generations.current()
        generation = current if credential is None else self.generations.of(credential.thumbprint)
        if generation is None:
            raise BrokerError("The SVID that the credential is bound to is over; exchange again.")
        return generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All of them, as a session holds them.

    Attributes:
        obtain: gives a credential for what is about to be done at an audience.
        forget: as Service.
        generations: as Service.
        deadline: as Service.

    """

    obtain: Callable[[Ask, str], Awaitable[Credential]]
    forget: Callable[[Credential], None]
    generations: Generations
    deadline: float

    def at(self, service_id: str, address: str) -> Service:
        """Return one, by who it must be and where it listens.

        Raises:
            RefusedError: service_id is not a SPIFFE ID.
            ValueError: the address is not "host:port".

        """
        try:
            endpoint = Endpoint(address=address, spiffe_id=SpiffeId.parse(service_id))
        except Refusal as refusal:
            raise refused(refusal) from refusal
        endpoint.host_and_port()
        return Service(
            endpoint=endpoint,
            obtain=lambda ask: self.obtain(ask, service_id),
            forget=self.forget,
            generations=self.generations,
            deadline=self.deadline,
        )
