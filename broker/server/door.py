"""Door: builds and runs the gRPC servers, one for agents and services over mTLS, one for operators on a unix socket."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import grpc
from grpc_reflection.v1alpha import reflection
from structlog.typing import FilteringBoundLogger

from broker.admin.v1 import admin_pb2, admin_pb2_grpc
from broker.issuer.port import Issuer
from broker.server import health
from broker.server.admin import AdminServicer
from broker.server.approval import ApprovalServicer
from broker.server.audit import AuditServicer
from broker.server.exchange import ExchangeServicer
from broker.server.follow import Follow
from broker.server.hub import Hub
from broker.server.keys import KeyServicer
from broker.server.limits import Limits
from broker.server.observe import CallLog, Counters
from broker.server.outcome import OutcomeServicer
from broker.server.override import OverrideServicer
from broker.server.reception import Reception
from broker.server.redeem import RedemptionServicer
from broker.server.revoke import RevocationServicer
from broker.server.task import TaskServicer

_MAX_SOCKET_PATH: Final = 107


class Door:
    """The gRPC side of a broker. Has no key and no database: everything is asked of the issuer.

    Args:
        issuer: the port.
        credentials: the agent port's TLS, as `link.credentials.server_credentials` makes it.
        address: host and port to listen on; port 0 takes a free one.
        admin_socket: the admin server's socket, or None for none.
        counters: given to the TLS credentials as well, which count handshakes.
        log: the structured log.
        new_id: makes an id from its prefix.
        clock: the time, UTC.
        limits: what is allowed.

    """

    def __init__(  # noqa: PLR0913 - each is a word of its own, and all are named
        self,
        *,
        issuer: Issuer,
        credentials: grpc.ServerCredentials,
        address: str,
        admin_socket: Path | None,
        counters: Counters,
        log: FilteringBoundLogger,
        new_id: Callable[[str], str],
        clock: Callable[[], datetime],
        limits: Limits,
    ) -> None:
        self._issuer, self._credentials, self._address = issuer, credentials, address
        self._admin_socket, self._counters, self._limits = admin_socket, counters, limits
        self._hub = Hub(issuer.changes)
        self._reception = Reception(
            issuer=issuer, counters=counters, call_log=CallLog(log), new_id=new_id, clock=clock, limits=limits
        )
        self._server: grpc.aio.Server | None = None
        self._admin: grpc.aio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port that agents connect to; 0 before the start."""
        return self._port

    async def start(self) -> None:
        """Listen and serve.

        Raises:
            OSError: the address or the socket cannot be listened on; the message names it.

        """
        self._hub.start()
        try:
            self._admin = await self._start_admin()
            self._server = await self._start_server()
        except BaseException:
            await self.stop(0)
            raise

    async def stop(self, grace: float) -> None:
        """Take no new calls, end the streams, let calls finish, and close.

        Args:
            grace: seconds that calls may still take.

        """
        stopping = [server.stop(grace) for server in (self._server, self._admin) if server is not None]
        await asyncio.gather(self._hub.close(), *stopping)
        await self._reception.close(grace)
        self._server = self._admin = None
        if self._admin_socket is not None:
            with contextlib.suppress(FileNotFoundError):
                self._admin_socket.unlink()

    async def _start_server(self) -> grpc.aio.Server:
        reception, hub = self._reception, self._hub
        follow = Follow(reception=reception, hub=hub)
        server = grpc.aio.server(options=self._limits.options())
        server.add_generic_rpc_handlers(
            (
                ExchangeServicer(reception=reception, hub=hub).handler(),
                TaskServicer(reception=reception).handler(),
                RevocationServicer(reception=reception, follow=follow).handler(),
                AuditServicer(reception=reception, follow=follow).handler(),
                KeyServicer(reception=reception).handler(),
                OverrideServicer(reception=reception).handler(),
                ApprovalServicer(reception=reception, follow=follow).handler(),
                RedemptionServicer(reception=reception).handler(),
                OutcomeServicer(reception=reception).handler(),
                health.HealthServicer(reception=reception, hub=hub).handler(),
            )
        )
        try:
            self._port = server.add_secure_port(self._address, self._credentials)
        except RuntimeError as problem:
            raise OSError(f"cannot listen on {self._address}: is the port taken?") from problem
        await server.start()
        return server

    async def _start_admin(self) -> grpc.aio.Server | None:
        path = self._admin_socket
        if path is None:
            return None
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            raise OSError(f"the admin socket's path is longer than {_MAX_SOCKET_PATH} bytes: {path}")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        servicer = AdminServicer(issuer=self._issuer, hub=self._hub, counters=self._counters, limits=self._limits)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(servicer, server)
        server.add_generic_rpc_handlers((health.LocalHealth(hub=self._hub).handler(),))
        names = (admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name, health.NAME)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
        # Whoever may connect may ask: the mode is narrowed before anybody can, by the mask the socket is made under.
        mask = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as problem:
            raise OSError(f"cannot listen on {path}: does another broker use it?") from problem
        finally:
            os.umask(mask)
        await server.start()
        return server
