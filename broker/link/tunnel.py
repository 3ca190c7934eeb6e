"""Mutual TLS for gRPC and HTTP clients that checks the server's SPIFFE ID.

grpcio compares a server certificate with host names only; an X.509-SVID carries its name as a URI, and there is no
hook. So gRPC speaks HTTP/2 in the clear to a private unix socket of this very process; the tunnel behind it does TLS
with the SVID, and sends nothing before it has seen who answers. (The upstream wish: grpc/grpc#32635.) HTTP clients take
the same way, so that there is one wall.
"""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc

from broker.link.folder import Folder
from broker.link.handshake import PeerRefused, Protocol, check_server, client_context
from broker.link.identity import ChangingSupply, Identity, IdentitySupply
from broker.link.splice import LINGER_SECONDS, READ_AHEAD, discard, splice
from broker.svid.spiffe_id import SpiffeId

HANDSHAKE_SECONDS = 10.0
_CALL_SECONDS = 10.0
# Turns of the loop from an accepted socket to the end of its transport, which `_accept` refuses by then.
_ACCEPT_TURNS = 5
_CREDENTIALS = struct.Struct("3i")

_T = TypeVar("_T")


class _Ground:
    """What tunnels stand on: one thread, its event loop, and a folder for the sockets."""

    def __init__(self) -> None:
        self.folder = Folder()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="spiffe-tunnels", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_CALL_SECONDS)
        self.loop.close()
        self.folder.close()


class _Shared:
    """The one ground of all tunnels of this process; it is there as long as there is a tunnel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._ground: _Ground | None = None

    def acquire(self) -> tuple[asyncio.AbstractEventLoop, Path]:
        """Return the loop, and a path for one socket."""
        with self._lock:
            ground = self._ground = self._ground or _Ground()
            self._users += 1
            return ground.loop, ground.folder.socket()

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._ground is None:
                return
            ground, self._ground = self._ground, None
        ground.close()


_shared = _Shared()


class Tunnel:
    """A way to one server, by its SPIFFE ID.

    Each new connection uses the supply's current identity and bundles; when a supply that says so changes, the
    open ones are dropped: a connection keeps its leaf, and a peer refuses one that is over. With a fixed identity the
    tunnel stays with that leaf (one generation of a session) and takes only the bundles from the supply.

    Args:
        host: where the server listens.
        port: its port.
        server_id: who it must be.
        supply: of identity and bundles.
        clock: the time, UTC.
        identity: the one leaf to use, or None to follow the supply.
        protocol: what is spoken through it.

    """

    def __init__(  # noqa: PLR0913 - each is a word of its own, and all are named
        self,
        *,
        host: str,
        port: int,
        server_id: SpiffeId,
        supply: IdentitySupply,
        clock: Callable[[], datetime],
        identity: Identity | None = None,
        protocol: Protocol = Protocol.HTTP_2,
    ) -> None:
        self._host, self._port, self._server_id, self._protocol = host, port, server_id, protocol
        self._supply, self._clock, self._identity = supply, clock, identity
        self._last_error: Exception | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._closed = False
        self._changing = threading.Lock()  # a supply may say that it changed while this is being closed
        self._loop, self._path = _shared.acquire()
        try:
            self._server = self._call(asyncio.start_unix_server(self._accept, self._path, limit=READ_AHEAD))
        except BaseException:
            self._give_back()
            raise
        self._unsubscribe = _nothing
        if identity is None and isinstance(supply, ChangingSupply):
            self._unsubscribe = supply.subscribe(self.reconnect)

    @property
    def path(self) -> Path:
        """The socket that it listens on; only this process is let through."""
        return self._path

    @property
    def target(self) -> str:
        """What a gRPC channel connects to."""
        return f"unix:{self._path}"

    @property
    def closed(self) -> bool:
        """Whether it lets nobody through any more."""
        return self._closed

    @property
    def server_id(self) -> SpiffeId:
        """Who is at the other end."""
        return self._server_id

    @property
    def last_error(self) -> Exception | None:
        """Why the newest connection failed or broke, None once one has succeeded; gRPC says only "Socket closed"."""
        return self._last_error

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def channel(self, *, options: Sequence[tuple[str, Any]] = ()) -> grpc.aio.Channel:
        """Make a channel through this tunnel; close it before the tunnel.

        The credentials are local ones: gRPC then allows call credentials, which it refuses on an insecure channel.
        """
        own = (
            ("grpc.default_authority", self._server_id.trust_domain),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            # Despite its name this is how long one attempt may take, not how long to wait before the next.
            ("grpc.min_reconnect_backoff_ms", 10_000),
            ("grpc.max_reconnect_backoff_ms", 5000),
        )
        credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
        return grpc.aio.secure_channel(self.target, credentials, options=[*own, *options])

    def reconnect(self) -> None:
        """Drop every open connection; the next one is made with what is current.

        Calls in flight fail, and so may one that begins before gRPC has noticed (UNAVAILABLE, both). To change leaves
        without a failed call, open a second tunnel with the new identity and let the first one run dry.
        """
        with self._changing:
            if not self._closed:
                self._call(self._drop())

    def close(self) -> None:
        """Drop every connection and remove the socket. More than once is harmless."""
        self._unsubscribe()
        with self._changing:
            if self._closed:
                return
            self._closed = True
            try:
                self._call(self._shut())
            finally:
                self._give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run on the tunnels' loop and wait; each such piece of work is short."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_SECONDS)

    def _give_back(self) -> None:
        self._path.unlink(missing_ok=True)
        _shared.release()

    async def _shut(self) -> None:
        """Stop listening; asyncio would forget what it has accepted and not yet handed on, with an open socket each."""
        for listening in self._server.sockets:
            self._loop.remove_reader(listening.fileno())
        for _ in range(_ACCEPT_TURNS):
            await asyncio.sleep(0)
        self._server.close()
        await self._drop()

    async def _drop(self) -> None:
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own instead of the one asyncio would make, so that it can be cancelled and none is left behind.
        if self._closed:
            writer.transport.abort()
            return
        task = self._loop.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            _check_own_process(writer)
            answers, upstream = await self._connect()
            self._last_error = None
            try:
                heard = await splice(reader, writer, answers, upstream)
            finally:
                await discard(upstream)
            if not heard:
                # TLS 1.3 lets a server refuse our certificate after the handshake, and gRPC's does so without a word.
                self._last_error = PeerRefused(f"{self._server_id} closed at once: it may not accept our SVID.")
        except Exception as error:  # noqa: BLE001 - kept for the owner: there is nobody else to tell
            self._last_error = error
        finally:
            await discard(writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, shake hands, and see who answers; nothing has been sent when this returns."""
        identity = self._identity or self._supply.identity()
        context = client_context(identity, self._supply.bundles(), self._server_id, self._clock(), self._protocol)
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            reader, writer = await asyncio.open_connection(
                self._host,
                self._port,
                ssl=context,
                server_hostname="",
                ssl_shutdown_timeout=LINGER_SECONDS,
                limit=READ_AHEAD,
            )
        try:
            check_server(writer.get_extra_info("ssl_object"), self._server_id, self._clock(), self._protocol)
        except BaseException:
            await discard(writer)
            raise
        return reader, writer


def _nothing() -> None:
    """Undo nothing."""


def _check_own_process(writer: asyncio.StreamWriter) -> None:
    """Let nobody but this process through: the tunnel speaks with its identity.

    The directory keeps other users out; this keeps out other processes of the same user.
    """
    peer: socket.socket = writer.get_extra_info("socket")
    pid, _, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if pid != os.getpid():
        raise PeerRefused("Another process connected to the tunnel's socket.")
