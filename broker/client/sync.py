"""The agent's side for programs without asyncio: the same names, each of which returns when it is done.

    with broker.client.sync.connect("broker.example.org:8443", broker_id="spiffe://example.org/broker") as session:
        credential = session.exchange(action=..., resource=..., purpose=..., audience=...)

A thread with an event loop of its own does the work; sessions may be shared by threads. A process that forks does so
before it connects.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc

from broker.client import session as asynchronous
from broker.client.approval import Approval
from broker.client.calls import Declare
from broker.client.credential import Credential, Task
from broker.client.drifted import DriftedTask
from broker.client.session import DEADLINE
from broker.v1 import audit_pb2, revoke_pb2

__all__ = ["Channel", "Session", "connect"]

P = ParamSpec("P")
T = TypeVar("T")


class _Loop:
    """A thread that runs an event loop, as long as a `with` block lasts."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="broker-client", daemon=True)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work and wait for it; who is interrupted ends the work."""
        doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return doing.result()
        except BaseException:
            doing.cancel()
            raise

    def each(self, source: AsyncIterator[T]) -> Iterator[T]:
        """Yield what an asynchronous iterator yields."""

        async def following() -> T:
            return await anext(source)

        while True:
            try:
                item = self.run(following())
            except StopAsyncIteration:
                return
            yield item

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _waiting(
    method: Callable[Concatenate[asynchronous.Session, P], Coroutine[Any, Any, T]],
) -> "Callable[Concatenate[Session, P], T]":
    @wraps(method)
    def call(session: "Session", /, *args: P.args, **named: P.kwargs) -> T:
        return session.loop.run(method(session.session, *args, **named))

    return call


class Session:
    """Asks the broker, and waits. See broker.client.Session, whose names these are. Make one with `connect`.

    Args:
        loop: where the work is done.
        session: which does it.

    """

    def __init__(self, loop: _Loop, session: asynchronous.Session) -> None:
        self.loop = loop
        self.session = session

    exchange = _waiting(asynchronous.Session.exchange)
    exchange_intent = _waiting(asynchronous.Session.exchange_intent)
    begin_task = _waiting(asynchronous.Session.begin_task)
    end_task = _waiting(asynchronous.Session.end_task)
    cancel_task = _waiting(asynchronous.Session.cancel_task)
    heartbeat_task = _waiting(asynchronous.Session.heartbeat_task)
    narrow_task = _waiting(asynchronous.Session.narrow_task)
    resume_task = _waiting(asynchronous.Session.resume_task)
    revoke = _waiting(asynchronous.Session.revoke)
    lift = _waiting(asynchronous.Session.lift)
    impose_override = _waiting(asynchronous.Session.impose_override)
    lift_override = _waiting(asynchronous.Session.lift_override)
    overrides = _waiting(asynchronous.Session.overrides)
    approvals = _waiting(asynchronous.Session.approvals)
    drifted_tasks = _waiting(asynchronous.Session.drifted_tasks)
    approval = _waiting(asynchronous.Session.approval)
    approve = _waiting(asynchronous.Session.approve)
    deny = _waiting(asynchronous.Session.deny)
    withdraw_approval = _waiting(asynchronous.Session.withdraw_approval)
    decided = _waiting(asynchronous.Session.decided)
    key_set = _waiting(asynchronous.Session.key_set)
    list_keys = _waiting(asynchronous.Session.list_keys)
    rotate_keys = _waiting(asynchronous.Session.rotate_keys)
    remove_key = _waiting(asynchronous.Session.remove_key)
    checkpoint = _waiting(asynchronous.Session.checkpoint)

    def subscribe_audit(self, **named: Any) -> Iterator[audit_pb2.SubscribeAuditResponse]:  # noqa: ANN401 - as there
        """Follow the audit log. See broker.client.Session.subscribe_audit."""
        return self.loop.each(self.session.subscribe_audit(**named))

    def subscribe_revocations(self, *, cursor: str = "") -> Iterator[revoke_pb2.SubscribeRevocationsResponse]:
        """Follow the revocations that concern this caller. See broker.client.Session.subscribe_revocations."""
        return self.loop.each(self.session.subscribe_revocations(cursor=cursor))

    def follow_approvals(self, *, identity_token: str | None = None) -> Iterator[Approval | DriftedTask]:
        """Follow what waits for whoever asks, as broker.client.Session.follow_approvals does."""
        return self.loop.each(self.session.follow_approvals(identity_token=identity_token))

    @contextmanager
    def task(self, **named: Any) -> Iterator[Task]:  # noqa: ANN401 - those of broker.client.Session.task
        """Begin a task that ends with its `with` block, whatever happens in it."""

        async def enter() -> Task:
            return await manager.__aenter__()

        async def leave(problem: BaseException | None) -> None:
            await manager.__aexit__(type(problem) if problem else None, problem, None)

        manager = self.session.task(**named)
        task = self.loop.run(enter())
        try:
            yield task
        except BaseException as problem:
            outcome = problem if isinstance(problem, Exception) else RuntimeError(type(problem).__name__)
            with suppress(Exception):  # it is the block's own, which goes on
                self.loop.run(leave(outcome))
            raise
        self.loop.run(leave(None))

    def channel(
        self,
        service_id: str,
        address: str,
        *,
        credential: Credential | None = None,
        intents: Mapping[str, Declare] | None = None,
    ) -> grpc.Channel:
        """Return the channel to a service, for stubs that wait. See broker.client.Session.channel."""

        async def make() -> grpc.aio.Channel:
            return self.session.channel(service_id, address, credential=credential, intents=intents)

        return Channel(self.loop, self.loop.run(make()))


class Channel(grpc.Channel):
    """A channel whose calls wait: nothing but the call itself, no futures.

    Args:
        loop: where the calls are made.
        channel: that makes them.

    """

    def __init__(self, loop: _Loop, channel: grpc.aio.Channel) -> None:
        self._loop = loop
        self._channel = channel

    def unary_unary(self, method: str, *serializers: Any, **named: Any) -> Any:  # noqa: ANN401 - see grpc.Channel
        """Return what calls a method with one answer."""

        async def ask(request: object, options: dict[str, Any]) -> Any:  # noqa: ANN401 - the service's answer
            return await self._channel.unary_unary(method, *serializers, **named)(request, **options)

        return lambda request, timeout=None, **more: self._loop.run(ask(request, {"timeout": timeout} | more))

    def unary_stream(self, method: str, *serializers: Any, **named: Any) -> Any:  # noqa: ANN401 - see grpc.Channel
        """Return what calls a method with many answers."""

        async def ask(request: object, options: dict[str, Any]) -> AsyncIterator[Any]:
            async for answer in self._channel.unary_stream(method, *serializers, **named)(request, **options):
                yield answer

        return lambda request, timeout=None, **more: self._loop.each(ask(request, {"timeout": timeout} | more))

    def stream_unary(self, method: str, *serializers: Any, **named: Any) -> Any:  # noqa: ANN401 - see grpc.Channel
        """Return what calls a method with many requests; they are taken on a thread of its own."""

        async def ask(requests: Iterator[Any], options: dict[str, Any]) -> Any:  # noqa: ANN401 - the service's answer
            return await self._channel.stream_unary(method, *serializers, **named)(_each(requests), **options)

        return lambda requests, timeout=None, **more: self._loop.run(ask(iter(requests), {"timeout": timeout} | more))

    def stream_stream(self, method: str, *serializers: Any, **named: Any) -> Any:  # noqa: ANN401 - see grpc.Channel
        """Return what calls a method with many requests and many answers."""

        async def ask(requests: Iterator[Any], options: dict[str, Any]) -> AsyncIterator[Any]:
            async for answer in self._channel.stream_stream(method, *serializers, **named)(_each(requests), **options):
                yield answer

        return lambda requests, timeout=None, **more: self._loop.each(ask(iter(requests), {"timeout": timeout} | more))

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:  # noqa: ANN401, FBT001, FBT002 - gRPC's
        """Refuse: the state of a connection is the session's business."""
        raise NotImplementedError("A session looks after its connections itself; make the call, with a timeout.")

    def unsubscribe(self, callback: Any) -> None:  # noqa: ANN401 - gRPC's
        """Do nothing: nobody is subscribed."""

    def close(self) -> None:
        """Do nothing: the connections are the session's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _each(requests: Iterator[Any]) -> AsyncIterator[Any]:
    """Yield what an iterator yields that may take its time."""
    end = object()
    while (request := await asyncio.to_thread(next, requests, end)) is not end:
        yield request


@contextmanager
def connect(
    address: str,
    *,
    broker_id: str,
    socket: str | None = None,
    spiffe_id: str | None = None,
    hint: str | None = None,
    timeout: float = DEADLINE,
) -> Iterator[Session]:
    """Open a session with a broker, as the workload that this process is. See broker.client.connect."""
    manager = asynchronous.connect(
        address, broker_id=broker_id, socket=socket, spiffe_id=spiffe_id, hint=hint, timeout=timeout
    )

    async def enter() -> asynchronous.Session:
        return await manager.__aenter__()

    async def leave() -> None:
        await manager.__aexit__(None, None, None)

    with _Loop() as loop:
        session = loop.run(enter())
        try:
            yield Session(loop, session)
        finally:
            loop.run(leave())
