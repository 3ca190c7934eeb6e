"""A running door over loopback: a fake trust domain, a fake issuer, channels with any SVID."""

import asyncio
import contextlib
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import grpc
import structlog
from google.rpc.error_details_pb2 import ErrorInfo, LocalizedMessage
from google.rpc.status_pb2 import Status
from structlog.testing import LogCapture

from broker.server.door import Door
from broker.server.limits import Limits
from broker.server.observe import Counters
from broker.svid.authenticate import Authenticator
from broker.svid.spiffe_id import SpiffeId
from broker.v1 import exchange_pb2, types_pb2
from tests.fakes.issuer import FakeIssuer, new_ids
from tests.fakes.trust_domain import Svid, TrustDomain, pem

BROKER = SpiffeId.parse("spiffe://example.org/broker")
NAME = "broker.example.org"
ORDERS = "spiffe://example.org/orders"
LIVES = (3, 10, 40)  # seconds
T = TypeVar("T")


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


async def before_its_end(world: "World", begin: Callable[[], Awaitable[T]]) -> T:
    """Begin something by an SVID that ends soon, but not before that has begun."""
    for seconds in LIVES:
        world.domain.now = datetime.now(UTC).replace(microsecond=0)
        world.agent = world.domain.svid("/agent", ttl=timedelta(seconds=seconds))
        try:
            return await begin()
        except (AssertionError, grpc.aio.AioRpcError):
            if datetime.now(UTC) < world.agent.leaf.not_valid_after_utc:
                raise
    raise AssertionError(f"it had not begun in {LIVES[-1]} s")


def tasks() -> Counter[str]:
    """What runs on this loop, by name; gRPC replaces its own tasks by others of the same name."""
    return Counter(str(getattr(task.get_coro(), "__qualname__", task)) for task in asyncio.all_tasks())


async def settled(value: Callable[[], object]) -> None:
    """Poll until a value has stayed the same for a while."""
    unchanged, last = 0, value()
    while unchanged < 60:
        await asyncio.sleep(0.005)
        unchanged, last = (unchanged + 1, last) if value() == last else (0, value())


async def ended(call: Any) -> grpc.aio.AioRpcError:
    """Read a stream to its end; return the error that ended it."""
    try:
        async with asyncio.timeout(60):
            while await call.read() is not grpc.aio.EOF:
                pass
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the stream ended well")


@dataclass(slots=True, kw_only=True)
class World:
    """What a test of the door has in hand. `ahead` moves the clock of door and issuer."""

    domain: TrustDomain
    issuer: FakeIssuer
    door: Door
    counters: Counters
    log: LogCapture
    admin: Path
    agent: Svid
    ahead: list[timedelta]
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    def channel(self, svid: Svid | None = None, *options: tuple[str, Any]) -> grpc.aio.Channel:
        """Connect with an SVID; the agent's when None."""
        svid = svid or self.agent
        credentials = grpc.ssl_channel_credentials(pem(self.domain.bundle), svid.private_key, svid.certificate_chain)
        return self.connect(credentials, *options)

    def connect(self, credentials: grpc.ChannelCredentials, *options: tuple[str, Any]) -> grpc.aio.Channel:
        own = [("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.secure_channel(f"127.0.0.1:{self.door.port}", credentials, options=[*own, *options])
        self.channels.append(channel)
        return channel

    def admin_channel(self) -> grpc.aio.Channel:
        channel = grpc.aio.insecure_channel(f"unix:{self.admin}", options=[("grpc.use_local_subchannel_pool", 1)])
        self.channels.append(channel)
        return channel


@asynccontextmanager
async def open_world(**limits: float) -> AsyncIterator[World]:
    """Start a door."""
    domain = TrustDomain()
    ahead = [timedelta()]

    def clock() -> datetime:
        return datetime.now(UTC) + ahead[0]

    issuer = FakeIssuer(authenticator=Authenticator(own_id=BROKER), bundles=domain.bundles(), clock=clock)
    counters, log = Counters(), LogCapture()
    broker = domain.svid("/broker", dns=(NAME,), ttl=timedelta(hours=12))

    def fetch() -> Any:
        counters.handshake_begun()
        return None

    configuration = grpc.ssl_server_certificate_configuration(
        [(broker.private_key, broker.certificate_chain)], pem(domain.bundle)
    )
    with tempfile.TemporaryDirectory(prefix="door-") as directory:
        admin = Path(directory) / "a" / "admin.sock"
        door = Door(
            issuer=issuer,
            credentials=grpc.dynamic_ssl_server_credentials(configuration, fetch, require_client_authentication=True),
            address="127.0.0.1:0",
            admin_socket=admin,
            counters=counters,
            log=structlog.wrap_logger(None, processors=[log]),
            new_id=new_ids(),
            clock=clock,
            limits=Limits(**limits),  # type: ignore[arg-type]  # any of them
        )
        await door.start()
        world = World(
            domain=domain,
            issuer=issuer,
            door=door,
            counters=counters,
            log=log,
            admin=admin,
            agent=domain.svid("/agent"),
            ahead=ahead,
        )
        try:
            yield world
        finally:
            for channel in world.channels:
                await channel.close()
            await door.stop(0)


@asynccontextmanager
async def old_tls(world: World) -> AsyncIterator[grpc.aio.Channel]:
    """A channel that speaks TLS 1.2 to the door: gRPC in the clear to a socket, the stdlib's TLS behind it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=pem(world.domain.bundle).decode())
    with tempfile.TemporaryDirectory(prefix="old-tls-") as directory:
        (Path(directory) / "c").write_bytes(world.agent.certificate_chain)
        (Path(directory) / "k").write_bytes(world.agent.private_key)
        context.load_cert_chain(Path(directory) / "c", Path(directory) / "k")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", world.door.port, ssl=context)
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))

        path = f"{directory}/s"
        server = await asyncio.start_unix_server(serve, path)
        async with server, grpc.aio.insecure_channel(f"unix:{path}") as channel:
            yield channel


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def request(**changes: Any) -> exchange_pb2.ExchangeRequest:
    """A valid exchange; fields of its intent may be changed."""
    fields: dict[str, Any] = {
        "action": "order.read",
        "resource": types_pb2.Resource(type="order", id="1234"),
        "purpose": "support",
        "audience": ORDERS,
    }
    return exchange_pb2.ExchangeRequest(intent=types_pb2.Intent(**(fields | changes)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A refusal as it came over the wire."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    sentence: str
    everything: str


def told(error: grpc.aio.AioRpcError) -> Told:
    """Read a failed call's status; one without ErrorInfo has an empty reason."""
    details = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    status = Status.FromString(details[0]) if details and isinstance(details[0], bytes) else Status()
    return read_status(status, error.code(), error.details() or "")


def read_status(status: Status, code: grpc.StatusCode, message: str) -> Told:
    info, localized = ErrorInfo(), LocalizedMessage()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(localized)
    return Told(
        code=code,
        message=message,
        reason=info.reason,
        metadata=dict(info.metadata),
        sentence=localized.message,
        everything=f"{status}{message}",
    )
