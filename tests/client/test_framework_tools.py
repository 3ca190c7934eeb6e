"""The example's tools, called as their frameworks call them: real broker, real service, no model."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

import broker.client.sync
from broker.link.credentials import server_credentials
from broker.link.source import IdentitySource
from tests.client.http_stage import validating
from tests.client.stage import Stage
from tests.operations.world import BROKER, ROOT

EXAMPLES = ROOT / "examples" / "support-desk"
REFUND_LIMIT = "I can refund up to 50 euros myself. For more than that, a colleague has to help you."


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The example's orders service, and the modules with its tools."""

    stage: Stage
    address: str
    orders: Any
    langchain: Any
    openai: Any


@pytest.fixture(scope="module")
async def desk(stage: Stage) -> AsyncIterator[Desk]:
    """The example's own service, guarded as it guards itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        import langchain_tool  # noqa: PLC0415 - found only now
        import openai_agents_tool  # noqa: PLC0415
        import service  # noqa: PLC0415
        from orders.v1 import orders_pb2_grpc  # noqa: PLC0415
    async with AsyncExitStack() as stack:
        source = await IdentitySource.open(socket=stage.service.socket, spiffe_id=None, hint=None, timeout=60)
        stack.callback(source.close)
        validation = await stack.enter_async_context(validating(stage, source))
        guard = validation.interceptor(bundles=source.bundles, services=service.SERVICES, calls=service.CALLS)
        server = grpc.aio.server(interceptors=[guard])
        orders = service.Orders()
        orders_pb2_grpc.add_OrdersServiceServicer_to_server(orders, server)
        credentials = server_credentials(source, on_handshake=lambda: None, on_failure=lambda: None)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        stack.push_async_callback(server.stop, 0)
        yield Desk(
            stage=stage,
            address=f"127.0.0.1:{port}",
            orders=orders,
            langchain=langchain_tool,
            openai=openai_agents_tool,
        )


async def test_langchain(desk: Desk) -> None:
    def program() -> None:
        door = f"127.0.0.1:{desk.stage.house.door.port}"
        with (
            broker.client.sync.connect(door, broker_id=BROKER, socket=desk.stage.agent.socket, timeout=60) as session,
            session.task(purpose="customer-support") as task,
        ):
            look_up, refund = desk.langchain.tools(session, desk.address, task)
            assert look_up.args == {"order_id": {"title": "Order Id", "type": "string"}}
            assert set(refund.args) == {"order_id", "amount", "currency"}
            assert look_up.description.startswith("Look one order up")
            call = {"name": "look_up_order", "args": {"order_id": "1234"}, "id": "call_1", "type": "tool_call"}
            assert look_up.invoke(call).content == "coffee grinder, 8990 cents"
            assert asyncio.run(look_up.ainvoke({"order_id": "1235"})) == "umbrella, 1790 cents"
            assert refund.invoke({"order_id": "1234", "amount": 4200}) == "4200 cents in EUR were paid back"
            before = desk.orders.served
            assert REFUND_LIMIT in refund.invoke({"order_id": "1234", "amount": 25_000})
            assert "INTENT_RESOURCE_INVALID" in look_up.invoke({"order_id": "12\u202e34"})
            assert "TOKEN_TENANT_MISMATCH" in look_up.invoke({"order_id": "8001"}), "another unit's order"
            assert desk.orders.served == before

    await asyncio.to_thread(program)


async def test_openai_agents(desk: Desk) -> None:
    session, called = desk.stage.session, desk.openai.called
    async with session.task(purpose="customer-support") as task:
        look_up, refund = desk.openai.tools(session, desk.address, task)
        assert set(look_up.params_json_schema["properties"]) == {"order_id"}
        assert set(refund.params_json_schema["properties"]) == {"order_id", "amount", "currency"}
        assert "redential" not in json.dumps([look_up.params_json_schema, refund.params_json_schema])
        assert look_up.description.startswith("Look one order up")
        assert await called(look_up, order_id="1234") == "coffee grinder, 8990 cents"
        assert await called(refund, order_id="1234", amount=4200, currency="EUR") == "4200 cents in EUR were paid back"
        before = desk.orders.served
        assert REFUND_LIMIT in await called(refund, order_id="1234", amount=25_000, currency="EUR")
        assert "INTENT_RESOURCE_INVALID" in await called(look_up, order_id="12\u202e34")
        assert "TOKEN_TENANT_MISMATCH" in await called(look_up, order_id="8001")
        assert desk.orders.served == before


@pytest.mark.parametrize("example", ["langchain", "openai"])
async def test_an_example_runs_as_printed(
    desk: Desk, example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", desk.stage.agent.socket)
    monkeypatch.setenv("BROKER_ADDRESS", f"127.0.0.1:{desk.stage.house.door.port}")
    monkeypatch.setenv("BROKER_ID", BROKER)
    if example == "langchain":
        await asyncio.to_thread(desk.langchain.main, desk.address)
    else:
        await desk.openai.main(desk.address)
    said = [each for each in capsys.readouterr().out.splitlines() if "[info" not in each]  # the broker's log
    assert said[:2] == ["coffee grinder, 8990 cents", "4200 cents in EUR were paid back"]
    assert said[2].startswith(f"Refused (POLICY_FORBIDDEN): {REFUND_LIMIT}")
