"""Interceptor: guards a gRPC service, so that a handler runs only for a call that its caller's credential covers."""

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from broker.credential.claims import VerifiedToken
from broker.errors import Reason, Refusal
from broker.svid.principal import Evidence
from broker.validator.bounds import Entry, Mapped, mapped
from broker.validator.guard import Guard, MappingError, bearer, judged, require_none
from broker.validator.refuse import to_status
from broker.validator.reports import outcome

_LOG: Final = logging.getLogger(__name__)
_HEADER: Final = "authorization"
_METHOD: Final = re.compile(r"/[A-Za-z_][\w.]*/[A-Za-z_]\w*", re.ASCII)

# What a handler's status is when it says nothing of it.
_WELL: Final = frozenset({None, 0, grpc.StatusCode.OK})

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ValidatorInterceptor(grpc.aio.ServerInterceptor):
    """Guards every method of a server.

    Args:
        guard: what calls are judged with.
        services: descriptors of every service on the server.
        calls: full method name ("/package.Service/Method") to its mapping; one without a bound counts as a write.
        open_to: full method names that anybody who can connect may call, with no credential at all, each one by name.
            For what says nothing and changes nothing, such as "/grpc.health.v1.Health/Check". Their services need not
            be among `services`.

    Raises:
        MappingError: a method without mapper, a mapper without method, or a method that is not unary.

    """

    def __init__(
        self,
        *,
        guard: Guard,
        services: Sequence[ServiceDescriptor],
        calls: Mapping[str, Entry],
        open_to: Collection[str] = (),
    ) -> None:
        if isinstance(open_to, str):
            raise MappingError("open_to is a collection of method names, not one text")
        methods = {_full_name(method): method for service in services for method in service.methods}
        require_none("not a full method name", {name for name in open_to if not _METHOD.fullmatch(name)})
        require_none("both mapped and open to anybody", calls.keys() & set(open_to))
        require_none("without a mapping", methods.keys() - calls.keys() - set(open_to))
        require_none("mapped, but of no service here", calls.keys() - methods.keys())
        streaming = {name for name, method in methods.items() if _streams(method) and name not in open_to}
        require_none(
            "streaming, which cannot be guarded: a credential covers one call; make it unary, or serve it elsewhere",
            streaming,
        )
        self._guard = guard
        self._calls = {name: mapped(entry) for name, entry in calls.items()}
        self._open_to = frozenset(open_to)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """Put the guard before the method's handler; a method that is not mapped is refused."""
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method: gRPC answers UNIMPLEMENTED
            return None
        if handler_call_details.method in self._open_to:
            return handler
        entry = self._calls.get(handler_call_details.method)
        if entry is None or handler.request_streaming or handler.response_streaming:
            return _refusing(handler)
        return _Guarded(guard=self._guard, handler=handler, mapped=entry).handler_of_bytes()


def _full_name(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _streams(method: MethodDescriptor) -> bool:
    return bool(method.client_streaming or method.server_streaming)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guarded:
    """One method behind its guard."""

    guard: Guard
    handler: Handler
    mapped: Mapped

    def handler_of_bytes(self) -> Handler:
        """Return a handler that is given the request undecoded: strangers' bytes wait until the caller is proven."""
        return grpc.unary_unary_rpc_method_handler(
            self.handle, request_deserializer=None, response_serializer=self.handler.response_serializer
        )

    async def handle(self, content: bytes, context: Context) -> object:
        """Judge the call; run the method's own handler when it may pass."""
        try:
            request, token = await self.judge(content, context)
        except Refusal as refusal:
            return await _abort(context, refusal)
        except Exception:  # noqa: BLE001 - a defect refuses too
            _LOG.exception("the guard failed; the call is refused")
            return await _abort(context, Refusal(Reason.INTERNAL))
        judged.set(token)
        use = outcome()
        try:
            answer = await self._handled(request, context)
        except BaseException:
            use.broke_off()
            raise
        await use.ended(well=context.code() in _WELL)
        return answer

    async def _handled(self, request: object, context: Context) -> object:
        behaviour: Any = self.handler.unary_unary
        if inspect.iscoroutinefunction(behaviour):
            return await behaviour(request, context)
        return await asyncio.to_thread(behaviour, request, context)

    async def judge(self, content: bytes, context: Context) -> tuple[object, VerifiedToken]:
        """Return the decoded request and the credential that covers it.

        Raises:
            Refusal: the first of these steps that fails.

        """
        values = [value for name, value in context.invocation_metadata() or () if name == _HEADER]
        return await self.guard.judge(
            self.mapped,
            _evidence(context),
            token=lambda: bearer(values),
            read=lambda: _decode(self.handler, content),
        )


def _decode(handler: Handler, content: bytes) -> object:
    decode: Any = handler.request_deserializer
    if decode is None:
        return content
    try:
        return decode(content)
    except Exception as problem:  # whatever the codec raises
        raise Refusal(Reason.REQUEST_MALFORMED) from problem


def _evidence(context: Context) -> Evidence:
    """Lift what the connection presented off the TLS session. Nothing in it is verified."""
    presented = {name: tuple(values) for name, values in context.auth_context().items()}
    return Evidence(
        leaf=_single(presented, "x509_pem_cert"),
        chain=_single(presented, "x509_pem_cert_chain"),
        tls_version=_single(presented, "ssl_tls_version").decode("ascii", "replace"),
        session_reused=_single(presented, "ssl_session_reused") == b"true",
        source=context.peer(),
    )


def _single(presented: Mapping[str, Sequence[bytes]], name: str) -> bytes:
    values = presented.get(name, ())
    return values[0] if len(values) == 1 else b""


async def _abort(context: Context, refusal: Refusal) -> NoReturn:
    await context.abort_with_status(to_status(refusal))
    raise refusal  # not reached: abort raises


def _refusing(handler: Handler) -> Handler:
    """Return a handler of the same kind that refuses; streams are not read."""

    async def refuse(_: object, context: Context) -> NoReturn:
        await _abort(context, Refusal(Reason.CALL_UNMAPPED))

    if handler.request_streaming:
        makers = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
    else:
        makers = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    return makers[bool(handler.response_streaming)](refuse)
