"""Reception: what every call at the door goes through alike.

Evidence is lifted off the connection, the request is decoded (here, and not by gRPC, whose failing decoder would answer
with an exception's text and leave no event), the issuer is asked within a bounded time, a refusal becomes a status.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from broker.errors import Reason, Refusal
from broker.issuer.port import Context, Issuer, RefusedCall
from broker.server.convert import parse, validate
from broker.server.limits import Limits
from broker.server.observe import CallLog, Counters, trace_id
from broker.server.peer import evidence_of, identity_token_of
from broker.server.status import code_of, status_of

# In quotes, because gRPC declares these generic to type checkers only.
ServicerContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, Message]"
Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer")

CANCELLED: Final = grpc.StatusCode.CANCELLED.name
OK: Final = grpc.StatusCode.OK.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One RPC: its path on the wire, what the audit log calls it, and whether a person's word is taken in it."""

    path: str
    operation: str
    # Where it is not, `authorization` is not even looked at: it could give nothing, and tools send it with every call.
    takes_identity: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that is being served."""

    method: Method
    context: Context
    rpc: ServicerContext

    async def read(self) -> bytes | None:
        """Return the next message's bytes; None when the caller has finished."""
        raw = await self.rpc.read()
        return raw if isinstance(raw, bytes) else None

    async def write(self, message: Message) -> None:
        """Send a message; waits while the caller does not read."""
        await self.rpc.write(message)


class Reception:
    """Serves calls: the same way in and out for every method.

    Args:
        issuer: who is asked.
        counters: of calls and connections.
        call_log: writes one line a call.
        new_id: makes an id from its prefix.
        clock: the time, UTC.
        limits: what is allowed.

    """

    def __init__(
        self,
        *,
        issuer: Issuer,
        counters: Counters,
        call_log: CallLog,
        new_id: Callable[[str], str],
        clock: Callable[[], datetime],
        limits: Limits,
    ) -> None:
        self.issuer = issuer
        self.limits = limits
        self.clock = clock
        self._counters = counters
        self._call_log = call_log
        self._new_id = new_id
        self._asked: set[asyncio.Task[Any]] = set()
        self._urgent: Counter[bytes] = Counter()
        self._pages = asyncio.Semaphore(limits.pages)

    # --- the handlers that gRPC is given ---------------------------------------------------------------------------

    def unary(
        self, method: Method, kind: type[Request], work: Callable[[Call, Request], Awaitable[Message]]
    ) -> Handler:
        """Return the handler of a method with one request and one answer."""

        async def handle(raw: bytes, rpc: ServicerContext) -> Message:
            async def body(call: Call) -> Message:
                return await work(call, await self.decode(call, raw, kind))

            return await self._serve(method, rpc, body)

        return grpc.unary_unary_rpc_method_handler(handle, response_serializer=_serialise)

    def unary_unchecked(
        self, method: Method, kind: type[Request], work: Callable[[Call, Request], Awaitable[Message]]
    ) -> Handler:
        """Return the handler of a method whose work checks the request's rules itself."""

        async def handle(raw: bytes, rpc: ServicerContext) -> Message:
            async def body(call: Call) -> Message:
                return await work(call, await self.decode(call, raw, kind, rules=False))

            return await self._serve(method, rpc, body)

        return grpc.unary_unary_rpc_method_handler(handle, response_serializer=_serialise)

    def server_stream(
        self, method: Method, kind: type[Request], work: Callable[[Call, Request], Awaitable[None]]
    ) -> Handler:
        """Return the handler of a method with one request and a stream of answers, which `work` writes."""

        async def handle(raw: bytes, rpc: ServicerContext) -> None:
            async def body(call: Call) -> None:
                await work(call, await self.decode(call, raw, kind))

            await self._serve(method, rpc, body)

        return grpc.unary_stream_rpc_method_handler(handle, response_serializer=_serialise)

    def both_streams(self, method: Method, work: Callable[[Call], Awaitable[None]]) -> Handler:
        """Return the handler of a method with streams both ways, which `work` reads and writes."""

        async def handle(_: object, rpc: ServicerContext) -> None:
            await self._serve(method, rpc, work)

        return grpc.stream_stream_rpc_method_handler(handle, response_serializer=_serialise)

    # --- what a method's work uses ---------------------------------------------------------------------------------

    async def decode(self, call: Call, raw: bytes, kind: type[Request], *, rules: bool = True) -> Request:
        """Decode a request, and check the rules of its fields.

        Raises:
            Refusal: REQUEST_MALFORMED or REQUEST_INVALID, recorded; or that of the caller's authentication.

        """
        try:
            request = parse(raw, kind)
            if rules:
                validate(request)
        except Refusal as refusal:
            raise await self.recorded(call, refusal) from refusal
        return request

    async def recorded(self, call: Call, refusal: Refusal) -> Refusal:
        """Have the issuer authenticate the caller and record the refusal; return the one to give."""
        refused = RefusedCall(context=call.context, operation=call.method.operation, refusal=refusal)
        return await self.ask(call, self.issuer.refuse(refused))

    async def ask(self, call: Call, question: Coroutine[Any, Any, Answer]) -> Answer:
        """Ask the issuer, and wait no longer than the caller does.

        The question runs in a task of its own: a caller that goes away, or a deadline that passes, ends the waiting and
        never the issuer's work, which may be committed already.

        Raises:
            Refusal: the issuer's; ISSUER_UNAVAILABLE when it does not answer in time; LIMIT_BUSY.

        """
        if len(self._asked) >= self.limits.calls:
            question.close()
            raise Refusal(Reason.LIMIT_BUSY)
        return await self._wait(call, self._begin(question))

    async def ask_first(self, call: Call, question: Coroutine[Any, Any, Answer]) -> Answer:
        """Ask what must not wait for others: the same, however much is open.

        What one caller has open is bounded all the same, by its certificate, so that nobody can crowd out another.

        Raises:
            Refusal: as `ask`.

        """
        who = call.context.evidence.leaf
        if self._urgent[who] >= self.limits.urgent:
            question.close()
            raise Refusal(Reason.LIMIT_BUSY)
        self._urgent[who] += 1
        task = self._begin(question)
        task.add_done_callback(lambda _: self._forget_urgent(who))
        return await self._wait(call, task)

    def _begin(self, question: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        task = asyncio.get_running_loop().create_task(question)
        self._asked.add(task)
        task.add_done_callback(self._answered)
        return task

    def _forget_urgent(self, who: bytes) -> None:
        self._urgent[who] -= 1
        if not self._urgent[who]:
            del self._urgent[who]

    async def _wait(self, call: Call, task: asyncio.Task[Answer]) -> Answer:
        done, _ = await asyncio.wait((task,), timeout=self._patience(call))
        if not done:
            raise Refusal(Reason.ISSUER_UNAVAILABLE, "no answer in time")
        return task.result()

    async def ask_for_page(self, call: Call, question: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """Ask for a page of a stream: the same, but when many streams wake at once they wait for one another."""
        async with self._pages:
            return await self.ask(call, question())

    async def close(self, grace: float) -> None:
        """Wait for what the issuer was asked, at most so long, then give up waiting."""
        if self._asked:
            _, pending = await asyncio.wait(self._asked, timeout=grace)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _answered(self, task: asyncio.Task[Any]) -> None:
        self._asked.discard(task)
        if not task.cancelled():
            task.exception()  # taken, so that an abandoned question's refusal is not reported as lost

    def _patience(self, call: Call) -> float:
        remaining = call.rpc.time_remaining()
        if remaining is None:
            return self.limits.call
        return max(0.0, min(self.limits.call, remaining - min(self.limits.margin, remaining / 10)))

    # --- the way in and out ----------------------------------------------------------------------------------------

    async def _serve(self, method: Method, rpc: ServicerContext, body: Callable[[Call], Awaitable[Answer]]) -> Answer:
        request = self._new_id("req")
        now = asyncio.get_running_loop().time
        begun = now()
        refusal: Refusal | None = None
        outcome = OK
        try:
            return await body(await self._receive(method, rpc, request))
        except Refusal as refused:
            refusal = refused
        except asyncio.CancelledError:
            outcome = CANCELLED
            raise
        except grpc.aio.AbortError:  # the work has given a status of its own
            outcome = _named(rpc.code())
            raise
        except Exception:
            # A write to a caller that is gone fails with gRPC's own exceptions: that is no defect of ours.
            if rpc.done():
                outcome = CANCELLED
                raise
            self._call_log.defect(method=method.path, request=request)
            refusal = Refusal(Reason.INTERNAL)
        finally:
            outcome = outcome if refusal is None else code_of(refusal.reason).name
            self._counters.call_over(method.path, outcome)
            self._call_log.over(
                method=method.path, outcome=outcome, refusal=refusal, seconds=now() - begun, request=request
            )
        await rpc.abort_with_status(rpc_status.to_status(status_of(refusal, request=request)))
        raise AssertionError  # abort_with_status never returns

    async def _receive(self, method: Method, rpc: ServicerContext, request: str) -> Call:
        evidence = evidence_of(rpc)
        self._counters.call_from(evidence.source)
        trace = trace_id(rpc.invocation_metadata() or ())
        call = Call(method=method, rpc=rpc, context=Context(evidence=evidence, request=request, trace=trace))
        if not method.takes_identity:
            return call
        try:
            token = identity_token_of(rpc.invocation_metadata() or ())
        except Refusal as refusal:
            raise await self.recorded(call, refusal) from refusal
        return replace(call, context=replace(call.context, identity_token=token))


def service(name: str, handlers: Mapping[str, Handler]) -> grpc.GenericRpcHandler:
    """Return what serves one service of the proto."""
    return grpc.method_handlers_generic_handler(name, dict(handlers))


def _named(code: object) -> str:
    return code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN.name


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()
