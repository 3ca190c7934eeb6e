"""Limits: everything the door bounds, in one place."""

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MAX_STREAM_ITEMS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the door allows; durations in seconds.

    Attributes:
        call: the longest that the issuer is waited for, whatever the caller's deadline.
        margin: taken off the caller's deadline, so that the refusal still reaches the caller.
        heartbeat: the longest that a stream is silent.
        spacing: the least time between two pages of one stream; what comes in between goes in one message.
        calls: questions to the issuer that may be open at once; more are refused with LIMIT_BUSY.
        urgent: questions about overrides that one caller may have open; they are not counted among `calls`.
        pages: of those, how many may be pages of streams; further pages wait.
        message: bytes of one received message. An exchange has at most 32 KiB of parameters and little else; a message
            of ExchangeStream holds up to 256 items or this many bytes, whichever is less.
        metadata: bytes of the metadata of one call.
        streams: calls open at once on one connection.
        connections: connections open at once.
        handshake: how long TLS may take.
        connection_age: after this long a connection takes no new calls, so that old trust does not live on for ever.
        connection_grace: how long calls may then go on; a stream is resumed from its cursor on a new connection.
        connection_idle: a connection without calls is closed after this long.
        keepalive: how often an idle transport is probed, and after which silence it is given up (keepalive_timeout).
        keepalive_timeout: see keepalive.
        least_ping_interval: a client that pings more often, three times, is disconnected.

    """

    call: float = 10.0
    margin: float = 0.1
    heartbeat: float = 2.0
    spacing: float = 0.02
    calls: int = 4096
    urgent: int = 8
    pages: int = 256
    message: int = 1024 * KIB
    metadata: int = 16 * KIB
    streams: int = 100
    connections: int = 10_000
    handshake: float = 10.0
    connection_age: float = 3600.0
    connection_grace: float = 60.0
    connection_idle: float = 600.0
    keepalive: float = 60.0
    keepalive_timeout: float = 20.0
    least_ping_interval: float = 10.0

    def options(self) -> list[tuple[str, int]]:
        """Return the options of the agent port's gRPC server."""
        return [
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", self.streams),
            ("grpc.max_metadata_size", self.metadata),
            ("grpc.absolute_max_metadata_size", self.metadata),
            ("grpc.max_receive_message_length", self.message),
            ("grpc.max_allowed_incoming_connections", self.connections),
            ("grpc.server_handshake_timeout_ms", _milliseconds(self.handshake)),
            ("grpc.max_connection_age_ms", _milliseconds(self.connection_age)),
            ("grpc.max_connection_age_grace_ms", _milliseconds(self.connection_grace)),
            ("grpc.max_connection_idle_ms", _milliseconds(self.connection_idle)),
            ("grpc.keepalive_time_ms", _milliseconds(self.keepalive)),
            ("grpc.keepalive_timeout_ms", _milliseconds(self.keepalive_timeout)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(self.least_ping_interval)),
            ("grpc.http2.max_ping_strikes", 3),
        ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
