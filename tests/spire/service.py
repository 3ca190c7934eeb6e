"""The orders service as a workload: serves on the port it is given, and says how often, until its input ends."""

import asyncio
import json
import os
import sys
from typing import Any

import grpc
from orders.v1 import orders_pb2, orders_pb2_grpc

from broker.validator import Call, Resource, connect, reads

NAME = "/orders.v1.OrdersService"


class Orders(orders_pb2_grpc.OrdersServiceServicer):
    """Counts what it served."""

    def __init__(self) -> None:
        self.served = 0

    async def GetOrder(self, request: Any, context: Any) -> orders_pb2.GetOrderResponse:  # noqa: ARG002, N802
        """Serve one order."""
        self.served += 1
        return orders_pb2.GetOrderResponse(article=f"order {request.order_id}")

    GetCustomer = RefundOrder = GetOrder  # type: ignore[assignment]  # mapped to what nobody may


def order(request: Any) -> Call:
    return Call(action="order.read", resource=Resource(type="order", id=request.order_id), tenant="retail")


def nobody(request: Any) -> Call:  # noqa: ARG001
    return Call(action="nobody.may", resource=Resource(type="order", id="none"), tenant="retail")


async def main(port: int) -> None:
    broker = os.environ["BROKER_ADDRESS"]
    async with connect(broker, broker_id=os.environ["BROKER_ID"], issuer="https://broker.example.org") as service:
        guard = service.interceptor(
            services=[orders_pb2.DESCRIPTOR.services_by_name["OrdersService"]],
            calls={f"{NAME}/GetOrder": reads(order), f"{NAME}/GetCustomer": nobody, f"{NAME}/RefundOrder": nobody},
        )
        server = grpc.aio.server(interceptors=[guard])
        orders = Orders()
        orders_pb2_grpc.add_OrdersServiceServicer_to_server(orders, server)
        server.add_secure_port(f"127.0.0.1:{port}", service.server_credentials())
        await server.start()
        await service.ready()
        sys.stdout.write(json.dumps({"ready": True}) + "\n")
        sys.stdout.flush()
        while await asyncio.to_thread(sys.stdin.readline):
            sys.stdout.write(json.dumps({"served": orders.served}) + "\n")
            sys.stdout.flush()
        await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
