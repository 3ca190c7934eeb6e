"""Health for those who are known, and the admin socket for the owner."""

import stat
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from broker.admin.v1 import admin_pb2, admin_pb2_grpc
from broker.server.health import SERVICES
from broker.v1 import (
    keys_pb2,
    keys_pb2_grpc,
)
from tests.fakes.trust_domain import TrustDomain
from tests.polling import eventually
from tests.server.world import World, told, until


class Health:
    """The health service's methods on a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        kinds: dict[str, Any] = {
            "request_serializer": health_pb2.HealthCheckRequest.SerializeToString,
            "response_deserializer": health_pb2.HealthCheckResponse.FromString,
        }
        self.Check: Any = channel.unary_unary("/grpc.health.v1.Health/Check", **kinds)
        self.Watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch", **kinds)


async def key_set(channel: grpc.aio.Channel) -> "keys_pb2.GetKeySetResponse":
    return await keys_pb2_grpc.KeyServiceStub(channel).GetKeySet(keys_pb2.GetKeySetRequest(), timeout=60)


async def status(world: World) -> admin_pb2.GetStatusResponse:
    stub = admin_pb2_grpc.AdminServiceStub(world.admin_channel())
    return await stub.GetStatus(admin_pb2.GetStatusRequest(), timeout=60)


async def test_health_answers_whom_it_knows(world: World) -> None:
    stub = Health(world.channel())
    await until(lambda: world.issuer.feeds)
    for service in sorted(SERVICES):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=60)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await until(lambda: world.counters.calls.get("/grpc.health.v1.Health/Check NOT_FOUND"))
    assert not [line for line in world.log.entries if line["event"] == "defect"]
    stranger = Health(world.channel(world.domain.svid("spiffe://other.org/a")))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stranger.Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_watching_health_tells_the_state_and_ends_with_the_watcher(world: World) -> None:
    call = Health(world.channel()).Watch(health_pb2.HealthCheckRequest(), timeout=30)
    assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
    world.issuer.bundles = TrustDomain("other.org").bundles(epoch=2)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert told(caught.value).reason == "SVID_TRUST_DOMAIN_UNKNOWN"


async def reflected(channel: grpc.aio.Channel) -> list[str]:
    call: Any = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(timeout=60)
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await call.read()
    await call.done_writing()
    return [service.name for service in answer.list_services_response.service]


async def test_reflection_and_admin_are_on_the_admin_socket_alone(world: World) -> None:
    assert "broker.admin.v1.AdminService" in await reflected(world.admin_channel())

    async def refused() -> grpc.StatusCode | None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reflected(world.channel())
        # Which grpc.aio makes up when a refusal is here before its first message has gone out.
        return None if caught.value.details() == "Internal error from Core" else caught.value.code()

    assert await eventually(refused) is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin_pb2_grpc.AdminServiceStub(world.channel()).GetStatus(admin_pb2.GetStatusRequest(), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await key_set(world.admin_channel())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_only_the_owner_may_use_the_admin_socket(world: World) -> None:
    assert stat.S_IMODE(world.admin.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.admin.parent.stat().st_mode) == 0o700


async def test_the_admin_socket_tells_counters_and_state(world: World) -> None:
    await key_set(world.channel())
    world.counters.rotation_failed()
    await world.issuer.append(5)
    await until(lambda: world.issuer.feeds)
    found = await status(world)
    assert found.calls["/broker.v1.KeyService/GetKeySet OK"] == 1
    assert (found.rotation_failures, found.log_size, found.issuer_ready) == (1, 5, True)
    assert found.spiffe_id == "spiffe://example.org/broker"
    await world.issuer.leave()
    found = await status(world)
    assert (found.issuer_ready, found.rotation_failures) == (False, 1)
    health = Health(world.admin_channel())
    await until(lambda: world.issuer.feeds > 1)
    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
