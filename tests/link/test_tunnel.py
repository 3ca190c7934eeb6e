"""The tunnel: who answers is checked before a byte is sent, and the leaf follows or stays, as the owner wants."""

import asyncio
import gc
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from spiffe import SpiffeId as PySpiffeId
from spiffe import X509Svid

from broker.errors import Reason, Refusal
from broker.link.handshake import PeerRefused
from broker.link.identity import Identity, IdentityUnavailable, identity_of
from broker.link.source import IdentitySource
from broker.link.tunnel import Tunnel
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId
from tests.fakes.trust_domain import Svid, TrustDomain, bundles_of, pem
from tests.fakes.workload_api import WorkloadApi
from tests.link.helpers import BROKER, Door, ask, open_door, until

WORDS = b"words" * 50_000


def identity(svid: Svid) -> Identity:
    return identity_of(X509Svid(PySpiffeId(svid.id), [svid.leaf, *svid.sent], svid.key))


@dataclass(slots=True)
class Supply:
    """A supply that is set by hand."""

    current: Identity
    trust: TrustBundles

    def identity(self) -> Identity:
        return self.current

    def bundles(self) -> TrustBundles:
        return self.trust


@dataclass(slots=True)
class Now:
    """A clock that is set by hand."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def home() -> TrustDomain:
    return TrustDomain("example.org")


@pytest.fixture
def supply(home: TrustDomain) -> Supply:
    return Supply(identity(home.svid("/agent")), home.bundles())


@pytest.fixture
async def door(agent: WorkloadApi, home: TrustDomain) -> AsyncIterator[Door]:
    agent.give_svid(home.svid("/broker"), home)
    source = await IdentitySource.open(socket=agent.socket, spiffe_id=None, hint=None, timeout=10)
    async with open_door(source) as opened:
        yield opened
    source.close()


def tunnel_to(
    port: int,
    supply: Supply | IdentitySource,
    *,
    server: SpiffeId = BROKER,
    clock: Now | None = None,
    fixed: Identity | None = None,
) -> Tunnel:
    return Tunnel(host="127.0.0.1", port=port, server_id=server, supply=supply, clock=clock or Now(), identity=fixed)


async def test_reaches_a_server_by_its_id(door: Door, supply: Supply) -> None:
    with tunnel_to(door.port, supply) as tunnel:
        async with tunnel.channel() as channel:
            assert await ask(channel) == "spiffe://example.org/agent"
            assert door.seen[-1].tls_version == "TLSv1.3"
            assert tunnel.last_error is None


async def failure(tunnel: Tunnel) -> Exception:
    """Call, see it fail, and return what the tunnel says."""
    async with tunnel.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(channel)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    await until(lambda: tunnel.last_error is not None)
    assert tunnel.last_error
    return tunnel.last_error


async def test_a_server_with_another_id_is_refused_and_the_error_says_which(door: Door, supply: Supply) -> None:
    other = SpiffeId.parse("spiffe://example.org/other")
    with tunnel_to(door.port, supply, server=other) as tunnel:
        error = await failure(tunnel)
    assert isinstance(error, PeerRefused)
    assert "spiffe://example.org/broker" in str(error)
    assert "spiffe://example.org/other" in str(error)
    assert door.seen == [], "nothing was sent"


async def test_d3_another_domains_authority_cannot_vouch_for_the_server(home: TrustDomain, supply: Supply) -> None:
    partner = TrustDomain("partner.test")
    supply.trust = home.bundles(partner)
    with plain_server(partner.svid(str(BROKER)), home) as server, tunnel_to(server.port, supply) as tunnel:
        assert isinstance(await failure(tunnel), ssl.SSLCertVerificationError)
        assert server.received == b""


async def test_an_authority_need_not_be_self_signed(home: TrustDomain, supply: Supply) -> None:
    authority = home.intermediate()
    supply.trust = bundles_of({"example.org": (authority.certificate,)})
    svid = home.svid("/broker", issuer=authority)
    with (
        plain_server(svid, home, answers=WORDS) as server,
        tunnel_to(server.port, supply) as tunnel,
        dial(tunnel) as near,
    ):
        near.sendall(b"question\n")
        assert await asyncio.to_thread(read_all, near) == WORDS


SERVERS = {
    "two-ids": ({"uris": (str(BROKER), "spiffe://example.org/other")}, Reason.SVID_URI_COUNT),
    "no-id": ({"uris": (), "dns": ("broker",)}, Reason.SVID_URI_COUNT),
    "may-sign": ({"usage": frozenset({"digital_signature", "key_cert_sign"})}, Reason.SVID_CAN_SIGN),
}


@pytest.mark.parametrize(("form", "reason"), SERVERS.values(), ids=SERVERS)
async def test_a_server_whose_leaf_is_no_svid_is_refused(
    home: TrustDomain, supply: Supply, form: dict[str, Any], reason: Reason
) -> None:
    with plain_server(home.svid("/broker", **form), home) as server, tunnel_to(server.port, supply) as tunnel:
        error = await failure(tunnel)
        assert isinstance(error, Refusal)
        assert error.reason is reason
        assert server.received == b""


async def test_a_server_whose_svid_has_ended_by_our_clock_is_refused(home: TrustDomain, supply: Supply) -> None:
    svid = home.svid("/broker", ttl=timedelta(minutes=5))
    clock = Now(timedelta(minutes=6))
    with plain_server(svid, home) as server, tunnel_to(server.port, supply, clock=clock) as tunnel:
        assert "expired" in str(await failure(tunnel))
        assert server.received == b""


async def test_a_server_of_tls_1_2_is_refused(home: TrustDomain, supply: Supply) -> None:
    with (
        plain_server(home.svid("/broker"), home, maximum=ssl.TLSVersion.TLSv1_2) as server,
        tunnel_to(server.port, supply) as tunnel,
    ):
        assert isinstance(await failure(tunnel), ssl.SSLError)


async def test_a_server_without_http_2_is_refused(home: TrustDomain, supply: Supply) -> None:
    with plain_server(home.svid("/broker"), home, alpn="http/1.1") as server, tunnel_to(server.port, supply) as tunnel:
        error = await failure(tunnel)
        assert isinstance(error, ssl.SSLError | PeerRefused)
        assert server.received == b""


async def test_our_own_expired_svid_is_said_instead_of_socket_closed(door: Door, supply: Supply) -> None:
    with tunnel_to(door.port, supply, clock=Now(timedelta(hours=2))) as tunnel:
        error = await failure(tunnel)
    assert isinstance(error, IdentityUnavailable)
    assert "expired" in error.message
    assert door.handshakes == 0


async def test_a_server_domain_without_bundle_is_said(door: Door, supply: Supply) -> None:
    with tunnel_to(door.port, supply, server=SpiffeId.parse("spiffe://partner.test/x")) as tunnel:
        error = await failure(tunnel)
    assert isinstance(error, IdentityUnavailable)
    assert "-federatesWith spiffe://partner.test" in error.fix


async def test_a_server_that_refuses_our_svid_is_said(door: Door, home: TrustDomain, supply: Supply) -> None:
    supply.current = identity(TrustDomain("example.org").svid("/agent"))
    with tunnel_to(door.port, supply) as tunnel:
        error = await failure(tunnel)
        assert isinstance(error, PeerRefused | OSError)
        supply.current = identity(home.svid("/agent"))
        async with tunnel.channel() as channel:
            assert await ask_again(channel) == "spiffe://example.org/agent"
            assert tunnel.last_error is None, "a success clears it"


async def test_nobody_listens(supply: Supply) -> None:
    with tunnel_to(1, supply) as tunnel:
        assert isinstance(await failure(tunnel), ConnectionRefusedError)


async def test_a_new_connection_uses_the_current_svid(door: Door, home: TrustDomain, supply: Supply) -> None:
    with tunnel_to(door.port, supply) as tunnel:
        async with tunnel.channel() as channel:
            await ask(channel)
            supply.current = identity(home.svid("/renewed"))
            assert await ask(channel) == "spiffe://example.org/agent", "an open connection keeps its leaf"
            tunnel.reconnect()
            assert await ask_again(channel) == "spiffe://example.org/renewed"


async def ask_again(channel: grpc.aio.Channel) -> str:
    """Ask on a connection that was dropped, which gRPC may notice only with a call."""
    while True:
        try:
            return await ask(channel)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise


async def test_a_tunnel_with_a_fixed_identity_stays_with_it(door: Door, home: TrustDomain, supply: Supply) -> None:
    with tunnel_to(door.port, supply, fixed=supply.current) as tunnel:
        async with tunnel.channel() as channel:
            supply.current = identity(home.svid("/renewed"))
            assert await ask(channel) == "spiffe://example.org/agent"
            tunnel.reconnect()
            assert await ask_again(channel) == "spiffe://example.org/agent"


async def test_a_tunnel_that_follows_a_source_takes_up_what_is_new(
    door: Door, home: TrustDomain, tmp_path: Path
) -> None:
    """A connection keeps its leaf: without a word from anybody it is dropped when leaf or bundle change."""
    own = WorkloadApi(tmp_path / "own.sock")
    own.give_svid(home.svid("/agent"), home)
    own.start()
    source = await IdentitySource.open(socket=own.socket, spiffe_id=None, hint=None, timeout=10)
    try:
        with tunnel_to(door.port, source) as following, tunnel_to(door.port, source, fixed=source.identity()) as fixed:
            async with following.channel() as channel, fixed.channel() as kept:
                await ask(kept)
                first = door.seen[-1].leaf
                await ask(channel)
                assert door.seen[-1].leaf == first
                own.give_svid(home.svid("/agent"), home)
                await until(lambda: source.identity().thumbprint != fixed._identity.thumbprint)  # type: ignore[union-attr]
                await until(lambda: following.connections == 0)
                await ask_again(channel)
                assert door.seen[-1].leaf != first
                await ask(kept)
                assert door.seen[-1].leaf == first, "a generation keeps its leaf, and its connection"
                home.add_authority()  # the bundle alone
                own.give_svid(home.svid("/agent"), home)
                await until(lambda: following.connections == 0)
                assert fixed.connections == 1
        assert source._callbacks == [], "a tunnel that is closed is told nothing more"
    finally:
        await asyncio.to_thread(source.close)
        await asyncio.to_thread(own.stop)


async def test_zero_failed_calls_while_both_sides_rotate(agent: WorkloadApi, home: TrustDomain) -> None:
    agent.give_svid(home.svid("/broker"), home)
    source = await IdentitySource.open(socket=agent.socket, spiffe_id=None, hint=None, timeout=10)
    supply = Supply(identity(home.svid("/agent-0")), home.bundles())
    # The server's limit on a connection's age makes gRPC move on without losing a call, as in production.
    async with open_door(
        source, ("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 5000)
    ) as door:
        with tunnel_to(door.port, supply) as tunnel:
            async with tunnel.channel() as channel:
                for number in range(1, 6):
                    if number % 2:
                        home.add_authority()
                        supply.trust = home.bundles(epoch=number)
                    agent.give_svid(home.svid("/broker"), home)
                    await until(lambda: set(source.bundles().authorities["example.org"]) == set(home.bundle))
                    supply.current = identity(home.svid(f"/agent-{number}"))
                    while await ask(channel) != f"spiffe://example.org/agent-{number}":
                        pass
    source.close()


async def test_the_socket_is_private_and_goes_with_the_tunnel(door: Door, supply: Supply) -> None:
    tunnel = tunnel_to(door.port, supply)
    directory = Path(tunnel.target.removeprefix("unix:")).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    tunnel.close()
    tunnel.close()
    tunnel.reconnect()
    assert not directory.exists()


async def test_another_process_is_refused(door: Door, supply: Supply) -> None:
    with tunnel_to(door.port, supply) as tunnel:
        code = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1))"
        path = tunnel.target.removeprefix("unix:")
        run = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code, path], capture_output=True, check=True, timeout=20
        )
        assert run.stdout.strip() == b"b''"
        assert "Another process" in str(tunnel.last_error)
        assert door.handshakes == 0


async def test_tunnels_share_one_thread_and_leave_nothing_behind(door: Door, supply: Supply) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "spiffe-tunnels"]

    first, second = tunnel_to(door.port, supply), tunnel_to(door.port, supply)
    assert len(threads()) == 1
    async with first.channel() as one, second.channel() as two:
        assert await ask(one) == await ask(two)
        assert first.connections == 1
        first.close()
        assert first.connections == 0
        assert await ask(two) == "spiffe://example.org/agent", "the other one goes on"
    await until(lambda: second.connections == 0)
    second.close()
    assert threads() == []


def dial(tunnel: Tunnel) -> socket.socket:
    """Connect to the tunnel without gRPC."""
    near = socket.socket(socket.AF_UNIX)
    near.settimeout(10)
    near.connect(tunnel.target.removeprefix("unix:"))
    return near


def test_connections_on_their_way_are_closed_with_the_tunnel(supply: Supply) -> None:
    """As when a session is cut off that has just been opened."""
    with warnings.catch_warnings(record=True) as left, tunnel_to(1, supply):  # the ground stays
        warnings.simplefilter("always", ResourceWarning)
        for _ in range(30):
            with tunnel_to(1, supply) as tunnel:
                near = [dial(tunnel) for _ in range(3)]
            for each in near:
                each.close()
        gc.collect()
    assert [str(each.message) for each in left if each.category is ResourceWarning] == []


async def test_back_pressure_towards_the_client(home: TrustDomain, supply: Supply) -> None:
    with (
        plain_server(home.svid("/broker"), home, floods=True) as server,
        tunnel_to(server.port, supply) as tunnel,
        dial(tunnel),
    ):
        await stalled(lambda: server.sent)
        assert 0 < server.sent < 16 << 20, "a reader that does not read stops the writer"


async def test_back_pressure_towards_the_server(home: TrustDomain, supply: Supply) -> None:
    sent = 0
    with (
        plain_server(home.svid("/broker"), home, reads=False) as server,
        tunnel_to(server.port, supply) as tunnel,
        dial(tunnel) as near,
    ):
        near.settimeout(0)

        def push() -> int:
            nonlocal sent
            with suppress(BlockingIOError):
                sent += near.send(b"x" * 65536)
            return sent

        await stalled(push)
        assert 0 < sent < 16 << 20


async def stalled(count: Callable[[], int]) -> None:
    """Wait until a growing number stands still (or has grown too far)."""
    before, still = -1, 0
    while still < 40:
        now = count()
        still = still + 1 if now == before and now > 0 else 0
        before = now
        if now > 64 << 20:
            return
        await asyncio.sleep(0.005)


async def test_half_close_by_the_client_lets_the_answer_through(home: TrustDomain, supply: Supply) -> None:
    with (
        plain_server(home.svid("/broker"), home, answers=WORDS) as server,
        tunnel_to(server.port, supply) as tunnel,
    ):
        with dial(tunnel) as near:
            near.sendall(b"question\n")
            near.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(read_all, near) == WORDS
        assert server.received == b"question\n"
        await until(lambda: tunnel.connections == 0)


async def test_the_last_bytes_of_a_server_that_hangs_up_arrive(home: TrustDomain, supply: Supply) -> None:
    with (
        plain_server(home.svid("/broker"), home, answers=WORDS) as server,
        tunnel_to(server.port, supply) as tunnel,
    ):
        with dial(tunnel) as near:
            near.sendall(b"question\n")
            assert await asyncio.to_thread(read_all, near) == WORDS
            assert tunnel.connections == 1, "the end arrives at once, not after the time that we have left to answer"
        await until(lambda: tunnel.connections == 0)


def read_all(near: socket.socket) -> bytes:
    found = b""
    while piece := near.recv(65536):
        found += piece
    return found


@dataclass(slots=True, kw_only=True)
class PlainServer:
    """A TLS server that is not gRPC's: it floods, or reads nothing, or answers once and hangs up, or only listens."""

    context: ssl.SSLContext
    floods: bool = False
    reads: bool = True
    answers: bytes = b""
    received: bytes = b""
    sent: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def port(self) -> int:
        number: int = self.listener.getsockname()[1]
        return number

    def serve(self) -> None:
        while not self.done.is_set():
            # What a client does to a handshake is the client's affair.
            with suppress(OSError):
                plain, _ = self.listener.accept()
                plain.settimeout(10)
                with plain, self.context.wrap_socket(plain, server_side=True) as connection:
                    self.speak(connection)

    def speak(self, connection: ssl.SSLSocket) -> None:
        connection.settimeout(0.05)
        while not self.done.is_set():
            with suppress(TimeoutError):
                if self.floods:
                    self.sent += connection.send(b"x" * 65536)
                elif not self.reads:
                    self.done.wait(0.05)
                elif not self.hear(connection):
                    return

    def hear(self, connection: ssl.SSLSocket) -> bool:
        piece = connection.recv(65536)
        self.received += piece
        if not piece or not self.answers:
            return bool(piece)
        connection.settimeout(10)
        connection.sendall(self.answers)
        connection.unwrap()
        return False


@contextmanager
def plain_server(
    svid: Svid,
    domain: TrustDomain,
    *,
    alpn: str = "h2",
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    **behaviour: object,
) -> Iterator[PlainServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(svid.private_key + svid.certificate_chain)
        file.flush()
        context.load_cert_chain(file.name)
    context.load_verify_locations(cadata=pem(domain.bundle).decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = maximum
    context.set_alpn_protocols([alpn])
    server = PlainServer(context=context, **behaviour)  # type: ignore[arg-type]  # any of its words
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.done.set()
        server.listener.shutdown(socket.SHUT_RDWR)
        thread.join(15)
        server.listener.close()
