"""Channels: to the broker and to services, each by SPIFFE ID, in generations of the SVID.

A credential is bound to the SVID that asked for it. When the SVID is renewed, a new generation begins: new exchanges
and new channels use it, while the one before stays usable, with its leaf, until that leaf is over; so a credential is
always presented over the SVID it is bound to.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from broker.client.errors import BrokerError
from broker.client.exchanging import Exchanges
from broker.client.line import Endpoint, Line
from broker.link.identity import Identity, IdentitySupply
from broker.link.tunnel import Tunnel

__all__ = ["Endpoint", "Generation", "Generations", "Line"]

# Safe to ask again when the reply was lost: an exchange carries a request id, the others change nothing. A revocation
# asked twice would be two rules, both to be lifted: the caller has to know.
_RETRIED: Final = (
    {"service": "broker.v1.ExchangeService", "method": "Exchange"},
    {"service": "broker.v1.KeyService", "method": "GetKeySet"},
    {"service": "broker.v1.AuditService", "method": "GetCheckpoint"},
)
_SERVICE_CONFIG: Final = json.dumps(
    {
        "methodConfig": [
            {
                "name": _RETRIED,
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
_BROKER_OPTIONS: Final = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
)


@dataclass(slots=True, kw_only=True)
class Generation:
    """Everything that was opened with one SVID."""

    identity: Identity
    lines: dict[Endpoint, Line] = field(default_factory=dict)
    tunnels: dict[Endpoint, Tunnel] = field(default_factory=dict)
    exchanges: Exchanges = field(init=False)
    closed: bool = False

    async def close(self) -> None:
        """Close all of it."""
        self.closed = True
        await self.exchanges.close()
        lines, self.lines = self.lines, {}
        for line in lines.values():
            await line.channel.close()
        tunnels, self.tunnels = self.tunnels, {}
        for tunnel in tunnels.values():
            await asyncio.to_thread(tunnel.close)


class Generations:
    """The generations of one session.

    Args:
        supply: of identity and bundles.
        broker: whose channel retries what is safe to retry.
        clock: the time, UTC.
        deadline: seconds that one exchange may take.

    """

    def __init__(
        self, *, supply: IdentitySupply, broker: Endpoint, clock: Callable[[], datetime], deadline: float
    ) -> None:
        self._supply = supply
        self._broker = broker
        self._clock = clock
        self._deadline = deadline
        self._generations: dict[str, Generation] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def current(self) -> Generation:
        """Return the generation of the SVID that is current; let go of those whose SVID is over.

        Raises:
            IdentityUnavailable: this process has no SVID.
            BrokerError: the session is closed.

        """
        if self._closed:
            raise BrokerError("The session is closed.")
        identity = self._supply.identity()
        now = self._clock()
        for thumbprint, generation in list(self._generations.items()):
            if generation.identity.not_after <= now and thumbprint != identity.thumbprint:
                del self._generations[thumbprint]
                task = asyncio.get_running_loop().create_task(generation.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        return self._generations.get(identity.thumbprint) or self._begin(identity)

    def _begin(self, identity: Identity) -> Generation:
        generation = self._generations[identity.thumbprint] = Generation(identity=identity)
        generation.exchanges = Exchanges(line=lambda: self.line(generation, self._broker), deadline=self._deadline)
        return generation

    def of(self, thumbprint: str) -> Generation | None:
        """Return the generation with this SVID; None when it is over."""
        return self._generations.get(thumbprint)

    def line(self, generation: Generation, endpoint: Endpoint) -> Line:
        """Return the way to a server in a generation, opened when there is none yet.

        Raises:
            BrokerError: the generation's SVID is over.

        """
        tunnel = self.tunnel(generation, endpoint)
        line = generation.lines.get(endpoint)
        if line is None:
            options = _BROKER_OPTIONS if endpoint == self._broker else ()
            line = generation.lines[endpoint] = Line(tunnel=tunnel, channel=tunnel.channel(options=options))
        return line

    def tunnel(self, generation: Generation, endpoint: Endpoint) -> Tunnel:
        """Return the tunnel to a server in a generation, opened when there is none yet.

        Raises:
            BrokerError: the generation's SVID is over.

        """
        if generation.closed:
            raise BrokerError("The SVID of this connection is over; ask again with the new one.")
        tunnel = generation.tunnels.get(endpoint)
        if tunnel is None:
            host, port = endpoint.host_and_port()
            tunnel = generation.tunnels[endpoint] = Tunnel(
                host=host,
                port=port,
                server_id=endpoint.spiffe_id,
                supply=self._supply,
                clock=self._clock,
                identity=generation.identity,
                protocol=endpoint.protocol,
            )
        return tunnel

    async def close(self) -> None:
        """Close every generation."""
        self._closed = True
        generations, self._generations = self._generations, {}
        for generation in generations.values():
            await generation.close()
        await asyncio.gather(*self._closing)
