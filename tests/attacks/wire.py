"""Wire: raw TLS to the door with any certificate, version, session and source address; gRPC in the clear behind it.

gRPC's own client shows neither the session nor the source address, and takes no TLS version: here gRPC speaks to a unix
socket, and what stands behind the socket does the TLS with Python's ssl.
"""

import asyncio
import contextlib
import os
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from tests.fakes.trust_domain import Svid

_PIECE = 64 * 1024


class Context(ssl.SSLContext):
    """A client context that offers the session it was given; asyncio itself never offers one."""

    session: ssl.SSLSession | None = None

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **(named | {"session": self.session}))


def context_of(svid: Svid, roots: bytes, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Context:
    """Make a context that presents an SVID, good or bad; it does not care whom it speaks to."""
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.maximum_version = newest
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=roots.decode())
    descriptor = os.memfd_create("svid", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(svid.private_key + svid.certificate_chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


@dataclass(kw_only=True)
class Wire:
    """A way to the door, as many connections as gRPC asks for.

    Attributes:
        port: of the door.
        context: what is presented.
        source: the address that connections come from, any of 127.0.0.0/8.
        channel: gRPC over it.
        tls: the newest connection's TLS.

    """

    port: int
    context: Context
    source: str
    channel: grpc.aio.Channel = field(init=False)
    tls: ssl.SSLObject | None = None
    connections: set["asyncio.Task[None]"] = field(default_factory=set)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        try:
            answers, upstream = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=self.context, server_hostname="", local_addr=(self.source, 0)
            )
        except OSError:
            return
        self.tls = upstream.get_extra_info("ssl_object")
        try:
            await asyncio.gather(_pump(reader, upstream), _pump(answers, writer))
        finally:
            upstream.transport.abort()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a task of its own."""
        task = asyncio.get_running_loop().create_task(self.carry(reader, writer))
        self.connections.add(task)
        task.add_done_callback(partial(self._over, writer))

    def _over(self, writer: asyncio.StreamWriter, task: "asyncio.Task[None]") -> None:
        """Close its near end, even when it was dropped before it had begun."""
        self.connections.discard(task)
        writer.transport.abort()

    async def drop(self) -> None:
        """Break every open connection; gRPC makes the next one when it needs it."""
        for task in list(self.connections):
            task.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def open_wire(port: int, context: Context, *, source: str = "127.0.0.1") -> AsyncIterator[Wire]:
    """Open a way to the door."""
    wire = Wire(port=port, context=context, source=source)
    with tempfile.TemporaryDirectory(prefix="wire-") as folder:
        path = Path(folder) / "s"
        server = await asyncio.start_unix_server(wire.accept, path)
        wire.channel = grpc.aio.insecure_channel(
            f"unix:{path}",
            options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.default_authority", "broker"),
                ("grpc.enable_retries", 0),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 10_000),  # so long an attempt may take: a busy machine is slow
                ("grpc.max_reconnect_backoff_ms", 100),
            ],
        )
        try:
            yield wire
        finally:
            await wire.channel.close()
            server.close()
            await wire.drop()
