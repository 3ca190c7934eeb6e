"""The stage with a guarded HTTP service besides: uvicorn behind SVID mTLS, and our middleware in front of its app."""

import asyncio
import hashlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import uvicorn
from cryptography.hazmat.primitives import serialization
from uvicorn.protocols.http.h11_impl import H11Protocol

from broker.intent import Resource
from broker.link.handshake import load
from broker.link.identity import Snapshot
from broker.link.source import IdentitySource
from broker.link.tunnel import Tunnel
from broker.svid.spiffe_id import SpiffeId
from broker.validator import Call, Entry, HttpRequest, Validation, open_validator, reads
from tests.client.stage import PATIENT, Stage, open_stage
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import BROKER, ORDERS

LARGE = 5 * 1024 * 1024


def _read(request: HttpRequest) -> Call:
    return Call(action="order.read", resource=Resource(type="order", id=request.names["order"]), tenant="retail")


async def _refund(request: HttpRequest) -> Call:
    return Call(
        action="order.refund",
        resource=Resource(type="order", id=request.names["order"]),
        tenant="retail",
        parameters={"amount": json.loads(await request.body())["amount"], "currency": "EUR"},
    )


CALLS: Mapping[str, Entry] = {
    "GET /orders/{order}": reads(_read),
    "GET /orders/{order}/all": reads(_read),
    "GET /orders/{order}/moved": reads(_read),
    "GET /orders/{order}/odd": reads(_read),
    "PUT /orders/{order}/scan": reads(_read),
    "POST /orders/{order}/refund": _refund,
}


@dataclass
class Shop:
    """The application; `seen` are the authorization headers that came through, `moved_to` where it redirects."""

    seen: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    moved_to: str = ""
    odd: tuple[int, bytes, bytes] = (404, b"application/json", b'{"detail": "gone"}')

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer; what was sent is answered by its digest."""
        headers = dict(scope["headers"])
        self.seen.append(headers.get(b"authorization", b"").decode())
        self.asked.append(scope["path"])
        digest, more = hashlib.sha256(), True
        while more:
            message = await receive()
            digest.update(message.get("body", b""))
            more = message.get("more_body", False)
        status, kind, content, extra = 200, b"text/plain", digest.hexdigest().encode(), []
        match scope["path"].rpartition("/")[2]:
            case "all":
                content = b"x" * LARGE
            case "moved":
                status, extra = 307, [(b"location", self.moved_to.encode())]
            case "odd":
                status, kind, content = self.odd
            case _:
                pass
        extra += [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": extra})
        await send({"type": "http.response.body", "body": content})


class _Protocol(H11Protocol):
    """Puts the peer's certificate where ASGI has a place for it."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        app, connection = self.app, transport.get_extra_info("ssl_object")
        tls = {"tls_version": connection.version(), "client_cert_chain": [connection.getpeercert(binary_form=True)]}

        async def with_peer(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "extensions": {"tls": tls}}, receive, send)

        self.app = with_peer


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to pytest."""
        yield


def rotating(source: IdentitySource) -> ssl.SSLContext:
    """Return a server's context that takes leaf and authorities from the source at each handshake."""

    def current(snapshot: Snapshot) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        load(context, snapshot.identity)
        for found in snapshot.bundles.authorities.values():
            for authority in found:
                context.load_verify_locations(cadata=authority.public_bytes(serialization.Encoding.DER))
        return context

    def choose(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = current(source.snapshot())

    outer = current(source.snapshot())
    outer.sni_callback = choose
    return outer


@asynccontextmanager
async def serving(app: Any, source: IdentitySource) -> AsyncIterator[str]:
    """Serve an application behind SVID mTLS; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it for its own sockets only
        config = uvicorn.Config(
            app, http=_Protocol, lifespan="off", log_config=None, ssl_context_factory=lambda *_: rotating(source)
        )
        server = _Server(config)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            await running


@dataclass(kw_only=True)
class HttpStage:
    """The stage, and what HTTP has besides."""

    stage: Stage
    shop: Shop
    address: str
    thief: Shop
    thief_address: str


@asynccontextmanager
async def open_http_stage() -> AsyncIterator[HttpStage]:
    """Build the stage, a guarded shop, and one that is somebody else and takes whatever it is sent."""
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(open_stage())
        sources = {}
        for who in (ORDERS, "spiffe://example.org/service/thief"):
            api = stage.service
            if who != ORDERS:
                api = WorkloadApi(stage.house.folder / "of-thief.sock")
                api.give_svid(stage.house.svid(who), stage.house.home)
                stack.callback(api.start().stop)
            sources[who] = await IdentitySource.open(socket=api.socket, spiffe_id=None, hint=None, timeout=60)
            stack.callback(sources[who].close)
        own, thiefs = sources.values()
        shop, thief = Shop(), Shop()
        validation = await stack.enter_async_context(validating(stage, own))
        guarded = validation.middleware(shop, bundles=own.bundles, calls=CALLS)
        yield HttpStage(
            stage=stage,
            shop=shop,
            address=await stack.enter_async_context(serving(guarded, own)),
            thief=thief,
            thief_address=await stack.enter_async_context(serving(thief, thiefs)),
        )


@asynccontextmanager
async def validating(stage: Stage, source: IdentitySource) -> AsyncIterator[Validation]:
    """Follow the broker as the service does; ready when it begins."""
    tunnel = Tunnel(
        host="127.0.0.1",
        port=stage.house.door.port,
        server_id=SpiffeId.parse(BROKER),
        supply=source,
        clock=lambda: datetime.now(UTC),
    )
    unsubscribe = source.subscribe(tunnel.reconnect)
    with tunnel:
        async with (
            tunnel.channel() as channel,
            open_validator(
                channel=channel, issuer=stage.house.settings.broker.issuer, audience=ORDERS, bounds=PATIENT
            ) as validation,
        ):
            await validation.feed.ready()
            yield validation
    unsubscribe()
