"""A fake agent, and a gRPC server that says who called, judged as the broker judges."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc

from broker.errors import Refusal
from broker.link.credentials import server_credentials
from broker.link.source import IdentitySource
from broker.svid.authenticate import Authenticator
from broker.svid.principal import Evidence
from broker.svid.spiffe_id import SpiffeId

BROKER = SpiffeId.parse("spiffe://example.org/broker")
WHO = "/test.Who/Am"


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


def evidence_of(context: grpc.aio.ServicerContext[bytes, bytes]) -> Evidence:
    """What server/peer.py does, in short."""
    presented = context.auth_context()

    def first(name: str) -> bytes:
        return next(iter(presented.get(name, ())), b"")

    return Evidence(
        leaf=first("x509_pem_cert"),
        chain=first("x509_pem_cert_chain"),
        tls_version=first("ssl_tls_version").decode(),
        session_reused=first("ssl_session_reused") == b"true",
        source=context.peer(),
    )


@dataclass(slots=True)
class Door:
    """A running server. `clock` may be set; `seen` is the evidence of each call, `answers` what was said to it."""

    source: IdentitySource
    port: int = 0
    handshakes: int = 0
    failures: int = 0
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    seen: list[Evidence] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    authenticator: Authenticator = field(default_factory=lambda: Authenticator(own_id=BROKER))

    def count_handshake(self) -> None:
        self.handshakes += 1

    def count_failure(self) -> None:
        self.failures += 1

    async def who(self, _: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        self.seen.append(evidence_of(context))
        try:
            caller = self.authenticator.authenticate(self.seen[-1], self.source.bundles(), self.clock())
        except Refusal as refusal:
            self.answers.append(refusal.reason.name)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, refusal.reason.name)
        self.answers.append(str(caller.spiffe_id))
        return self.answers[-1].encode()


@asynccontextmanager
async def open_door(source: IdentitySource, *options: tuple[str, int]) -> AsyncIterator[Door]:
    """Serve on loopback."""
    door = Door(source)
    server = grpc.aio.server(options=options)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(door.who)
    service, method = WHO.removeprefix("/").split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    credentials = server_credentials(source, on_handshake=door.count_handshake, on_failure=door.count_failure)
    door.port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield door
    finally:
        await server.stop(0)


async def ask(channel: grpc.aio.Channel) -> str:
    """Ask who we are."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(WHO)
    return (await call(b"", timeout=60)).decode()
