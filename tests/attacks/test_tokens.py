"""Credentials at a guarded service that follows the real broker: stolen, revoked, outlived, and seen with old eyes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest

from broker.intent import Resource
from broker.v1 import task_pb2, task_pb2_grpc
from broker.validator import Bounds, Call, Mapper, Validation, open_validator
from tests.attacks.entrances import PATIENCE, begin_task, end_task, exchange, outcome, request, revoke
from tests.attacks.house import House
from tests.fakes.orders_service import TASKS
from tests.fakes.trust_domain import Svid, pem
from tests.operations.world import ORDERS, SECURITY, SUPPORT, WHOLESALE
from tests.polling import eventually

SERVICE = "orders.example.org"
ISSUER = "https://broker.example.org"


def touched(asked: task_pb2.BeginTaskRequest) -> Call:
    """Stand for any service's mapping: the task's fields name an order here."""
    return Call(action="order.read", resource=Resource(type="order", id=asked.purpose), tenant=asked.tenant)


def nothing(_: task_pb2.EndTaskRequest) -> Call:
    return Call(action="none", resource=Resource(type="order", id="0"), tenant="")


class Orders(task_pb2_grpc.TaskServiceServicer):
    """The service behind the guard."""

    async def BeginTask(self, _: object, __: object) -> task_pb2.BeginTaskResponse:  # noqa: N802 - the stub's name
        return task_pb2.BeginTaskResponse()

    async def CancelTask(self, _: object, __: object) -> task_pb2.CancelTaskResponse:  # noqa: N802 - the stub's name
        raise AssertionError

    async def HeartbeatTask(self, _: object, __: object) -> task_pb2.HeartbeatTaskResponse:  # noqa: N802 - the same
        raise AssertionError

    async def NarrowTask(self, _: object, __: object) -> task_pb2.NarrowTaskResponse:  # noqa: N802 - the same
        raise AssertionError

    async def ResumeTask(self, _: object, __: object) -> task_pb2.ResumeTaskResponse:  # noqa: N802 - the same
        raise AssertionError

    async def EndTask(self, _: object, __: object) -> task_pb2.EndTaskResponse:  # noqa: N802 - the stub's name
        return task_pb2.EndTaskResponse()


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent with one leaf."""

    house: House
    svid: Svid
    tenant: str

    async def token(self, **changes: Any) -> tuple[str, str]:
        """Exchange; return the token and its credential's id."""
        channel = self.house.channel(self.svid)
        given = (await exchange(channel, request(**changes))).credential
        await channel.close()
        return given.token, given.credential_id


def agent(house: House, who: str = SUPPORT) -> Agent:
    return Agent(house=house, svid=house.svid(who), tenant="retail" if who == SUPPORT else "wholesale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """A running service."""

    house: House
    port: int
    validation: Validation

    async def call(self, caller: Agent, token: str, *, order: str = "1234", tenant: str = "") -> str:
        """Call with a token; return the reason of the refusal, or nothing."""
        roots = pem(self.house.home.bundle)
        credentials = grpc.ssl_channel_credentials(roots, caller.svid.private_key, caller.svid.certificate_chain)
        options = [("grpc.ssl_target_name_override", SERVICE), ("grpc.use_local_subchannel_pool", 1)]
        asked = task_pb2.BeginTaskRequest(purpose=order, tenant=tenant or caller.tenant)
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options) as channel:
            stub = task_pb2_grpc.TaskServiceStub(channel)
            told = await outcome(
                stub.BeginTask(asked, metadata=(("authorization", f"Bearer {token}"),), timeout=PATIENCE)
            )
        return told.reason

    async def comes_to(self, caller: Agent, token: str, reason: str) -> None:
        """Wait until the answer is this one."""

        async def told() -> bool:
            return await self.call(caller, token) == reason

        await eventually(told)


@asynccontextmanager
async def guarded(house: House, **settings: Any) -> AsyncIterator[Guarded]:
    """Start a service that follows the broker."""
    own = house.svid(ORDERS, dns=(SERVICE,))
    channel = house.channel(own)
    patient = {"bounds": Bounds.same(timedelta(minutes=5))} | settings
    async with open_validator(channel=channel, issuer=ISSUER, audience=ORDERS, **patient) as validation:
        await validation.feed.ready()
        calls: dict[str, Mapper] = {
            "/broker.v1.TaskService/BeginTask": touched,
            "/broker.v1.TaskService/EndTask": nothing,
        }
        interceptor = validation.interceptor(bundles=house.identity.bundles, services=[TASKS], calls=calls)
        server = grpc.aio.server(interceptors=[interceptor])
        task_pb2_grpc.add_TaskServiceServicer_to_server(Orders(), server)
        pair = [(own.private_key, own.certificate_chain)]
        credentials = grpc.ssl_server_credentials(pair, pem(house.home.bundle), require_client_auth=True)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        try:
            yield Guarded(house=house, port=port, validation=validation)
        finally:
            await server.stop(None)
    await channel.close()


@pytest.fixture(scope="module")
async def service(house: House) -> AsyncIterator[Guarded]:
    async with guarded(house) as running:
        yield running


async def test_a6_a_stolen_credential_is_nothing_in_other_hands(house: House, service: Guarded) -> None:
    owner, thief = agent(house), agent(house, WHOLESALE)
    token, _ = await owner.token()
    own, _ = await thief.token()
    assert await service.call(owner, token) == ""
    assert await service.call(thief, own) == ""  # this service accepts the thief's own
    assert await service.call(thief, token, tenant="retail") == "TOKEN_HOLDER_MISMATCH"
    assert await service.call(owner, own, tenant="wholesale") == "TOKEN_HOLDER_MISMATCH"


async def test_a6_a_credential_stays_with_the_leaf_that_asked(house: House, service: Guarded) -> None:
    before = agent(house)
    token, _ = await before.token()
    after = agent(house)  # the same ID, renewed
    assert await service.call(after, token) == "TOKEN_HOLDER_MISMATCH"
    assert await service.call(before, token) == ""
    assert await service.call(after, (await after.token())[0]) == ""


async def test_a_credential_opens_what_it_names(house: House, service: Guarded) -> None:
    owner = agent(house)
    token, _ = await owner.token()
    assert await service.call(owner, token, order="1235") == "TOKEN_SCOPE_EXCEEDED"
    assert await service.call(owner, token, tenant="wholesale") == "TOKEN_TENANT_MISMATCH"
    other = token[:-2] + ("AA" if token[-2:] != "AA" else "BA")
    assert await service.call(owner, other) == "TOKEN_SIGNATURE_INVALID"
    assert await service.call(owner, token) == ""


End = Callable[[House, str, str], Awaitable[Any]]
ENDINGS: dict[str, End] = {
    "credential": lambda house, credential, _: revoke(house.good(SECURITY), credential_id=credential),
    "task": lambda house, _, task: revoke(house.good(SECURITY), task_id=task),
    "agent": lambda house, _, __: revoke(house.good(SECURITY), agent=SUPPORT),
    "tenant": lambda house, _, __: revoke(house.good(SECURITY), tenant="retail"),
    "policy": lambda house, _, __: revoke(house.good(SECURITY), policy_id="order-readers-may-look-up-orders"),
    "task-ended": lambda house, _, task: end_task(house.good(SUPPORT), task),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS.keys())
async def test_what_ends_a_credential_is_heard_by_the_service(own_house: House, end: End) -> None:
    async with guarded(own_house) as running:
        task = (await begin_task(own_house.good(SUPPORT))).task.task_id
        owner = agent(own_house)
        token, credential = await owner.token(task_id=task)
        assert await running.call(owner, token) == ""
        await end(own_house, credential, task)
        await running.comes_to(owner, token, "TOKEN_REVOKED")


async def test_a_restart_in_between_loses_no_revocation(own_house: House) -> None:
    """Revoked before, during and after: never accepted again, and the feed goes on without a gap."""
    async with guarded(own_house) as running:
        owner = agent(own_house)
        first, second, third, kept = [await owner.token() for _ in range(4)]
        await revoke(own_house.good(SECURITY), credential_id=first[1])
        await running.comes_to(owner, first[0], "TOKEN_REVOKED")
        stopped_at = running.validation.validator._view.stop
        await own_house.restart()
        security = own_house.channel(own_house.svid(SECURITY))
        await revoke(security, credential_id=second[1])
        assert await running.call(owner, first[0]) == "TOKEN_REVOKED"
        await own_house.restart()
        security = own_house.channel(own_house.svid(SECURITY))
        await running.comes_to(owner, second[0], "TOKEN_REVOKED")
        await revoke(security, credential_id=third[1])
        await running.comes_to(owner, third[0], "TOKEN_REVOKED")
        assert [await running.call(owner, token) for token, _ in (first, second, kept)] == [
            "TOKEN_REVOKED",
            "TOKEN_REVOKED",
            "",
        ]
        assert running.validation.validator._view.stop > stopped_at
        assert running.validation.validator._view.count == 3


async def test_h5_a_service_that_is_cut_off_refuses_and_recovers(own_house: House) -> None:
    async with guarded(own_house, bounds=Bounds.same(timedelta(seconds=1))) as running:
        owner = agent(own_house)
        token, credential = await owner.token()
        other, _ = await owner.token()
        await running.comes_to(owner, token, "")  # the view may be older than that for a moment on a busy machine
        await own_house.stop()
        await running.comes_to(owner, token, "VIEW_STALE")
        await own_house.start()
        await revoke(own_house.channel(own_house.svid(SECURITY)), credential_id=credential)
        await running.comes_to(owner, other, "")
        await running.comes_to(owner, token, "TOKEN_REVOKED")
