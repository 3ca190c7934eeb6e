"""Overrides at the door: however much is open, they are asked; and nobody crowds out another by them."""

import asyncio

import grpc
import pytest

from broker.issuer.port import ImposeCall, Stop, StopKind
from broker.v1 import exchange_pb2_grpc, override_pb2, override_pb2_grpc
from tests.fakes.trust_domain import Svid
from tests.server.world import World, open_world, request, told, until

TARGET = override_pb2.OverrideTarget


def overrides(world: World, svid: Svid | None = None) -> "override_pb2_grpc.OverrideServiceAsyncStub":
    return override_pb2_grpc.OverrideServiceStub(world.channel(svid))


def impose(stub: "override_pb2_grpc.OverrideServiceAsyncStub", **target: object) -> object:
    asked = override_pb2.ImposeOverrideRequest(target=TARGET(**target or {"tenant": "acme"}), reason="a test")  # type: ignore[arg-type]
    return stub.ImposeOverride(asked, timeout=60)


TARGETS = [
    ({"agent": "spiffe://example.org/agent/a"}, Stop(kind=StopKind.AGENT, name="spiffe://example.org/agent/a")),
    ({"tenant": "acme"}, Stop(kind=StopKind.TENANT, name="acme")),
    (
        {"action_class": override_pb2.ACTION_CLASS_HIGH_IMPACT, "within_tenant": "acme"},
        Stop(kind=StopKind.CLASS, name="high-impact", tenant="acme"),
    ),
    ({"action": "order.refund"}, Stop(kind=StopKind.ACTION, name="order.refund")),
    ({"everything": override_pb2.Everything()}, Stop(kind=StopKind.EVERYTHING)),
]


@pytest.mark.parametrize(("target", "stop"), TARGETS, ids=[stop.kind.value for _, stop in TARGETS])
async def test_what_is_to_be_stopped_comes_to_the_issuer_as_it_was_said(
    world: World, target: dict[str, object], stop: Stop
) -> None:
    answer = await impose(overrides(world), **target)  # type: ignore[misc]
    (call,) = world.issuer.calls
    assert isinstance(call, ImposeCall)
    assert (call.stop, call.text) == (stop, "a test")
    assert (answer.position, answer.revoked_credentials) == (10, 4)


async def test_what_is_stopped_is_told_whole(world: World) -> None:
    found = (await overrides(world).ListOverrides(override_pb2.ListOverridesRequest(), timeout=60)).overrides
    (each,) = found
    assert each.target == TARGET(action_class=override_pb2.ACTION_CLASS_WRITE, within_tenant="acme")
    assert (each.imposed_by, each.reason) == (world.agent.id, "a test")


@pytest.mark.parametrize(
    "broken",
    [
        override_pb2.ImposeOverrideRequest(reason="x"),
        override_pb2.ImposeOverrideRequest(target=TARGET(), reason="x"),
        override_pb2.ImposeOverrideRequest(target=TARGET(tenant="acme")),
        override_pb2.ImposeOverrideRequest(
            target=TARGET(action_class=override_pb2.ACTION_CLASS_UNSPECIFIED), reason="x"
        ),
        override_pb2.ImposeOverrideRequest(target=TARGET(action_class=9), reason="x"),  # type: ignore[arg-type]
        override_pb2.ImposeOverrideRequest(target=TARGET(tenant="acme", within_tenant="acme"), reason="x"),
        override_pb2.ImposeOverrideRequest(
            target=TARGET(everything=override_pb2.Everything(), within_tenant="acme"), reason="x"
        ),
    ],
)
async def test_what_is_not_one_meaning_stops_nothing(world: World, broken: override_pb2.ImposeOverrideRequest) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await overrides(world).ImposeOverride(broken, timeout=60)
    assert told(caught.value).reason == "REQUEST_INVALID"
    assert not [call for call in world.issuer.calls if isinstance(call, ImposeCall)]
    assert [each.operation for each in world.issuer.refused] == ["impose_override"]


async def test_a_stop_is_asked_however_much_is_open() -> None:
    async with open_world(calls=2) as world:
        world.issuer.hold = asyncio.Event()
        exchanges = exchange_pb2_grpc.ExchangeServiceStub(world.channel())
        waiting = [asyncio.ensure_future(_wait(exchanges)) for _ in range(2)]
        await until(lambda: len(world.issuer.groups) == 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:  # the control: there is no room
            await exchanges.Exchange(request(), timeout=60)
        assert told(caught.value).reason == "LIMIT_BUSY"
        assert (await impose(overrides(world))).override_id  # type: ignore[misc]
        world.issuer.hold.set()
        await asyncio.gather(*waiting)


async def _wait(exchanges: "exchange_pb2_grpc.ExchangeServiceAsyncStub") -> None:
    await exchanges.Exchange(request(), timeout=60)


async def test_one_caller_does_not_crowd_out_another() -> None:
    async with open_world(urgent=3) as world:
        world.issuer.hold_overrides = asyncio.Event()
        many, other = overrides(world), overrides(world, world.domain.svid("/operator/other"))
        waiting = [asyncio.ensure_future(_impose(many)) for _ in range(3)]
        await until(lambda: len(world.issuer.calls) == 3)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await impose(many)  # type: ignore[misc]
        assert told(caught.value).reason == "LIMIT_BUSY"
        waiting.append(asyncio.ensure_future(_impose(other)))
        await until(lambda: len(world.issuer.calls) == 4)
        world.issuer.hold_overrides.set()
        await asyncio.gather(*waiting)
        await impose(many)  # type: ignore[misc]  # and there is room again


async def _impose(stub: "override_pb2_grpc.OverrideServiceAsyncStub") -> None:
    await impose(stub)  # type: ignore[misc]
