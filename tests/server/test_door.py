"""The door itself: who gets in, what is counted, what the two listeners show, and how it closes."""

import asyncio
import socket
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.duration_pb2 import Duration

from broker.admin.v1 import admin_pb2, admin_pb2_grpc
from broker.server.door import Door
from broker.server.health import SERVICES
from broker.server.limits import Limits
from broker.server.observe import Counters
from broker.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    exchange_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    revoke_pb2,
    revoke_pb2_grpc,
    task_pb2,
    task_pb2_grpc,
)
from tests.fakes.trust_domain import TrustDomain, pem
from tests.server.world import World, ended, open_world, request, settled, told, until


async def key_set(channel: grpc.aio.Channel) -> "keys_pb2.GetKeySetResponse":
    return await keys_pb2_grpc.KeyServiceStub(channel).GetKeySet(keys_pb2.GetKeySetRequest(), timeout=60)


async def status(world: World) -> admin_pb2.GetStatusResponse:
    stub = admin_pb2_grpc.AdminServiceStub(world.admin_channel())
    return await stub.GetStatus(admin_pb2.GetStatusRequest(), timeout=60)


# --- every verb ----------------------------------------------------------------------------------------------------


async def test_tasks_revocations_keys_and_checkpoints(world: World) -> None:
    channel = world.channel()
    tasks = task_pb2_grpc.TaskServiceStub(channel)
    begun = (
        await tasks.BeginTask(task_pb2.BeginTaskRequest(purpose="p", lifetime=Duration(seconds=90)), timeout=60)
    ).task
    assert (begun.purpose, begun.deadline.seconds - begun.begun_at.seconds) == ("p", 90)
    ended = await tasks.EndTask(task_pb2.EndTaskRequest(task_id=begun.task_id), timeout=60)
    assert (ended.position, ended.revoked_credentials) == (7, 2)
    revocations = revoke_pb2_grpc.RevocationServiceStub(channel)
    rule = revoke_pb2.RevocationRule(agent="spiffe://example.org/agent")
    made = await revocations.Revoke(revoke_pb2.RevokeRequest(rule=rule, reason="why"), timeout=60)
    assert (made.position, made.revoked_credentials) == (8, 3)
    asked = revoke_pb2.LiftRevocationRequest(revocation_id=made.revocation_id)
    assert (await revocations.LiftRevocation(asked, timeout=60)).position == 9
    assert (await key_set(channel)).key_set.checkpoint_key == "ck"
    audits = audit_pb2_grpc.AuditServiceStub(channel)
    checkpoint = (await audits.GetCheckpoint(audit_pb2.GetCheckpointRequest(), timeout=60)).checkpoint
    assert (checkpoint.note, checkpoint.size) == ("note", 0)
    revoke = world.issuer.calls[2]
    assert (revoke.rule.kind.value, revoke.rule.name, revoke.text) == (  # type: ignore[attr-defined]
        "agent",
        "spiffe://example.org/agent",
        "why",
    )


BAD_REQUESTS = {
    "BeginTask": ("broker.v1.TaskService", "begin_task"),
    "EndTask": ("broker.v1.TaskService", "end_task"),
    "Revoke": ("broker.v1.RevocationService", "revoke"),
    "LiftRevocation": ("broker.v1.RevocationService", "lift_revocation"),
    "GetKeySet": ("broker.v1.KeyService", "get_key_set"),
    "ListKeys": ("broker.v1.KeyService", "list_keys"),
    "RotateKeys": ("broker.v1.KeyService", "rotate_keys"),
    "GetCheckpoint": ("broker.v1.AuditService", "get_checkpoint"),
    "Check": ("grpc.health.v1.Health", "health"),
}


@pytest.mark.parametrize("method", BAD_REQUESTS)
async def test_every_verb_decodes_within_and_has_bad_bytes_recorded(world: World, method: str) -> None:
    service, operation = BAD_REQUESTS[method]
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = world.channel().unary_unary(f"/{service}/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff", timeout=60)
    assert told(caught.value).reason == "REQUEST_MALFORMED"
    assert [one.operation for one in world.issuer.refused] == [operation]


EMPTY_INVALID = {
    "BeginTask": "broker.v1.TaskService",
    "EndTask": "broker.v1.TaskService",
    "Revoke": "broker.v1.RevocationService",
    "LiftRevocation": "broker.v1.RevocationService",
    "RotateKeys": "broker.v1.KeyService",
}


@pytest.mark.parametrize("method", EMPTY_INVALID)
async def test_rules_are_checked_on_every_verb(world: World, method: str) -> None:
    path = f"/{EMPTY_INVALID[method]}/{method}"
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = world.channel().unary_unary(path)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", timeout=60)
    assert told(caught.value).reason == "REQUEST_INVALID"
    assert not world.issuer.groups


async def test_every_method_of_the_proto_is_served(world: World) -> None:
    """By name: one that is missing would answer UNIMPLEMENTED."""
    stranger = world.channel(world.domain.svid("spiffe://other.org/a"))
    for name in sorted(SERVICES - {""}):
        for method in descriptor_pool.Default().FindServiceByName(name).methods:
            call: Any = stranger.stream_stream(f"/{name}/{method.name}")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                [answer async for answer in call(iter([b""]), timeout=60)]
            assert told(caught.value).reason == "SVID_TRUST_DOMAIN_UNKNOWN", method.full_name


# --- what TLS and gRPC refuse --------------------------------------------------------------------------------------


async def refused_by_tls(world: World, credentials: grpc.ChannelCredentials) -> None:
    channel = world.connect(credentials)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await key_set(channel)
    await channel.close()  # or it would try again by itself, and be counted again
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert told(caught.value).reason == ""


async def test_a_handshake_that_tls_refuses_is_counted(world: World) -> None:
    roots = pem(world.domain.bundle)
    stranger = TrustDomain("stranger.org").svid("/agent")
    expired = world.domain.svid("/agent", ttl=-world.domain.svid("/x").leaf.not_valid_before_utc.resolution)
    await refused_by_tls(world, grpc.ssl_channel_credentials(roots))  # no certificate
    await refused_by_tls(world, grpc.ssl_channel_credentials(roots, stranger.private_key, stranger.certificate_chain))
    await refused_by_tls(world, grpc.ssl_channel_credentials(roots, expired.private_key, expired.certificate_chain))
    refused = world.counters.handshakes_begun
    assert refused >= 3
    assert world.counters.connections_with_a_call == 0
    assert not world.issuer.calls
    channel = world.channel()
    await key_set(channel)
    await key_set(channel)
    told_to_operators = await status(world)
    assert told_to_operators.handshakes_begun == world.counters.handshakes_begun > refused
    assert told_to_operators.connections_with_a_call == 1


async def test_a_message_over_the_limit_never_reaches_a_handler(world: World) -> None:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = world.channel().unary_unary(
        "/broker.v1.ExchangeService/Exchange"
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"x" * (Limits().message + 1), timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not world.issuer.calls
    assert not world.issuer.refused
    assert not world.counters.calls.get("/broker.v1.ExchangeService/Exchange OK")


async def test_metadata_over_the_limit_never_reaches_a_handler(world: World) -> None:
    stub = keys_pb2_grpc.KeyServiceStub(world.channel())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetKeySet(keys_pb2.GetKeySetRequest(), timeout=60, metadata=(("x", "y" * 17_000),))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not world.issuer.calls
    await stub.GetKeySet(keys_pb2.GetKeySetRequest(), timeout=60, metadata=(("x", "y" * 8_000),))


async def test_no_more_streams_on_a_connection_than_allowed() -> None:
    async with open_world(streams=3) as world:
        stub = exchange_pb2_grpc.ExchangeServiceStub(world.channel())
        await stub.Exchange(request(), timeout=60)  # from then on the client knows the limit, and waits
        world.issuer.hold = asyncio.Event()
        calls = [asyncio.ensure_future(_finish(stub.Exchange(request(), timeout=30))) for _ in range(6)]
        await until(lambda: len(world.issuer.groups) == 4)
        await settled(lambda: len(world.issuer.groups))
        assert len(world.issuer.groups) == 4
        world.issuer.hold.set()
        # Those that waited may be refused by gRPC itself (REFUSED_STREAM) while the first ones are being cleared away.
        await asyncio.gather(*calls, return_exceptions=True)
        assert len(world.issuer.groups) <= 7


async def _finish(call: Any) -> None:
    await call


async def test_no_more_connections_than_allowed() -> None:
    async with open_world(connections=2) as world:
        await key_set(world.channel())
        await key_set(world.channel())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await key_set(world.channel())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_old_connection_is_given_up_and_a_call_goes_on_with_a_new_one() -> None:
    async with open_world(connection_age=0.3, connection_grace=5) as world:
        channel = world.channel()
        await key_set(channel)

        async def connected_again() -> None:
            while world.counters.handshakes_begun < 2:
                await key_set(channel)
                await asyncio.sleep(0.05)

        await asyncio.wait_for(connected_again(), 60)


# --- start and stop ------------------------------------------------------------------------------------------------


async def test_a_taken_port_is_named(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        door = Door(
            issuer=world.issuer,
            credentials=grpc.ssl_server_credentials([(world.agent.private_key, world.agent.certificate_chain)]),
            address=address,
            admin_socket=None,
            counters=Counters(),
            log=structlog.get_logger(),
            new_id=str,
            clock=world.issuer.clock,
            limits=Limits(),
        )
        with pytest.raises(OSError, match=address):
            await door.start()


async def test_stopping_ends_streams_at_once_and_lets_calls_finish(world: World) -> None:
    channel = world.channel()
    streams: list[Any] = [
        audit_pb2_grpc.AuditServiceStub(channel).SubscribeAudit(audit_pb2.SubscribeAuditRequest(follow=True)),
        exchange_pb2_grpc.ExchangeServiceStub(channel).ExchangeStream(),
    ]
    await streams[0].read()
    await until(lambda: len(world.issuer.calls) > 1)
    world.issuer.hold = asyncio.Event()
    exchange = asyncio.ensure_future(_answer(channel))
    await until(lambda: world.issuer.groups)
    stopping = asyncio.ensure_future(world.door.stop(30))
    for stream in streams:
        assert told(await ended(stream)).reason == "ISSUER_UNAVAILABLE"
    assert not stopping.done()
    world.issuer.hold.set()
    assert await exchange
    await asyncio.wait_for(stopping, 60)
    assert not world.admin.exists()


async def _answer(channel: grpc.aio.Channel) -> str:
    stub = exchange_pb2_grpc.ExchangeServiceStub(channel)
    return (await stub.Exchange(request(), timeout=30)).credential.token
