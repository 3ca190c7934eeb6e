"""Line: one open way to one server, by its SPIFFE ID."""

from dataclasses import dataclass

import grpc

from broker.link.handshake import Protocol
from broker.link.tunnel import Tunnel
from broker.svid.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server: where it listens, who it must be, and what it speaks."""

    address: str
    spiffe_id: SpiffeId
    protocol: Protocol = Protocol.HTTP_2

    def host_and_port(self) -> tuple[str, int]:
        """Split the address.

        Raises:
            ValueError: it is not "host:port".

        """
        host, colon, port = self.address.rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit():
            raise ValueError(f'an address is "host:port", not {self.address!r}')
        return host.removeprefix("[").removesuffix("]"), int(port)


@dataclass(slots=True, kw_only=True)
class Line:
    """One open way to a server."""

    tunnel: Tunnel
    channel: grpc.aio.Channel
