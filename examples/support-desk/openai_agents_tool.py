"""Two tools for the OpenAI Agents SDK. What the model calls, and with what, becomes the intent of one credential.

    python openai_agents_tool.py HOST:PORT      where the orders service listens

Calls them as the Agents SDK does, without a model. SPIFFE_ENDPOINT_SOCKET says where the SPIRE agent answers,
BROKER_ADDRESS and BROKER_ID which broker to ask.
"""

import asyncio
import json
import os
import sys
from typing import Final, Literal

from agents import FunctionTool, function_tool
from agents.tool_context import ToolContext
from orders.v1 import orders_pb2_grpc
from orders.v1.orders_pb2 import GetOrderRequest, RefundOrderRequest

from broker.client import Credential, Session, Task, connect
from broker.client.tools import Tool

ORDERS: Final = "spiffe://example.org/service/orders"
PURPOSE: Final = "customer-support"


def tools(session: Session, address: str, task: Task) -> list[FunctionTool]:
    """Return the tools of one task."""

    def orders(credential: Credential) -> "orders_pb2_grpc.OrdersServiceAsyncStub":
        return orders_pb2_grpc.OrdersServiceStub(session.channel(ORDERS, address, credential=credential))

    @function_tool
    @Tool(
        session=session,
        action="order.read",
        resource=("order", "order_id"),
        purpose=PURPOSE,
        audience=ORDERS,
        cache=True,
    )
    async def look_up_order(credential: Credential, order_id: str) -> str:
        """Look one order up: the article, and its price in cents."""
        found = await orders(credential).GetOrder(GetOrderRequest(order_id=order_id), timeout=10)
        return f"{found.article}, {found.price_cents} cents"

    @function_tool
    @Tool(
        session=session,
        action="order.refund",
        resource=("order", "order_id"),
        purpose=PURPOSE,
        audience=ORDERS,
        task=task,
    )
    async def refund_order(credential: Credential, order_id: str, amount: int, currency: Literal["EUR"] = "EUR") -> str:
        """Pay an order back, wholly or in part; the amount is in cents."""
        request = RefundOrderRequest(order_id=order_id, amount_cents=amount)
        paid = await orders(credential).RefundOrder(request, timeout=10)
        return f"{paid.refunded_cents} cents in {currency} were paid back"

    return [look_up_order, refund_order]


async def called(tool: FunctionTool, **arguments: str | int) -> str:
    """Call a tool as the Agents SDK does when a model asks for it: with arguments as JSON."""
    text = json.dumps(arguments)
    context = ToolContext(context=None, tool_name=tool.name, tool_call_id="call_1", tool_arguments=text)
    return str(await tool.on_invoke_tool(context, text))


async def main(address: str) -> None:
    """Do what a model would: look an order up, pay back a little, and then too much."""
    async with (
        connect(os.environ["BROKER_ADDRESS"], broker_id=os.environ["BROKER_ID"]) as session,
        session.task(purpose=PURPOSE) as task,
    ):
        look_up, refund = tools(session, address, task)
        print(await called(look_up, order_id="1234"))
        print(await called(refund, order_id="1234", amount=4_200, currency="EUR"))
        print(await called(refund, order_id="1234", amount=25_000, currency="EUR"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
