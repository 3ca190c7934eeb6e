"""An agent's session with the real broker over loopback, and a guarded service that it calls.

The service speaks two methods of the broker's own protocol, so that no other has to be generated: the purpose of a
BeginTask, and the cursor of a SubscribeRevocations, name an order here.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

import broker.client
from broker.client import Ask, Session
from broker.intent import Resource
from broker.link.credentials import server_credentials
from broker.link.source import IdentitySource
from broker.link.tunnel import Tunnel
from broker.svid.spiffe_id import SpiffeId
from broker.v1 import revoke_pb2, revoke_pb2_grpc, task_pb2, task_pb2_grpc
from broker.validator import Bounds, Call, open_validator, verified_token
from tests.attacks.house import House, open_house
from tests.fakes.orders_service import TASKS
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import BROKER, ORDERS, SUPPORT

GET = "/broker.v1.TaskService/BeginTask"
# No test here is about a view that is too old, and on a busy machine one may be for a moment.
PATIENT = Bounds.same(timedelta(minutes=1))
END = "/broker.v1.TaskService/EndTask"
WATCH = "/broker.v1.RevocationService/SubscribeRevocations"


def reading(order: str, **more: Any) -> Ask:
    """What it is to look up an order."""
    return Ask(action="order.read", resource=("order", order), purpose="customer-support", **more)


INTENTS: dict[str, Any] = {
    GET: lambda request: reading(request.purpose),
    WATCH: lambda request: reading(request.cursor),
}


def get(order: str = "1234") -> task_pb2.BeginTaskRequest:
    """A call that looks up an order."""
    return task_pb2.BeginTaskRequest(purpose=order)


def _touches(order: str) -> Call:
    return Call(action="order.read", resource=Resource(type="order", id=order), tenant="retail")


@dataclass
class Orders(task_pb2_grpc.TaskServiceServicer, revoke_pb2_grpc.RevocationServiceServicer):
    """The service; `handled` are the credentials that came through the guard, `sent` what streams were asked with.

    The guard takes no streams, so they are served beside it.
    """

    handled: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    async def BeginTask(self, request: Any, context: Any) -> task_pb2.BeginTaskResponse:  # noqa: ARG002, N802 - gRPC's
        self.handled.append(verified_token().credential_id)
        return task_pb2.BeginTaskResponse()

    async def SubscribeRevocations(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802 - gRPC's
        self.sent.append(dict(context.invocation_metadata())["authorization"])
        for position in range(3):
            yield revoke_pb2.SubscribeRevocationsResponse(to_position=position)

    async def look_up(self, _: bytes, context: Any) -> bytes:
        """Answer orders.v1.GetOrder, as bytes: the article."""
        self.sent.append(dict(context.invocation_metadata())["authorization"])
        return b"\x0a\x04Lamp"

    async def join(self, requests: AsyncIterator[bytes], _: Any) -> bytes:
        """Answer orders.v1.Beside/Join."""
        return b" ".join([each async for each in requests])

    async def echo(self, requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        """Answer orders.v1.Beside/Echo."""
        async for each in requests:
            yield each


@dataclass(kw_only=True)
class Stage:
    """Everything that a test has in hand."""

    house: House
    agent: WorkloadApi
    service: WorkloadApi
    orders: Orders
    address: str
    streaming: str
    session: Session

    def channel(self, **changes: Any) -> grpc.aio.Channel:
        return self.session.channel(ORDERS, self.address, intents=INTENTS | changes)

    def stream(self, order: str = "1234") -> Any:
        """Call the method with many answers."""
        channel = self.session.channel(ORDERS, self.streaming, intents=INTENTS)
        stub: Any = revoke_pb2_grpc.RevocationServiceStub(channel)
        return stub.SubscribeRevocations(revoke_pb2.SubscribeRevocationsRequest(cursor=order), timeout=60)

    def stub(self, **changes: Any) -> "task_pb2_grpc.TaskServiceAsyncStub":
        return task_pb2_grpc.TaskServiceStub(self.channel(**changes))

    def renew(self, api: WorkloadApi, who: str) -> None:
        """Give a workload a new leaf, as SPIRE does."""
        api.give_svid(self.house.svid(who), self.house.home)


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Build a house, a service and an agent."""
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house())
        apis = {}
        for name, who in (("agent", SUPPORT), ("orders", ORDERS)):
            apis[name] = WorkloadApi(house.folder / f"of-{name}.sock")
            apis[name].give_svid(house.svid(who), house.home)
            stack.callback(apis[name].start().stop)
        orders = Orders()  # type: ignore[abstract]  # the other methods are never called
        port, streaming = await _serve(stack, house, apis["orders"], orders)
        session = await stack.enter_async_context(
            broker.client.connect(
                f"127.0.0.1:{house.door.port}", broker_id=BROKER, socket=apis["agent"].socket, timeout=60
            )
        )
        yield Stage(
            house=house,
            agent=apis["agent"],
            service=apis["orders"],
            orders=orders,
            address=f"127.0.0.1:{port}",
            streaming=f"127.0.0.1:{streaming}",
            session=session,
        )


async def _serve(stack: AsyncExitStack, house: House, api: WorkloadApi, orders: Orders) -> tuple[int, int]:
    source = await IdentitySource.open(socket=api.socket, spiffe_id=None, hint=None, timeout=60)
    stack.callback(source.close)
    tunnel = stack.enter_context(
        Tunnel(
            host="127.0.0.1",
            port=house.door.port,
            server_id=SpiffeId.parse(BROKER),
            supply=source,
            clock=lambda: datetime.now(UTC),
        )
    )
    channel = await stack.enter_async_context(tunnel.channel())
    validation = await stack.enter_async_context(
        open_validator(channel=channel, issuer=house.settings.broker.issuer, audience=ORDERS, bounds=PATIENT)
    )
    await validation.feed.ready()
    guard = validation.interceptor(
        bundles=source.bundles,
        services=[TASKS],
        calls={
            GET: lambda request: _touches(request.purpose),
            END: lambda request: _touches(request.task_id),
        },
    )
    guarded, plain = grpc.aio.server(interceptors=[guard]), grpc.aio.server()
    task_pb2_grpc.add_TaskServiceServicer_to_server(orders, guarded)
    revoke_pb2_grpc.add_RevocationServiceServicer_to_server(orders, plain)
    look_up: dict[str, Any] = {"GetOrder": grpc.unary_unary_rpc_method_handler(orders.look_up)}
    beside: dict[str, Any] = {
        "Join": grpc.stream_unary_rpc_method_handler(orders.join),
        "Echo": grpc.stream_stream_rpc_method_handler(orders.echo),
    }
    for name, handlers in (("orders.v1.OrdersService", look_up), ("orders.v1.Beside", beside)):
        plain.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
    ports = []
    for server in (guarded, plain):
        credentials = server_credentials(source, on_handshake=lambda: None, on_failure=lambda: None)
        ports.append(server.add_secure_port("127.0.0.1:0", credentials))
        await server.start()
        stack.push_async_callback(server.stop, 0)
    return ports[0], ports[1]
