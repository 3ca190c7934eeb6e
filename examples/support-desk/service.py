"""The orders service: a gRPC service that accepts a call only with a credential that covers it.

All that protects it is in `main`: TLS with its own SVID, a feed of revocations from the broker, and an interceptor that
is told what each method touches, and whether it reads or writes. The handlers know nothing of credentials.

SPIFFE_ENDPOINT_SOCKET says where the SPIRE agent answers.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any, Final

import grpc
from lines import answer
from orders.v1 import orders_pb2, orders_pb2_grpc
from shop import CUSTOMERS, ORDERS, tenant_of_customer, tenant_of_order

from broker.validator import Call, Entry, Resource, connect, outcome, reads, writes

SERVICE_ID: Final = "spiffe://example.org/service/orders"
CURRENCY: Final = "EUR"
# A refund of more is another action, which a person answers for.
MOST_UNASKED: Final = 5000
_NAME: Final = "/orders.v1.OrdersService"


class Orders(orders_pb2_grpc.OrdersServiceServicer):
    """The shop's data. By the time a handler runs, its call has been judged."""

    def __init__(self) -> None:
        self.served = 0
        self.refunds = 0

    async def GetOrder(self, request: orders_pb2.GetOrderRequest, context: Any) -> orders_pb2.GetOrderResponse:  # noqa: ANN401, ARG002, N802  # gRPC's signature
        """Look an order up."""
        self.served += 1
        order = ORDERS[request.order_id]
        return orders_pb2.GetOrderResponse(article=order.article, price_cents=order.price_cents)

    async def GetCustomer(self, request: orders_pb2.GetCustomerRequest, context: Any) -> orders_pb2.GetCustomerResponse:  # noqa: ANN401, ARG002, N802
        """Look a customer up."""
        self.served += 1
        return orders_pb2.GetCustomerResponse(name=CUSTOMERS[request.customer_id].name)

    async def RefundOrder(self, request: orders_pb2.RefundOrderRequest, context: Any) -> orders_pb2.RefundOrderResponse:  # noqa: ANN401, ARG002, N802
        """Pay back, and say under which number that was booked."""
        self.served += 1
        self.refunds += 1
        await outcome().done(reference=f"refund-{request.order_id}-{self.refunds}")
        return orders_pb2.RefundOrderResponse(refunded_cents=request.amount_cents)


class Delivery(orders_pb2_grpc.DeliveryServiceServicer):
    """Where orders go to."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}

    async def ChangeAddress(  # noqa: N802
        self,
        request: orders_pb2.ChangeAddressRequest,
        context: Any,  # noqa: ANN401, ARG002
    ) -> orders_pb2.ChangeAddressResponse:
        """Send an order to another address."""
        self.addresses[request.order_id] = request.address
        await outcome().done(reference=f"address-{request.order_id}")
        return orders_pb2.ChangeAddressResponse()


def _order(request: orders_pb2.GetOrderRequest) -> Call:
    resource = Resource(type="order", id=request.order_id)
    return Call(action="order.read", resource=resource, tenant=tenant_of_order(request.order_id))


def _customer(request: orders_pb2.GetCustomerRequest) -> Call:
    resource = Resource(type="customer", id=request.customer_id)
    return Call(action="customer.read", resource=resource, tenant=tenant_of_customer(request.customer_id))


def _address(request: orders_pb2.ChangeAddressRequest) -> Call:
    return Call(
        action="order.address_change",
        resource=Resource(type="order", id=request.order_id),
        tenant=tenant_of_order(request.order_id),
        parameters={"address": request.address},
    )


def _refund(request: orders_pb2.RefundOrderRequest) -> Call:
    return Call(
        action="order.refund" if request.amount_cents <= MOST_UNASKED else "order.refund_large",
        resource=Resource(type="order", id=request.order_id),
        tenant=tenant_of_order(request.order_id),
        parameters={"amount": request.amount_cents, "currency": CURRENCY},
    )


SERVICES: Final = tuple(orders_pb2.DESCRIPTOR.services_by_name.values())
# What each method touches, in the words of the policy bundle: without a line for each the service does not start. What
# reads may go on a little longer than what writes while the broker cannot be heard.
CALLS: Final[dict[str, Entry]] = {
    f"{_NAME}/GetOrder": reads(_order),
    f"{_NAME}/GetCustomer": reads(_customer),
    f"{_NAME}/RefundOrder": writes(_refund),
    "/orders.v1.DeliveryService/ChangeAddress": writes(_address),
}


async def main(broker: str, broker_id: str, issuer: str, spool: Path | None) -> None:
    """Serve until standard input ends."""
    async with connect(broker, broker_id=broker_id, issuer=issuer, spiffe_id=SERVICE_ID, spool=spool) as service:
        await service.ready()
        guard = service.interceptor(
            services=SERVICES,
            calls=CALLS,
        )
        server = grpc.aio.server(interceptors=[guard])
        orders, delivery = Orders(), Delivery()
        orders_pb2_grpc.add_OrdersServiceServicer_to_server(orders, server)
        orders_pb2_grpc.add_DeliveryServiceServicer_to_server(delivery, server)
        bound = server.add_secure_port("127.0.0.1:0", service.server_credentials())
        await server.start()

        async def state() -> dict[str, Any]:
            return {
                "port": bound,
                "served": orders.served,
                "refunds": orders.refunds,
                "addresses": delivery.addresses,
                "spiffe_id": str(service.source.identity().spiffe_id),
            }

        try:
            await answer({"state": state})
        finally:
            await server.stop(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker", required=True, help="host:port")
    parser.add_argument("--broker-id", required=True)
    parser.add_argument("--issuer", required=True, help="the `iss` of its credentials")
    parser.add_argument("--spool", type=Path, help="a folder for what it has to report; it reports nothing without one")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.broker, arguments.broker_id, arguments.issuer, arguments.spool))
