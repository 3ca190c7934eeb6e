"""Line: one open way to one server, by its SPIFFE ID."""

import asyncio
from dataclasses import dataclass

import grpc

from broker.link.tunnel import Tunnel
from broker.svid.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server: where it listens, and who it must be."""

    address: str
    spiffe_id: SpiffeId

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

    async def close(self) -> None:
        """Close the channel, then what it runs through."""
        await self.channel.close()
        await asyncio.to_thread(self.tunnel.close)
