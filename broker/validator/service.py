"""A service with all that it needs to judge its calls: its own SVID, a way to the broker, and the feed."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from broker.link.credentials import server_credentials
from broker.link.source import IdentitySource
from broker.link.tunnel import Tunnel
from broker.svid.spiffe_id import SpiffeId
from broker.validator.asgi import App, ValidatorMiddleware
from broker.validator.bounds import Bounds, Entry
from broker.validator.check import Membership
from broker.validator.guard import Guard
from broker.validator.interceptor import ValidatorInterceptor
from broker.validator.reports import Reports
from broker.validator.validation import Validation, open_validator


class NoFeed(Exception):
    """Nothing is known of revocations and keys; the message says why. Calls are refused meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedService:
    """A service on its own SVID that follows the broker. Make one with `connect`."""

    source: IdentitySource
    tunnel: Tunnel
    validation: Validation

    def interceptor(
        self, *, services: Sequence[ServiceDescriptor], calls: Mapping[str, Entry], open_to: Collection[str] = ()
    ) -> ValidatorInterceptor:
        """Return what guards a gRPC server; see ValidatorInterceptor."""
        return self.validation.interceptor(bundles=self.source.bundles, services=services, calls=calls, open_to=open_to)

    def middleware(
        self,
        app: App,
        *,
        calls: Mapping[str, Entry],
        open_to: Collection[str] = (),
        routes: Collection[str] | None = None,
    ) -> ValidatorMiddleware:
        """Return what guards an ASGI application; see ValidatorMiddleware."""
        return self.validation.middleware(app, bundles=self.source.bundles, calls=calls, open_to=open_to, routes=routes)

    def guard(self) -> Guard:
        """Return what judges single calls; see `Guard.accept`."""
        return self.validation.guard(self.source.bundles)

    @property
    def reports(self) -> Reports | None:
        """What is reported, for a use that is answered for later (see `Use.later`); None without a spool."""
        return self.validation.reports

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return TLS credentials for a gRPC server's port: the service's SVID, renewed by themselves."""
        return server_credentials(self.source, on_handshake=lambda: None, on_failure=lambda: None)

    async def ready(self, *, within: float = 20.0) -> None:
        """Return once calls can be judged.

        Args:
            within: seconds to wait.

        Raises:
            NoFeed: they cannot, in that time. The service may begin nevertheless: it refuses until they can.

        """
        try:
            async with asyncio.timeout(within):
                await self.validation.feed.ready()
        except TimeoutError:
            said = self.validation.feed.problem or "no answer"
            why = f"{said} ({self.tunnel.last_error})" if self.tunnel.last_error else said
            raise NoFeed(f"no revocations and keys from the broker: {why}") from None


@asynccontextmanager
async def connect(  # noqa: PLR0913 - each is a word of its own, and most have a default
    address: str,
    *,
    broker_id: str,
    issuer: str,
    spiffe_id: str | None = None,
    hint: str | None = None,
    socket: str | None = None,
    bounds: Bounds | None = None,
    membership: Membership | None = None,
    spool: Path | None = None,
    timeout: float = 30.0,  # noqa: ASYNC109 - for the first SVID, which a thread waits for
) -> AsyncIterator[GuardedService]:
    """Follow a broker, as the service that this process is, as long as the context lasts.

    Credentials are accepted for this process's own SPIFFE ID, which the policy bundle registers as a service.

    Args:
        address: of the broker, "host:port".
        broker_id: its SPIFFE ID; nobody else is believed.
        issuer: its `iss`.
        spiffe_id: the SVID to use, when the workload has several.
        hint: the same, by the operator's hint.
        socket: of the Workload API; None takes SPIFFE_ENDPOINT_SOCKET.
        bounds: how old the view may be, by class of call; see Bounds.
        membership: see Validator.
        spool: a folder of this process's own, where reports of uses and outcomes wait to be sent; None: none are made.
        timeout: seconds to wait for the SVID.

    Raises:
        IdentityUnavailable: no SVID; `fix` says what to do.
        Refusal: broker_id is no SPIFFE ID.
        SpoolUnusable: the spool's folder cannot hold reports.
        ValueError: the address is not "host:port".

    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{address!r} is not host:port, such as broker.example.org:8443")
    server_id = SpiffeId.parse(broker_id)
    async with AsyncExitStack() as stack:
        source = await IdentitySource.open(socket=socket, spiffe_id=spiffe_id, hint=hint, timeout=timeout)
        stack.callback(source.close)
        tunnel = stack.enter_context(
            Tunnel(
                host=host.removeprefix("[").removesuffix("]"),
                port=int(port),
                server_id=server_id,
                supply=source,
                clock=lambda: datetime.now(UTC),
            )
        )
        channel = await stack.enter_async_context(tunnel.channel())
        validation = await stack.enter_async_context(
            open_validator(
                channel=channel,
                issuer=issuer,
                audience=str(source.identity().spiffe_id),
                bounds=bounds,
                membership=membership,
                spool=spool,
            )
        )
        loop = asyncio.get_running_loop()

        def hurry() -> None:
            loop.call_soon_threadsafe(validation.feed.hurry)

        # After the tunnel's own subscription: by then the connection with the old SVID is gone.
        stack.callback(source.subscribe(hurry))
        yield GuardedService(source=source, tunnel=tunnel, validation=validation)
