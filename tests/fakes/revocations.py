"""A broker that serves nothing but a revocation stream, message by message as the test says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from pyroaring import BitMap

from broker.errors import Reason
from broker.v1 import revoke_pb2, revoke_pb2_grpc, types_pb2

Response = revoke_pb2.SubscribeRevocationsResponse


def response(  # noqa: PLR0913 - the fields of the message
    start: int,
    stop: int,
    *,
    read_at: datetime | None,
    snapshot: Sequence[int] | None = None,
    revoked: Sequence[int] = (),
    jwks: str | None = None,
    issuer: str = "",
) -> Response:
    """Make one message; its cursor is the position where it stops."""
    message = Response(from_position=start, to_position=stop, cursor=f"at-{stop}")
    if snapshot is not None:
        message.snapshot.status_indexes = BitMap(snapshot).serialize()
    if revoked:
        message.revoked.add(position=start, rule="credential", status_indexes=revoked)
    if jwks is not None:
        message.key_set.CopyFrom(types_pb2.KeySet(issuer=issuer, jwks=jwks))
    if read_at is not None:
        message.heartbeat.position = stop
        message.heartbeat.at.FromDatetime(read_at)
    return message


def status_of(reason: Reason, code: int = code_pb2.OUT_OF_RANGE) -> grpc.Status:
    """Make the status of a refusal, as the broker does."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason.name, domain="broker.v1"))
    return rpc_status.to_status(status_pb2.Status(code=code, message=reason.name, details=[detail]))


class End:
    """The stream ends well."""


Step = Response | grpc.Status | End


@dataclass
class FakeRevocations(revoke_pb2_grpc.RevocationServiceServicer):
    """Plays what `push` was given, one step after the other, whatever stream is open."""

    steps: asyncio.Queue[Step] = field(default_factory=asyncio.Queue)
    cursors: list[str] = field(default_factory=list)
    port: int = 0

    def push(self, *steps: Step) -> None:
        for step in steps:
            self.steps.put_nowait(step)

    async def SubscribeRevocations(  # noqa: N802 - the stub's name
        self, request: revoke_pb2.SubscribeRevocationsRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> AsyncIterator[Response]:
        self.cursors.append(request.cursor)
        while True:
            step = await self.steps.get()
            if isinstance(step, Response):
                yield step
            elif isinstance(step, End):
                return
            else:
                await context.abort_with_status(step)

    async def Revoke(self, request: object, context: object) -> None:  # type: ignore[override]  # noqa: N802
        raise NotImplementedError

    async def LiftRevocation(self, request: object, context: object) -> None:  # type: ignore[override]  # noqa: N802
        raise NotImplementedError


@asynccontextmanager
async def serving(fake: FakeRevocations, port: int = 0) -> AsyncIterator[grpc.aio.Server]:
    """Serve it on loopback, without TLS."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    revoke_pb2_grpc.add_RevocationServiceServicer_to_server(fake, server)
    fake.port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server
    finally:
        await server.stop(None)


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, not an event
            await asyncio.sleep(0.002)
