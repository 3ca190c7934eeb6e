"""The stand-in for "before": the same shop behind one shared API key, as tools are often protected today.

Whoever holds the key is let in: the service cannot tell who calls, what for, or on which order.
"""

import asyncio
import hmac
import secrets
from typing import Any, Final

import grpc
from lines import answer
from orders.v1 import orders_pb2, orders_pb2_grpc
from shop import ORDERS

HEADER: Final = "x-api-key"


class SharedKeyOrders(orders_pb2_grpc.OrdersServiceServicer):
    """Serves everything to everybody who knows the key."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.served = 0

    async def GetOrder(self, request: orders_pb2.GetOrderRequest, context: Any) -> orders_pb2.GetOrderResponse:  # noqa: ANN401, N802  # gRPC's signature
        """Look an order up, for any holder of the key."""
        given = dict(context.invocation_metadata()).get(HEADER, "")
        if not hmac.compare_digest(given, self._key):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong API key")
        if request.order_id not in ORDERS:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
        self.served += 1
        order = ORDERS[request.order_id]
        return orders_pb2.GetOrderResponse(article=order.article, price_cents=order.price_cents)

    async def GetCustomer(self, request: orders_pb2.GetCustomerRequest, context: Any) -> orders_pb2.GetCustomerResponse:  # noqa: ANN401, ARG002, N802
        """Not part of the comparison."""
        return await context.abort(grpc.StatusCode.UNIMPLEMENTED, "orders only")  # type: ignore[no-any-return]

    async def RefundOrder(self, request: orders_pb2.RefundOrderRequest, context: Any) -> orders_pb2.RefundOrderResponse:  # noqa: ANN401, ARG002, N802
        """Not part of the comparison."""
        return await context.abort(grpc.StatusCode.UNIMPLEMENTED, "orders only")  # type: ignore[no-any-return]


async def main() -> None:
    """Serve until standard input ends."""
    key = secrets.token_urlsafe(24)
    server = grpc.aio.server()
    orders = SharedKeyOrders(key)
    orders_pb2_grpc.add_OrdersServiceServicer_to_server(orders, server)
    bound = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def state() -> dict[str, Any]:
        return {"port": bound, "served": orders.served}

    async def hand_out_key() -> dict[str, Any]:
        return {"key": key}

    try:
        await answer({"state": state, "hand_out_key": hand_out_key})
    finally:
        await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
