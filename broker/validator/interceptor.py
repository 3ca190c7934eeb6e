"""Interceptor: guards a gRPC service, so that a handler runs only for a call that its caller's credential covers."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from broker.credential.claims import VerifiedToken
from broker.errors import Reason, Refusal
from broker.svid.authenticate import Authenticator
from broker.svid.principal import Evidence, TrustBundles
from broker.validator.check import Call, Validator
from broker.validator.refuse import to_status

_LOG: Final = logging.getLogger(__name__)
_HEADER: Final = "authorization"
_SCHEME: Final = "bearer "
_verified: Final[ContextVar[VerifiedToken]] = ContextVar("verified_token")

Mapper: TypeAlias = Callable[[Any], Call | Awaitable[Call]]
"""From a request to what it touches. Runs once the caller and its credential are proven; may look the tenant up."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class MappingError(Exception):
    """The methods of the guarded services and the mapping do not fit together; the message names them."""


def verified_token() -> VerifiedToken:
    """Return the credential of the call that is being handled.

    Raises:
        LookupError: outside a guarded handler.

    """
    return _verified.get()


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What a call is judged with.

    Attributes:
        validator: checks the credential.
        authenticator: proves the caller.
        bundles: what is trusted now.
        clock: UTC.

    """

    validator: Validator
    authenticator: Authenticator
    bundles: Callable[[], TrustBundles]
    clock: Callable[[], datetime]


class ValidatorInterceptor(grpc.aio.ServerInterceptor):
    """Guards every method of a server.

    Args:
        guard: what calls are judged with.
        services: descriptors of every service on the server.
        calls: full method name ("/package.Service/Method") to its mapper.

    Raises:
        MappingError: a method without mapper, a mapper without method, or a method that is not unary.

    """

    def __init__(self, *, guard: Guard, services: Sequence[ServiceDescriptor], calls: Mapping[str, Mapper]) -> None:
        methods = {_full_name(method): method for service in services for method in service.methods}
        _require_same("without a mapping", methods.keys() - calls.keys())
        _require_same("mapped, but of no service here", calls.keys() - methods.keys())
        _require_same("streaming, which is not guarded yet", {n for n, method in methods.items() if _streams(method)})
        self._guard = guard
        self._calls = dict(calls)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """Put the guard before the method's handler; a method that is not mapped is refused."""
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method: gRPC answers UNIMPLEMENTED
            return None
        mapper = self._calls.get(handler_call_details.method)
        if mapper is None or handler.request_streaming or handler.response_streaming:
            return _refusing(handler)
        return _Guarded(guard=self._guard, handler=handler, mapper=mapper).handler_of_bytes()


def _require_same(what: str, names: set[str]) -> None:
    if names:
        raise MappingError(f"{what}: {', '.join(sorted(names))}")


def _full_name(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _streams(method: MethodDescriptor) -> bool:
    return bool(method.client_streaming or method.server_streaming)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guarded:
    """One method behind its guard."""

    guard: Guard
    handler: Handler
    mapper: Mapper

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
        _verified.set(token)
        behaviour: Any = self.handler.unary_unary
        if inspect.iscoroutinefunction(behaviour):
            return await behaviour(request, context)
        return await asyncio.to_thread(behaviour, request, context)

    async def judge(self, content: bytes, context: Context) -> tuple[object, VerifiedToken]:
        """Return the decoded request and the credential that covers it.

        Raises:
            Refusal: the first of these steps that fails.

        """
        # 1. Who calls: the SVID behind the connection, verified anew (an old connection outlives an SVID).
        caller = self.guard.authenticator.authenticate(_evidence(context), self.guard.bundles(), self.guard.clock())
        # 2. With what: one credential, good, the caller's own, not revoked.
        token = _bearer(context)
        self.guard.validator.admit(token, caller_thumbprint=caller.thumbprint, now=self.guard.clock())
        # 3. What for: only now are the request's bytes looked at, and what it touches looked up.
        request = _decode(self.handler, content)
        call = await self._map(request)
        # 4. Everything again with the call: time has passed, a revocation may have come.
        verified = self.guard.validator.check(token, call, caller_thumbprint=caller.thumbprint, now=self.guard.clock())
        return request, verified

    async def _map(self, request: object) -> Call:
        try:
            call = self.mapper(request)
            if not isinstance(call, Call):
                call = await call
        except Refusal:
            raise
        except Exception as defect:
            _LOG.exception("a mapping failed; the call is refused")
            raise Refusal(Reason.CALL_UNMAPPED) from defect
        return call


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


def _bearer(context: Context) -> str:
    """Return the one bearer token of a call (RFC 6750 section 2.1)."""
    values = [value for name, value in context.invocation_metadata() or () if name == _HEADER]
    if not values:
        raise Refusal(Reason.TOKEN_MISSING)
    value = values[0]
    if len(values) > 1 or not isinstance(value, str) or value[: len(_SCHEME)].lower() != _SCHEME:
        raise Refusal(Reason.TOKEN_MALFORMED, "not exactly one `authorization: Bearer`")
    return value[len(_SCHEME) :]


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
