"""The front for programs without asyncio: the same names, and nothing left behind."""

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import broker.client.sync
from broker.client import Denied, TokenRefused, Undeclared
from broker.v1 import revoke_pb2, revoke_pb2_grpc, task_pb2_grpc
from tests.client.stage import GET, INTENTS, Stage, get, reading
from tests.operations.world import BROKER, ORDERS
from tests.polling import eventually

READ: dict[str, Any] = {
    "action": "order.read",
    "resource": ("order", "1234"),
    "purpose": "customer-support",
    "audience": ORDERS,
}


def opened(stage: Stage) -> Any:
    address = f"127.0.0.1:{stage.house.door.port}"
    return broker.client.sync.connect(address, broker_id=BROKER, socket=stage.agent.socket, timeout=60)


async def test_a_program_without_asyncio(stage: Stage) -> None:
    def program() -> None:
        with opened(stage) as session:
            assert session.exchange(**READ).tenant == "retail"
            with pytest.raises(Denied):
                session.exchange(**(READ | {"purpose": "billing"}))
            channel = session.channel(ORDERS, stage.address, intents=INTENTS)
            task_pb2_grpc.TaskServiceStub(channel).BeginTask(get(), timeout=60)
            narrow = session.channel(ORDERS, stage.address, intents={GET: lambda _: reading("1234")})
            with pytest.raises(TokenRefused):
                task_pb2_grpc.TaskServiceStub(narrow).BeginTask(get("1235"))
            streaming: Any = revoke_pb2_grpc.RevocationServiceStub(
                session.channel(ORDERS, stage.streaming, intents=INTENTS)
            )
            answers = streaming.SubscribeRevocations(revoke_pb2.SubscribeRevocationsRequest(cursor="1234"))
            assert [answer.to_position for answer in answers] == [0, 1, 2]
            assert session.key_set().issuer
            assert next(session.subscribe_revocations()).HasField("snapshot")

    await asyncio.to_thread(program)


async def test_a_task_ends_with_its_block(stage: Stage) -> None:
    begun: list[str] = []

    def program() -> None:
        with opened(stage) as session:
            with session.task(purpose="customer-support") as task:
                begun.append(task.id)
                session.exchange(**READ, task=task)
            with pytest.raises(Denied), session.task(purpose="customer-support") as second:
                session.exchange(**(READ | {"purpose": "billing", "task": second}))
            begun.append(second.id)

    await asyncio.to_thread(program)
    ended = [event["task"] for event in await stage.house.log(whole=True) if event["type"] == "task.ended"]
    assert ended[-2:] == begun


async def test_threads_share_a_session(stage: Stage) -> None:
    def program() -> None:
        with opened(stage) as session, ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: session.exchange(**READ).id, range(40)))
            assert len(set(found)) == 40

    await asyncio.to_thread(program)


async def test_requests_may_be_a_stream(stage: Stage) -> None:
    def program() -> None:
        with opened(stage) as session:
            credential = session.exchange(**READ)
            channel = session.channel(ORDERS, stage.streaming, credential=credential)
            requests = iter([b"one", b"two", b"three"])
            joined = channel.stream_unary("/orders.v1.Beside/Join")(requests, timeout=60)
            assert joined == b"one two three"
            echoed = channel.stream_stream("/orders.v1.Beside/Echo")((each for each in [b"1", b"2"]), timeout=60)
            assert list(echoed) == [b"1", b"2"]
            attached = session.channel(ORDERS, stage.streaming, intents=INTENTS)
            with pytest.raises(Undeclared, match="begins without a request"):
                attached.stream_unary("/orders.v1.Beside/Join")(iter([b"one"]))

    await asyncio.to_thread(program)


async def test_its_thread_ends(stage: Stage) -> None:
    def program() -> None:
        with opened(stage):
            assert any(thread.name == "broker-client" for thread in threading.enumerate())

    await asyncio.to_thread(program)

    async def gone() -> bool:
        return not any(thread.name == "broker-client" for thread in threading.enumerate())

    await eventually(gone)


def test_it_has_the_same_names() -> None:
    def names(of: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(of, callable) if not name.startswith("_")}

    own = names(broker.client.sync.Session)
    assert names(broker.client.Session) - own == {"close"}
    assert own >= {"subscribe_audit", "subscribe_revocations"}
