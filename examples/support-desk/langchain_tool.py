"""Two LangChain tools. What the model calls, and with what, becomes the intent of one credential.

    python langchain_tool.py HOST:PORT      where the orders service listens

Calls them as LangChain does, without a model. SPIFFE_ENDPOINT_SOCKET says where the SPIRE agent answers,
BROKER_ADDRESS and BROKER_ID which broker to ask.
"""

import os
import sys
from typing import Final, Literal

from langchain_core.tools import BaseTool, tool
from orders.v1.orders_pb2 import GetOrderRequest, RefundOrderRequest
from orders.v1.orders_pb2_grpc import OrdersServiceStub

from broker.client import Credential, Task
from broker.client.sync import Session, connect
from broker.client.tools import Tool

ORDERS: Final = "spiffe://example.org/service/orders"
PURPOSE: Final = "customer-support"


def tools(session: Session, address: str, task: Task) -> list[BaseTool]:
    """Return the tools of one task."""

    def orders(credential: Credential) -> OrdersServiceStub:
        return OrdersServiceStub(session.channel(ORDERS, address, credential=credential))

    @tool
    @Tool(
        session=session,
        action="order.read",
        resource=("order", "order_id"),
        purpose=PURPOSE,
        audience=ORDERS,
        cache=True,
    )
    def look_up_order(credential: Credential, order_id: str) -> str:
        """Look one order up: the article, and its price in cents."""
        found = orders(credential).GetOrder(GetOrderRequest(order_id=order_id), timeout=10)
        return f"{found.article}, {found.price_cents} cents"

    @tool
    @Tool(
        session=session,
        action="order.refund",
        resource=("order", "order_id"),
        purpose=PURPOSE,
        audience=ORDERS,
        task=task,
    )
    def refund_order(credential: Credential, order_id: str, amount: int, currency: Literal["EUR"] = "EUR") -> str:
        """Pay an order back, wholly or in part; the amount is in cents."""
        request = RefundOrderRequest(order_id=order_id, amount_cents=amount)
        paid = orders(credential).RefundOrder(request, timeout=10)
        return f"{paid.refunded_cents} cents in {currency} were paid back"

    return [look_up_order, refund_order]


def main(address: str) -> None:
    """Do what a model would: look an order up, pay back a little, and then too much."""
    with (
        connect(os.environ["BROKER_ADDRESS"], broker_id=os.environ["BROKER_ID"]) as session,
        session.task(purpose=PURPOSE) as task,
    ):
        look_up, refund = tools(session, address, task)
        print(look_up.invoke({"order_id": "1234"}))
        print(refund.invoke({"order_id": "1234", "amount": 4_200}))
        print(refund.invoke({"order_id": "1234", "amount": 25_000}))


if __name__ == "__main__":
    main(sys.argv[1])
