"""A guarded gRPC service that reports: in a test's own process, or as `python -m tests.validator.guarded ...`.

Its one method is BeginTask; the purpose names an order, the conversation what the handler does.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from broker.intent import Resource
from broker.v1 import task_pb2, types_pb2
from broker.validator import Call, Validation, connect, outcome, reads, writes
from tests.fakes.orders_service import TASKS

METHOD = "/broker.v1.TaskService/BeginTask"


def touched(asked: task_pb2.BeginTaskRequest) -> Call:
    return Call(action="order.read", resource=Resource(type="order", id=asked.purpose), tenant=asked.tenant)


async def handle(request: task_pb2.BeginTaskRequest, context: Any) -> task_pb2.BeginTaskResponse:
    """Do what it is told; answer with the use that it was."""
    use = outcome()
    match request.conversation:
        case "raise":
            raise ValueError("the ledger is away")
        case "status":
            context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
        case "done":
            await use.done(reference="refund-7")
        case "failed":
            await use.failed()
        case "later":
            use.later()
        case "thread":
            await asyncio.to_thread(use.done(reference="refund-8").wait, 20)
        case _:
            pass
    return task_pb2.BeginTaskResponse(task=types_pb2.Task(conversation=use.id))


@asynccontextmanager
async def serving(
    validation: Validation, bundles: Any, credentials: grpc.ServerCredentials, *, write: bool = True
) -> AsyncIterator[int]:
    """Serve on loopback; give the port."""
    guard = validation.interceptor(
        bundles=bundles, services=[TASKS], calls={name: (writes if write else reads)(touched) for name in _methods()}
    )
    server = grpc.aio.server(interceptors=[guard])
    handler = grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=task_pb2.BeginTaskRequest.FromString,
        response_serializer=task_pb2.BeginTaskResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("broker.v1.TaskService", {"BeginTask": handler}),)
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def _methods() -> list[str]:
    return [f"/{TASKS.full_name}/{method.name}" for method in TASKS.methods]


async def main(address: str, broker_id: str, issuer: str, socket: str, spool: str) -> None:
    """Serve until killed; say the port once calls can be judged."""
    connection = connect(address, broker_id=broker_id, issuer=issuer, socket=socket, spool=Path(spool))
    async with (
        connection as service,
        serving(service.validation, service.source.bundles, service.server_credentials()) as port,
    ):
        await service.ready()
        print(port, flush=True)  # noqa: T201 - the port is what is waited for
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
