"""Another agent, of another business unit: an honest identity of its own, and somebody else's credential in its hands.

It is a normal agent in all else, so that what refuses it is not its identity.
"""

import asyncio
import os
from contextlib import suppress
from typing import Any

import grpc
from agent import Agent
from lines import answer
from orders.v1 import orders_pb2, orders_pb2_grpc
from shared_key import HEADER
from shop import ORDERS

from broker.client import connect


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


class Thief(Agent):
    """An agent that also uses what it has stolen."""

    async def use_stolen(self, *, token: str, order: str) -> dict[str, Any]:
        """Send a stolen credential over a connection of its own."""
        return await self.get_order_with(_bearer(token), order)

    async def try_stolen(self, *, token: str) -> dict[str, Any]:
        """Try a stolen credential on every order of the shop."""
        return await self.try_all_with(_bearer(token))

    async def try_shared_key(self, *, key: str, address: str) -> dict[str, Any]:
        """Try a stolen API key on every order of the stand-in service."""
        opened: list[str] = []
        async with grpc.aio.insecure_channel(address) as channel:
            stub: orders_pb2_grpc.OrdersServiceAsyncStub = orders_pb2_grpc.OrdersServiceStub(channel)
            for order in ORDERS:
                with suppress(grpc.aio.AioRpcError):
                    request = orders_pb2.GetOrderRequest(order_id=order)
                    found = await stub.GetOrder(request, metadata=((HEADER, key),), timeout=10)
                    opened += [order] if found.article == ORDERS[order].article else []
        return {"tried": len(ORDERS), "opened": opened}

    def handlers(self) -> dict[str, Any]:
        """Return what it can be told to do."""
        stolen = {name: getattr(self, name) for name in ("use_stolen", "try_stolen", "try_shared_key")}
        return super().handlers() | stolen


async def main(service: str) -> None:
    """Do what it is told until standard input ends."""
    async with connect(os.environ["BROKER_ADDRESS"], broker_id=os.environ["BROKER_ID"]) as session:
        await answer(Thief(session=session, service=service).handlers())


if __name__ == "__main__":
    asyncio.run(main("spiffe://example.org/service/orders"))
