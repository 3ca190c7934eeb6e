"""What is good once, attacked at the real services: replayed, raced, taken back in between, asked for without a broker.

Two replicas of the orders service, each guarded as in production, before one counter of refunds that were done.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
import pytest

from broker.errors import Reason, Refusal
from broker.intent import Resource, call_digest
from broker.operations.redeem_calls import Redeemed
from broker.v1 import override_pb2, task_pb2, task_pb2_grpc
from broker.validator import Bounds, Call, GuardedService, connect, reads, verified_token, writes
from tests.attacks.entrances import (
    PATIENCE,
    Outcome,
    begin_task,
    end_task,
    exchange,
    impose,
    outcome,
    redeem,
    request,
    revoke,
)
from tests.attacks.house import House, open_house
from tests.fakes.orders_service import TASKS
from tests.fakes.trust_domain import pem
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import BROKER, ORDERS, SECURITY, SUPPORT
from tests.polling import eventually

BEGIN, END = "/broker.v1.TaskService/BeginTask", "/broker.v1.TaskService/EndTask"
PARAMETERS = '{"amount": 4200, "currency": "EUR"}'
DIGEST = call_digest(
    action="order.refund",
    resource=Resource(type="order", id="1234"),
    tenant="retail",
    parameters={"amount": 4200, "currency": "EUR"},
)


def refunds(asked: Any) -> Call:
    """A BeginTask of this service is a refund: its purpose is the order, its conversation the amount."""
    return Call(
        action="order.refund",
        resource=Resource(type="order", id=asked.purpose),
        tenant="retail",
        parameters={"amount": int(asked.conversation), "currency": "EUR"},
    )


def looks_up(asked: Any) -> Call:
    """An EndTask of it looks an order up."""
    return Call(action="order.read", resource=Resource(type="order", id=asked.task_id), tenant="retail")


@dataclass
class Till(task_pb2_grpc.TaskServiceServicer):
    """The service behind its guard: what it has paid back, by credential, and where that was spent."""

    paid: list[tuple[str, int | None]] = field(default_factory=list)
    looked: int = 0

    async def BeginTask(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - gRPC's
        token = verified_token()
        self.paid.append((token.credential_id, token.redemption))
        return task_pb2.BeginTaskResponse()

    async def EndTask(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - gRPC's
        self.looked += 1
        return task_pb2.EndTaskResponse()


@dataclass(kw_only=True)
class Shop:
    """The house, its service in two replicas, and one agent's way to each."""

    house: House
    till: Till
    services: list[GuardedService]
    ways: list[grpc.aio.Channel]
    agent: grpc.aio.Channel

    async def begin(self) -> str:
        return str((await begin_task(self.agent)).task.task_id)

    async def once(self, task: str = "") -> Any:
        asked = request(action="order.refund", parameters=PARAMETERS, task_id=task or await self.begin())
        return (await exchange(self.agent, asked)).credential

    async def pay(self, token: str, *, at: int = 0, amount: int = 4200) -> Outcome:
        asked = task_pb2.BeginTaskRequest(purpose="1234", conversation=str(amount))
        return await self._call(task_pb2_grpc.TaskServiceStub(self.ways[at]).BeginTask, asked, token)

    async def look(self, token: str, *, at: int = 0) -> Outcome:
        asked = task_pb2.EndTaskRequest(task_id="1234")
        return await self._call(task_pb2_grpc.TaskServiceStub(self.ways[at]).EndTask, asked, token)

    async def _call(self, method: Any, asked: Any, token: str) -> Outcome:
        return await outcome(method(asked, metadata=(("authorization", f"Bearer {token}"),), timeout=PATIENCE))

    async def redeemed(self, credential: str) -> list[int]:
        return [
            event["position"]
            for event in await self.house.log()
            if event["type"] == "credential.redeemed" and event["credential"] == credential
        ]


@asynccontextmanager
async def open_shop() -> AsyncIterator[Shop]:
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house())
        # One leaf for all that this agent does: its credentials are bound to it.
        svid = house.svid(SUPPORT)
        agent = await stack.enter_async_context(house.channel(svid))
        till = Till()  # type: ignore[abstract]  # the other methods are never called
        services, ways = list[GuardedService](), list[grpc.aio.Channel]()
        for number in range(2):
            api = WorkloadApi(house.folder / f"orders-{number}.sock")
            api.give_svid(house.svid(ORDERS, dns=("orders.test",)), house.home)
            api.start()
            stack.callback(api.stop)
            service = await stack.enter_async_context(
                connect(
                    f"127.0.0.1:{house.door.port}",
                    broker_id=BROKER,
                    issuer=house.settings.broker.issuer,
                    socket=api.socket,
                    bounds=Bounds.same(timedelta(minutes=5)),
                )
            )
            await service.ready()
            guard = service.interceptor(services=[TASKS], calls={BEGIN: writes(refunds), END: reads(looks_up)})
            server = grpc.aio.server(interceptors=[guard])
            task_pb2_grpc.add_TaskServiceServicer_to_server(till, server)
            port = server.add_secure_port("127.0.0.1:0", service.server_credentials())
            await server.start()
            stack.push_async_callback(server.stop, None)
            credentials = grpc.ssl_channel_credentials(pem(house.home.bundle), svid.private_key, svid.certificate_chain)
            options = [("grpc.ssl_target_name_override", "orders.test"), ("grpc.use_local_subchannel_pool", 1)]
            way = grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)
            ways.append(await stack.enter_async_context(way))
            services.append(service)
        yield Shop(house=house, till=till, services=services, ways=ways, agent=agent)


@pytest.fixture(scope="module")
async def shop() -> AsyncIterator[Shop]:
    async with open_shop() as opened:
        yield opened


@pytest.fixture
async def own_shop() -> AsyncIterator[Shop]:
    async with open_shop() as opened:
        yield opened


async def test_it_is_done_once_and_a_replay_is_refused_at_every_replica(shop: Shop) -> None:
    credential = await shop.once()
    assert (await shop.pay(credential.token)).reason == ""
    (position,) = await shop.redeemed(credential.credential_id)
    assert shop.till.paid[-1] == (credential.credential_id, position)
    done = len(shop.till.paid)
    for at in (0, 1, 0):
        told = await shop.pay(credential.token, at=at)
        assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CREDENTIAL_SPENT")
        assert told.sentence.endswith("I will not do it twice.")
    assert len(shop.till.paid) == done
    refused = [event for event in await shop.house.log() if event.get("credential") == credential.credential_id]
    assert [event.get("reason") for event in refused if event["type"] == "request.refused"] == ["CREDENTIAL_SPENT"] * 3


async def test_a_hundred_at_once_over_two_replicas_are_one(shop: Shop) -> None:
    credential, done = await shop.once(), len(shop.till.paid)
    told = await asyncio.gather(*(shop.pay(credential.token, at=number % 2) for number in range(100)))
    assert Counter(each.reason for each in told) == {"": 1, "CREDENTIAL_SPENT": 99}
    assert len(shop.till.paid) == done + 1
    assert len(await shop.redeemed(credential.credential_id)) == 1


async def test_another_call_spends_nothing(shop: Shop) -> None:
    credential = await shop.once()
    assert (await shop.pay(credential.token, amount=4201)).reason == "TOKEN_SCOPE_EXCEEDED"
    assert await shop.redeemed(credential.credential_id) == []
    assert (await shop.pay(credential.token)).reason == ""


async def test_a_thief_with_the_token_spends_nothing(shop: Shop) -> None:
    credential, thief = await shop.once(), shop.house.svid("spiffe://example.org/agent/wholesale-assistant")
    stub = redeem(shop.house.good(thief.id), credential.credential_id, digest=DIGEST)
    assert (await outcome(stub)).reason == "POLICY_NOT_PERMITTED"
    other_service = shop.house.good("spiffe://example.org/service/invoices")
    told = await outcome(redeem(other_service, credential.credential_id, digest=DIGEST))
    assert told.reason == "CREDENTIAL_UNKNOWN"
    assert (await shop.pay(credential.token)).reason == ""


@pytest.mark.parametrize("what", ["credential", "task", "stopped"])
async def test_what_was_taken_back_is_refused_although_the_service_has_not_heard(
    own_shop: Shop, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    shop, task = own_shop, await own_shop.begin()
    credential, control = await shop.once(task), await shop.once()
    security = shop.house.good(SECURITY)
    for service in shop.services:  # it hears nothing any more, and what it knows is not too old yet
        monkeypatch.setattr(service.validation.feed, "_take", lambda _: None)
    match what:
        case "credential":
            await revoke(security, credential_id=credential.credential_id)
            reasons = {"CREDENTIAL_REVOKED"}
        case "task":
            await end_task(shop.agent, task)
            reasons = {"CREDENTIAL_REVOKED", "TASK_ENDED"}
        case _:
            await impose(security, action_class=override_pb2.ACTION_CLASS_WRITE)
            reasons = {"OVERRIDE_IN_FORCE"}
    told = await shop.pay(credential.token)
    assert told.reason in reasons
    assert shop.till.paid == []
    if what != "stopped":
        assert (await shop.pay(control.token)).reason == ""


async def test_without_the_broker_reads_go_on_and_what_is_good_once_is_not_done(own_shop: Shop) -> None:
    shop = own_shop
    credential, reading = await shop.once(), (await exchange(shop.agent, request())).credential
    assert (await shop.look(reading.token)).reason == ""
    await shop.house.stop()
    told, looked = await asyncio.gather(shop.pay(credential.token), shop.look(reading.token))
    assert looked.reason == ""
    assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "REDEMPTION_UNAVAILABLE")
    assert (shop.till.paid, shop.till.looked) == ([], 2)
    await shop.house.start()
    again = await shop.once()

    async def paid() -> bool:  # the view has grown old meanwhile, and what is refused for that is not spent
        return (await shop.pay(again.token)).reason == ""

    await eventually(paid)
    assert [credential for credential, _ in shop.till.paid] == [again.credential_id]


async def test_a_lost_answer_is_asked_for_again_and_the_act_is_done_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the issuer dies between commit and answer; tests/faults kills it there."""
    credential, issuer = await shop.once(), type(shop.house.issuer)
    original, answers = issuer.redeem, list[Redeemed]()

    async def lost_at_first(self: Any, call: Any) -> Redeemed:
        answers.append(await original(self, call))
        if len(answers) == 1:
            raise Refusal(Reason.ISSUER_UNAVAILABLE)
        return answers[-1]

    monkeypatch.setattr(issuer, "redeem", lost_at_first)
    assert (await shop.pay(credential.token)).reason == ""
    first, second = answers
    assert first == second
    assert await shop.redeemed(credential.credential_id) == [first.position]
    assert shop.till.paid[-1] == (credential.credential_id, first.position)


async def test_nothing_secret_of_a_redemption_comes_out(shop: Shop) -> None:
    credential, key = await shop.once(), "canary-key-of-an-attempt"
    channel = shop.house.good(ORDERS)
    await redeem(channel, credential.credential_id, digest=DIGEST, key=key)
    told = await outcome(redeem(channel, credential.credential_id, digest=DIGEST, key=f"{key}-two"))
    assert told.reason == "CREDENTIAL_SPENT"
    contents = b"\n".join(event["content"] for event in await shop.house.log())
    assert credential.credential_id.encode() in contents
    for secret in (key, DIGEST, credential.token):
        assert secret.encode() not in contents
        assert secret not in told.everything
