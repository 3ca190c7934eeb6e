"""A server's rotating credentials, and what authenticate() closes that gRPC leaves open."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from broker.link.source import IdentitySource
from tests.fakes.trust_domain import Svid, TrustDomain, pem
from tests.fakes.workload_api import WorkloadApi
from tests.link.helpers import WHO, Door, ask, open_door, until

SERVER_NAME = "broker.example.org"


@pytest.fixture
def home() -> TrustDomain:
    return TrustDomain("example.org")


@pytest.fixture
async def door(agent: WorkloadApi, home: TrustDomain) -> AsyncIterator[Door]:
    agent.give_svid(home.svid("/broker", dns=(SERVER_NAME,)), home)
    source = await IdentitySource.open(socket=agent.socket, spiffe_id=None, hint=None, timeout=10)
    async with open_door(source) as opened:
        yield opened
    source.close()


def channel(door: Door, domain: TrustDomain, svid: Svid) -> grpc.aio.Channel:
    """Make an ordinary gRPC channel, by DNS name: the server's credentials are tested here, not the tunnel."""
    credentials = grpc.ssl_channel_credentials(pem(domain.bundle), svid.private_key, svid.certificate_chain)
    options = [("grpc.ssl_target_name_override", SERVER_NAME), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(f"127.0.0.1:{door.port}", credentials, options=options)


async def outcome(door: Door, domain: TrustDomain, svid: Svid) -> str:
    async with channel(door, domain, svid) as opened:
        try:
            return await ask(opened)
        except grpc.aio.AioRpcError as error:
            return str(error.details()) if error.code() is grpc.StatusCode.UNAUTHENTICATED else error.code().name


async def test_what_grpc_says_of_the_peers_certificates(door: Door, home: TrustDomain) -> None:
    alone, nested = home.svid("/agent"), home.svid("/nested", depth=2)
    await outcome(door, home, alone)
    assert (door.seen[-1].leaf, door.seen[-1].chain) == (alone.leaf_pem, b"")
    assert door.seen[-1].tls_version == "TLSv1.3"
    assert await outcome(door, home, nested) == nested.id
    assert (door.seen[-1].leaf, door.seen[-1].chain) == (nested.leaf_pem, nested.chain_pem)


async def test_every_handshake_is_counted(door: Door, home: TrustDomain) -> None:
    before = door.handshakes
    await outcome(door, home, home.svid())
    await outcome(door, TrustDomain("example.org"), home.svid())
    assert door.handshakes >= before + 2
    assert door.failures == 0


async def test_leaf_and_authority_rotate_without_a_failed_call(
    agent: WorkloadApi, door: Door, home: TrustDomain
) -> None:
    calls: list[str] = []
    rotated = asyncio.Event()

    async def keep_calling() -> None:
        while not rotated.is_set():
            calls.append(await outcome(door, home, home.svid("/agent")))

    caller = asyncio.create_task(keep_calling())
    for number in range(6):
        if number % 2:
            # As SPIRE does: first everybody knows the new authority, then it issues.
            new = home.prepare_authority()
            agent.give_svid(home.svid("/broker", dns=(SERVER_NAME,)), home)
            await until(lambda: set(door.source.bundles().authorities["example.org"]) == set(home.bundle))
            home.activate(new)
        svid = home.svid("/broker", dns=(SERVER_NAME,))
        agent.give_svid(svid, home)
        enough = len(calls) + 3
        await until(lambda enough=enough: len(calls) >= enough)  # type: ignore[misc]  # bound now, not later
        assert await asyncio.to_thread(served_leaf, door, home) == svid.leaf
    rotated.set()
    await caller
    assert set(calls) == {"spiffe://example.org/agent"}


def served_leaf(door: Door, domain: TrustDomain) -> x509.Certificate:
    context = ssl.create_default_context(cadata=pem(domain.bundle).decode())
    context.check_hostname = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection(("127.0.0.1", door.port)) as plain,
        context.wrap_socket(plain) as connection,
    ):
        found = connection.getpeercert(binary_form=True)
    assert found
    return x509.load_der_x509_certificate(found)


async def test_f2_a_removed_authority_counts_on_new_and_on_open_connections(
    agent: WorkloadApi, door: Door, home: TrustDomain
) -> None:
    old = home.svid("/agent")
    async with channel(door, home, old) as opened:
        assert await ask(opened) == old.id
        home.add_authority()
        home.remove_authority()
        agent.give_svid(home.svid("/broker", dns=(SERVER_NAME,)), home)
        await until(lambda: door.source.bundles().authorities["example.org"] == home.bundle)
        with pytest.raises(grpc.aio.AioRpcError, match="SVID_CHAIN_INVALID"):
            await ask(opened)
    assert await outcome(door, home, old) == "UNAVAILABLE", "refused by the handshake"
    assert await outcome(door, home, home.svid("/new")) == "spiffe://example.org/new"


async def test_f2_an_svid_that_ends_counts_on_an_open_connection(door: Door, home: TrustDomain) -> None:
    svid = home.svid("/agent", ttl=timedelta(minutes=5))
    async with channel(door, home, svid) as opened:
        assert await ask(opened) == svid.id
        door.clock = lambda: datetime.now(UTC) + timedelta(minutes=6)
        with pytest.raises(grpc.aio.AioRpcError, match="SVID_EXPIRED"):
            await ask(opened)


async def test_f2_an_svid_that_ends_counts_on_a_resumed_session(door: Door, home: TrustDomain, tmp_path: Path) -> None:
    svid = home.svid("/agent", ttl=timedelta(minutes=5))
    context = client_context(home, svid, tmp_path)
    session = await asyncio.to_thread(call_by_hand, door, context, None)
    assert (door.answers[-1], door.seen[-1].session_reused) == (svid.id, False)
    door.clock = lambda: datetime.now(UTC) + timedelta(minutes=6)
    await asyncio.to_thread(call_by_hand, door, context, session)
    assert (door.answers[-1], door.seen[-1].session_reused) == ("SVID_EXPIRED", True)
    assert door.seen[-1].leaf == svid.leaf_pem, "the certificate of the first handshake"


async def test_tls_1_2_is_accepted_by_grpc_and_refused_by_authenticate(
    door: Door, home: TrustDomain, tmp_path: Path
) -> None:
    context = client_context(home, home.svid("/agent"), tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    await asyncio.to_thread(call_by_hand, door, context, None)
    assert (door.answers[-1], door.seen[-1].tls_version) == ("TLS_VERSION_REFUSED", "TLSv1.2")


def client_context(domain: TrustDomain, svid: Svid, directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem(domain.bundle).decode())
    context.set_alpn_protocols(["h2"])
    file = directory / "client.pem"
    file.write_bytes(svid.private_key + svid.certificate_chain)
    context.load_cert_chain(file)
    return context


def call_by_hand(door: Door, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """Make one call in HTTP/2 by hand, because gRPC's client does not let a session be chosen."""
    fields = {":method": "POST", ":scheme": "https", ":path": WHO, ":authority": SERVER_NAME, "te": "trailers"}
    fields["content-type"] = "application/grpc"
    headers = b"".join(_literal(name.encode()) + _literal(value.encode())[1:] for name, value in fields.items())
    answered = len(door.answers)
    with (
        socket.create_connection(("127.0.0.1", door.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=SERVER_NAME, session=session) as connection,
    ):
        request = _frame(1, 4, 1, headers) + _frame(0, 1, 1, b"\0\0\0\0\0")
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"") + request)
        # The ticket comes with the first bytes of the answer.
        while len(door.answers) == answered or not (connection.session and connection.session.has_ticket):
            assert connection.recv(4096), "the server hung up"
        return connection.session


def _literal(text: bytes) -> bytes:
    """HPACK: a literal that is not indexed (RFC 7541 6.2.2); its value follows without the first byte."""
    return bytes([0, len(text)]) + text


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


async def test_d3_federation_confusion_is_refused_by_authenticate(
    agent: WorkloadApi, door: Door, home: TrustDomain
) -> None:
    partner = TrustDomain("partner.test")
    agent.give_svid(home.svid("/broker", dns=(SERVER_NAME,)), home, partner)
    await until(lambda: "partner.test" in door.source.bundles().authorities)
    assert await outcome(door, home, partner.svid("/agent")) == "spiffe://partner.test/agent"
    assert await outcome(door, home, partner.svid("spiffe://example.org/admin")) == "SVID_CHAIN_INVALID"
    assert await outcome(door, home, home.svid("spiffe://partner.test/admin")) == "SVID_CHAIN_INVALID"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        pytest.param({"uris": ("spiffe://example.org/a", "spiffe://example.org/b")}, "SVID_URI_COUNT", id="F1-two-ids"),
        pytest.param({"uris": ()}, "SVID_URI_COUNT", id="F1-no-id"),
        pytest.param({"is_ca": True}, "SVID_CAN_SIGN", id="F1-ca"),
        pytest.param({}, "spiffe://example.org/agent", id="control"),
    ],
)
async def test_leaves_that_grpc_lets_in_are_refused(
    door: Door, home: TrustDomain, form: dict[str, Any], expected: str
) -> None:
    assert await outcome(door, home, home.svid("/agent", **form)) == expected


async def test_an_update_that_cannot_be_taken_over_is_counted_and_the_one_before_stays(
    agent: WorkloadApi, door: Door, home: TrustDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError

    with monkeypatch.context() as patched:
        patched.setattr("broker.link.credentials._configuration", broken)
        second = home.svid("/broker", dns=(SERVER_NAME,))
        agent.give_svid(second, home)
        await until(lambda: door.source.identity().certificate_chain == second.leaf_pem)
        assert await outcome(door, home, home.svid()) == "spiffe://example.org/agent"
        assert door.failures >= 1
        assert await asyncio.to_thread(served_leaf, door, home) != second.leaf
    assert await asyncio.to_thread(served_leaf, door, home) == second.leaf, "tried again at the next handshake"
