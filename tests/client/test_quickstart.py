"""The quick start for agents, run as it is printed: only the addresses are those of the test."""

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tests.client.http_stage import open_http_stage
from tests.client.stage import Stage
from tests.operations.world import ROOT

PAGE = (ROOT / "docs" / "quickstart-agent.md").read_text()
EXAMPLES = ROOT / "examples" / "support-desk"


def printed(beginning: str) -> str:
    """Return the block of code that has these words."""
    (found,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if beginning in block]
    return str(found)


def prepared(stage: Stage, code: str) -> str:
    """Put the addresses of the test into some code."""
    door = f"127.0.0.1:{stage.house.door.port}"
    return code.replace("127.0.0.1:8443", door).replace("127.0.0.1:8444", stage.streaming)


async def run(code: str, names: dict[str, Any]) -> None:
    """Run code that may wait at its top level; what it names stays in `names`."""
    compiled = compile(code, "quickstart-agent.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(compiled, names)  # noqa: S307 - our own page
    if inspect.isawaitable(waiting):
        await waiting


@pytest.fixture
def names(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a reader has besides: the generated code of the service, and SPIRE's socket."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", stage.agent.socket)
    from orders.v1 import orders_pb2, orders_pb2_grpc  # noqa: PLC0415 - found only now

    return {
        "OrdersServiceStub": orders_pb2_grpc.OrdersServiceStub,
        "GetOrderRequest": orders_pb2.GetOrderRequest,
    }


@pytest.fixture
async def after_the_first(stage: Stage, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What there is once the first block has run; the session of its own is over, so there is another."""
    await asyncio.to_thread(exec, prepared(stage, printed("asyncio.run(main())")), names)
    assert capsys.readouterr().out.splitlines()[-1] == "Lamp"
    return names | {"session": stage.session}


async def test_the_first_block(stage: Stage, after_the_first: dict[str, Any]) -> None:
    assert after_the_first["INTENTS"]
    assert stage.orders.sent[-1].startswith("Bearer ey")


async def test_a_task(after_the_first: dict[str, Any]) -> None:
    await run(printed("session.task("), after_the_first)
    assert after_the_first["task"].id.startswith("task_")


async def test_http(after_the_first: dict[str, Any]) -> None:
    async with open_http_stage() as web:
        names = after_the_first | {"session": web.stage.session}
        await run(printed("client.http.transport").replace("127.0.0.1:8445", web.address), names)
        assert names["response"].status_code == 200
        assert web.shop.seen[0].startswith("Bearer ey")


async def test_a_tool(stage: Stage, after_the_first: dict[str, Any]) -> None:
    await run(prepared(stage, printed("langchain_core")), after_the_first)
    assert await after_the_first["look_up_order"].ainvoke({"order_id": "1234"}) == "Lamp"


async def test_without_asyncio(stage: Stage, after_the_first: dict[str, Any]) -> None:
    code = prepared(stage, printed("sync.connect"))
    await asyncio.to_thread(exec, code, after_the_first)
    assert after_the_first["order"].article == "Lamp"


def test_the_page_names_what_there_is() -> None:
    import broker.client as sdk  # noqa: PLC0415 - the names are what is tested

    named = set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE)) - {"IdentityUnavailable"}
    assert named <= set(sdk.__all__)
    assert Path(sdk.__file__).name == "__init__.py"
