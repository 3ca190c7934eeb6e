"""A channel that gets a credential for each call: the right one, over the right connection, or no call at all."""

import asyncio
import logging
from typing import Any

import grpc
import pytest

from broker.client import Ask, BrokerError, Credential, Denied, TokenRefused, Undeclared, Unreachable
from broker.errors import Reason
from broker.v1 import task_pb2_grpc
from tests.client.stage import END, GET, INTENTS, Stage, get, reading
from tests.operations.world import ORDERS, SUPPORT


async def test_each_call_has_a_credential_of_its_own(stage: Stage) -> None:
    stub, before = stage.stub(), len(stage.orders.handled)
    for _ in range(3):
        await stub.BeginTask(get())
    assert len(set(stage.orders.handled[before:])) == 3


async def test_a_stream_of_answers_has_one_too(stage: Stage) -> None:
    call = stage.stream()
    assert [answer.to_position async for answer in call] == [0, 1, 2]
    assert await call.code() is grpc.StatusCode.OK
    assert len(stage.orders.sent) == 1
    assert stage.orders.sent[0].startswith("Bearer ey")


async def test_a_denied_intent_is_no_call(stage: Stage) -> None:
    before = len(stage.orders.handled)
    stub = stage.stub(**{GET: lambda _: Ask(action="order.read", resource=("order", "1234"), purpose="billing")})
    with pytest.raises(Denied) as caught:
        await stub.BeginTask(get())
    assert caught.value.sentence
    assert len(stage.orders.handled) == before


async def test_what_the_credential_does_not_cover_the_service_refuses(stage: Stage) -> None:
    stub = stage.stub(**{GET: lambda _: reading("1234")})
    await stub.BeginTask(get("1234"))
    with pytest.raises(TokenRefused) as caught:
        await stub.BeginTask(get("1235"))
    assert caught.value.reason is Reason.TOKEN_SCOPE_EXCEEDED


async def test_a_method_without_an_intent_is_not_called(stage: Stage) -> None:
    stub: Any = stage.stub()
    before = len(stage.orders.handled)
    with pytest.raises(Undeclared, match=END):
        await stub.EndTask(get())
    with pytest.raises(Undeclared, match="without a request"):
        await stage.channel().stream_unary(GET)(iter([]))
    assert len(stage.orders.handled) == before


async def test_the_authorization_is_the_channels(stage: Stage) -> None:
    stub = stage.stub()
    await stub.BeginTask(get(), metadata=(("x-trace", "1"),))
    with pytest.raises(BrokerError, match="itself"):
        await stub.BeginTask(get(), metadata=(("Authorization", "Bearer x"),))


async def test_the_time_of_a_call_is_for_both(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> Credential:
        await asyncio.Event().wait()
        raise AssertionError

    channel = stage.channel()
    monkeypatch.setattr(stage.session, "exchange_intent", never)
    with pytest.raises(Unreachable, match="in time"):
        await task_pb2_grpc.TaskServiceStub(channel).BeginTask(get(), timeout=0.1)


async def test_a_cancelled_call_asks_no_further(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def never(*_: object, **__: object) -> Credential:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    monkeypatch.setattr(stage.session, "exchange_intent", never)
    call = stage.stub().BeginTask(get())
    assert not call.done()
    await waiting.wait()
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended.is_set()
    assert call.cancelled()


async def test_a_renewed_svid_changes_the_connection_with_the_credential(stage: Stage) -> None:
    stub = stage.stub()
    await stub.BeginTask(get())
    before = (await stage.session.exchange(**EXCHANGE)).thumbprint
    stage.renew(stage.agent, SUPPORT)
    async with asyncio.timeout(60):
        while (await stage.session.exchange(**EXCHANGE)).thumbprint == before:
            await stub.BeginTask(get())
    await stub.BeginTask(get())


async def test_no_token_is_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    real = Credential.metadata

    def seeing(credential: Credential) -> Any:
        seen.append(credential.token.reveal())
        return real(credential)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.DEBUG):
        patch.setattr(Credential, "metadata", seeing)
        await stage.stub().BeginTask(get())
        with pytest.raises(TokenRefused) as caught:
            await stage.stub(**{GET: lambda _: reading("1234")}).BeginTask(get("1235"))
    said = f"{caplog.text}{caught.value!r}{caught.value.__cause__!r}"
    assert len(seen) == 2
    assert all(token not in said for token in seen)


async def test_a_held_credential_goes_with_each_call(stage: Stage) -> None:
    credential = await stage.session.exchange(**EXCHANGE)
    channel = stage.session.channel(ORDERS, stage.address, credential=credential)
    stub, before = task_pb2_grpc.TaskServiceStub(channel), len(stage.orders.handled)
    for _ in range(2):
        await stub.BeginTask(get())
    assert stage.orders.handled[before:] == [credential.id] * 2
    with pytest.raises(TokenRefused) as caught:
        await stub.BeginTask(get("1235"))
    assert caught.value.reason is Reason.TOKEN_SCOPE_EXCEEDED
    with pytest.raises(BrokerError, match="authorization"):
        await stub.BeginTask(get(), metadata=(("authorization", "Bearer other"),))
    assert len(stage.orders.handled) == before + 2


def test_one_credential_or_one_a_call(stage: Stage) -> None:
    with pytest.raises(ValueError, match="not both"):
        stage.session.channel(ORDERS, stage.address, credential=object(), intents=INTENTS)  # type: ignore[arg-type]


EXCHANGE: dict[str, Any] = {
    "action": "order.read",
    "resource": ("order", "1234"),
    "purpose": "customer-support",
    "audience": ORDERS,
}
