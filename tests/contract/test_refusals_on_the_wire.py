"""Every reason goes through a real channel and comes out as the client's error, whole."""

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from broker.client.channel import Endpoint
from broker.client.errors import CLASSES, RefusedError, StepUpRequired, from_status
from broker.client.session import Session
from broker.errors import Reason, Refusal
from broker.server.status import code_of
from broker.v1 import exchange_pb2, exchange_pb2_grpc
from tests.fakes.issuer import new_ids
from tests.server.supply import Supply
from tests.server.world import BROKER, ORDERS, World, open_world, request


@pytest_asyncio.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    async with open_world() as opened:
        yield opened


@pytest_asyncio.fixture(scope="module")
async def session(world: World) -> AsyncIterator[Session]:
    broker = Endpoint(address=f"127.0.0.1:{world.door.port}", spiffe_id=BROKER)
    opened = Session(
        supply=Supply(world.domain, world.agent), broker=broker, clock=world.issuer.clock, new_id=new_ids()
    )
    yield opened
    await opened.close()


def refusal_of(reason: Reason) -> Refusal:
    return Refusal(
        reason, "field.name", policy_ids=("limit", "base"), decision_id="dec_1", sentence="A sentence of a policy’s."
    )


# What a person has yet to decide is told apart from whatever else must happen first.
WAITING = {Reason.STEP_UP_REQUIRED: StepUpRequired, Reason.APPROVAL_PENDING: StepUpRequired}


def check(error: RefusedError, reason: Reason) -> None:
    assert type(error) is WAITING.get(reason, CLASSES[reason.category])
    assert error.reason is reason
    assert (error.decision_id, error.policy_ids, error.detail) == ("dec_1", ("limit", "base"), "field.name")
    assert error.sentence == "A sentence of a policy’s."
    assert error.next_step == reason.meaning.next_step
    assert error.request.startswith("req_")
    assert reason.name in str(error)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
async def test_a_call(world: World, session: Session, reason: Reason) -> None:
    world.issuer.refusal = refusal_of(reason)
    with pytest.raises(RefusedError) as caught:
        await session.exchange(action="order.read", resource=("order", "1"), purpose="support", audience=ORDERS)
    check(caught.value, reason)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
async def test_an_item_of_a_stream(world: World, reason: Reason) -> None:
    world.issuer.refusal = None
    talk = exchange_pb2_grpc.ExchangeServiceStub(world.channel()).ExchangeStream(timeout=60)
    item = exchange_pb2.ExchangeStreamRequest.Item(request=request())
    await talk.write(exchange_pb2.ExchangeStreamRequest(items=[item]))
    good = await talk.read()
    assert isinstance(good, exchange_pb2.ExchangeStreamResponse)
    assert good.items[0].credential.token  # the same without the refusal
    world.issuer.refusal = refusal_of(reason)
    await talk.write(exchange_pb2.ExchangeStreamRequest(items=[item]))
    answer = await talk.read()
    assert isinstance(answer, exchange_pb2.ExchangeStreamResponse)
    status = answer.items[0].refusal
    assert status.code == code_of(reason).value[0]
    error = from_status(status)
    assert error is not None
    check(error, reason)
    await world.channels.pop().close()


async def test_the_code_is_the_tables(world: World) -> None:
    world.issuer.refusal = refusal_of(Reason.POLICY_FORBIDDEN)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await exchange_pb2_grpc.ExchangeServiceStub(world.channel()).Exchange(request(), timeout=60)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
