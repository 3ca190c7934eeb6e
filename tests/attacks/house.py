"""A house under attack: the real door (mTLS on loopback) before the real issuer, and whoever wants in.

Its identity and its trust come from a fake Workload API, as they come from SPIRE in production.
"""

import json
import socket
import tempfile
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from shutil import copytree
from typing import Any

import grpc

from broker.admin.v1 import admin_pb2, admin_pb2_grpc
from broker.app.door import open_door
from broker.app.identity import open_identity
from broker.app.issuer import open_issuer
from broker.issuer.local import LocalIssuer
from broker.link.source import IdentitySource
from broker.operations.calls import AuditPageCall, Context
from broker.server.door import Door
from broker.settings import Listen, Settings, load
from tests.attacks.wire import Wire, context_of, open_wire
from tests.fakes.trust_domain import Svid, TrustDomain, pem
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import BROKER, BUNDLE, SECURITY, Time, configuration
from tests.polling import eventually
from tests.unit.policy.bundles import compiled

NAME = "broker.example.org"
HEARTBEAT = "PT0.2S"

# What the example bundle gets in addition, for these tests.
INVOICES = "spiffe://example.org/service/invoices"
AUDITOR = "spiffe://example.org/operator/auditor"
PARTNER_AUDITOR = "spiffe://partner.example/operator/auditor"
ADDED = f"""
[[service]]
spiffe_id = "{INVOICES}"
tenants = ["retail", "wholesale"]

[[service.resource_type]]
name = "order"
cedar_type = "Order"
sensitivity = "low"
"""
READERS = "".join(
    f'\n[[operator]]\nspiffe_id = "{reader}"\nroles = ["security"]\nall_tenants = true\n'
    for reader in (AUDITOR, PARTNER_AUDITOR)
)


@dataclass(kw_only=True)
class House:
    """Everything that a test of an attack has in hand."""

    folder: Path
    home: TrustDomain
    partner: TrustDomain
    workload: WorkloadApi
    settings: Settings
    time: Time
    identity: IdentitySource
    broker: Svid
    issuer: LocalIssuer = field(init=False)
    door: Door = field(init=False)
    events: list[dict[str, Any]] = field(default_factory=list)
    _cursor: str = ""
    _running: AsyncExitStack = field(default_factory=AsyncExitStack)
    _channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    _sources: Any = field(default_factory=lambda: count(2))
    _requests: Any = field(default_factory=count)

    # --- the broker ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start issuer and door, always on the same port."""
        stack = self._running
        self.issuer = await stack.enter_async_context(open_issuer(self.settings, self.identity.bundles, self.time))
        self.door = await stack.enter_async_context(open_door(self.settings, self.identity, self.issuer))

    async def stop(self) -> None:
        """Stop both."""
        await self._running.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        await self.stop()

    async def status(self) -> admin_pb2.GetStatusResponse:
        """Ask the admin socket."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"unix:{self.settings.admin.socket}", options=options) as channel:
            stub = admin_pb2_grpc.AdminServiceStub(channel)
            answer: admin_pb2.GetStatusResponse = await stub.GetStatus(admin_pb2.GetStatusRequest(), timeout=60)
        return answer

    # --- whoever wants in ------------------------------------------------------------------------------------------

    def domain_of(self, spiffe_id: str) -> TrustDomain:
        """Return who issues for an ID; the home domain for what is none."""
        return self.partner if spiffe_id.startswith("spiffe://partner.example") else self.home

    def svid(self, who: str, *, by: TrustDomain | None = None, **form: Any) -> Svid:
        """Issue an SVID now, by its own domain unless another one forges it."""
        domain = by or self.domain_of(who)
        domain.now = datetime.now(UTC).replace(microsecond=0)
        return domain.svid(who, **form)

    def channel(self, svid: Svid) -> grpc.aio.Channel:
        """Connect by gRPC's own TLS; the caller closes it."""
        credentials = grpc.ssl_channel_credentials(pem(self.home.bundle), svid.private_key, svid.certificate_chain)
        options = [
            ("grpc.ssl_target_name_override", NAME),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 10_000),  # so long an attempt may take: a busy machine is slow
            ("grpc.max_reconnect_backoff_ms", 100),
        ]
        return grpc.aio.secure_channel(f"127.0.0.1:{self.door.port}", credentials, options=options)

    def good(self, who: str) -> grpc.aio.Channel:
        """Return the one lasting channel of a caller in good standing."""
        if who not in self._channels:
            self._channels[who] = self.channel(self.svid(who))
        return self._channels[who]

    def wire(self, svid: Svid, **tls: Any) -> Any:
        """Connect by a raw wire, from an address that nobody has used: refusals are counted by source."""
        number = next(self._sources)
        source = f"127.1.{number // 250}.{number % 250 + 1}"
        return open_wire(self.door.port, context_of(svid, pem(self.home.bundle), **tls), source=source)

    # --- the log ---------------------------------------------------------------------------------------------------

    async def log(self, *, whole: bool = False) -> list[dict[str, Any]]:
        """Read what is new in the log, at the issuer itself; return all of it, its openings under "opened"."""
        if whole:
            self.events, self._cursor = [], ""
        while True:
            context = Context(evidence=self._reader().evidence(), request=f"req_test{next(self._requests)}")
            page = await self.issuer.audit_page(AuditPageCall(context=context, cursor=self._cursor, personal=True))
            self._cursor = page.page.cursor
            for event in page.events:
                opened = {opening.field: json.loads(opening.value) for opening in event.openings}
                members = {"position": event.position, "opened": opened, "content": event.content}
                self.events.append(json.loads(event.content) | members)
            if page.page.stop >= page.page.size:
                return self.events

    async def recorded(self, request: str) -> list[dict[str, Any]]:
        """Return the events of one request, by the id that the refusal names."""
        return [event for event in await self.log() if event.get("request") == request]

    def _reader(self) -> Svid:
        if not hasattr(self, "_auditor"):
            self._auditor = self.svid(SECURITY)
        return self._auditor

    # --- what the house stands on ----------------------------------------------------------------------------------

    def trust(self, *federated: TrustDomain) -> None:
        """Let the Workload API give these domains' bundles beside the home domain's."""
        self.workload.give_svid(self.broker, self.home, *federated)

    async def policy(self, change: Callable[[dict[str, str]], Mapping[str, str | None]]) -> None:
        """Change files of the bundle (None removes one), and wait until the change decides."""
        folder = self.settings.policy.dir
        texts = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        for name, text in change(texts).items():
            if text is None:
                (folder / name).unlink()
            else:  # whole or not at all: the broker looks every tenth of a second
                (self.folder / name).write_text(text)
                (self.folder / name).replace(folder / name)
        wanted = compiled({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}).digest
        await eventually(lambda: self._decides(wanted))

    async def _decides(self, digest: str) -> bool:
        """Whether it is this bundle that decides; one that was seen half is seen whole in a moment."""
        return (await self.issuer.state()).policy_digest == digest


@asynccontextmanager
async def open_house(
    *, keys: str = "", heartbeat: str = HEARTBEAT, ahead: timedelta = timedelta(0)
) -> AsyncIterator[House]:
    """Build a house and let it serve; `keys` is what its configuration says in [keys]."""
    with tempfile.TemporaryDirectory(prefix="house-") as directory:
        folder = Path(directory)
        home, partner = TrustDomain("example.org"), TrustDomain("partner.example")
        broker = home.svid(BROKER, dns=(NAME,), ttl=timedelta(hours=12))
        workload = WorkloadApi(folder / "agent.sock")
        workload.give_svid(broker, home, partner)
        workload.start()
        async with AsyncExitStack() as stack:
            stack.callback(workload.stop)
            port = stack.enter_context(kept_port())
            settings = load(_configured(folder, keys, heartbeat))
            settings = settings.model_copy(update={"listen": Listen(address=f"127.0.0.1:{port}")})
            identity = await stack.enter_async_context(open_identity(settings))
            house = House(
                folder=folder,
                home=home,
                partner=partner,
                workload=workload,
                settings=settings,
                time=Time(ahead=ahead),
                identity=identity,
                broker=broker,
            )
            stack.push_async_callback(house.close)
            await house.start()
            yield house


@contextmanager
def kept_port() -> Iterator[int]:
    """Keep a port: a broker can listen there again and again, and the kernel gives it to nobody else meanwhile."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        yield port


def _configured(folder: Path, keys: str, heartbeat: str) -> Path:
    policy = folder / "policy"
    copytree(BUNDLE, policy)
    entities = policy / "entities.toml"
    text = entities.read_text()
    assert tomllib.loads(text)
    entities.write_text(text + ADDED + READERS)
    socket = f'socket = "unix:{folder}/agent.sock"'
    path = configuration(folder, policy=policy, workload_api=socket, limits=f'heartbeat = "{heartbeat}"')
    text = path.read_text().replace("[policy]\n", '[policy]\nreload_every = "PT0.1S"\n')
    path.write_text(text.replace("[keys]\n", f"[keys]\n{keys}\n"))
    return path


__all__ = ["House", "Wire", "open_house"]
