"""Calls to a service, each with a credential of its own.

A channel that, before each call, declares what the call is about to do, and makes the call over the connection of the
generation that the credential is bound to. It is a gRPC channel: a generated stub is made with it as with any other.
An interceptor would not do: gRPC ties interceptors to one connection, and the next SVID has another.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import grpc

from broker.client.ask import Ask
from broker.client.credential import Credential
from broker.client.errors import BrokerError, Undeclared, Unreachable
from broker.client.services import Service
from broker.client.underway import StreamCall, UnaryCall

Declare: TypeAlias = Callable[[Any], Ask]
"""What a call is about to do, from its request message."""
Start: TypeAlias = Callable[..., Any]
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

_AUTHORIZATION: Final = "authorization"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a call comes to its credential and its connection.

    Attributes:
        service: that is called.
        intents: what each method, by its full name, is about to do.
        held: the one credential for all calls, instead of intents.

    """

    service: Service
    intents: Mapping[str, Declare]
    held: Credential | None = None

    async def credential(self, method: str, request: object, seconds: float) -> Credential:
        """Return the credential for a call.

        Raises:
            Undeclared: nobody said what the method does; it is not called without a credential.
            Unreachable: there was none in time.
            BrokerError: as `Session.exchange`.

        """
        if self.held is not None:
            return self.held
        declare = self.intents.get(method)
        if declare is None:
            raise Undeclared(f"The channel was given no intent for {method}.")
        try:
            async with asyncio.timeout(seconds):
                return await self.service.obtain(declare(request))
        except TimeoutError as late:
            raise Unreachable(f"There was no credential for {method} in time.") from late


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    """A method of the service, as a stub calls it.

    Attributes:
        way: to credential and connection.
        name: the method's full name.
        on: makes gRPC's own callable on a channel.
        always: whether the call has a deadline when its caller names none.

    """

    way: Way
    name: str
    on: Callable[[grpc.aio.Channel], Start]
    always: bool

    async def begin(self, request: object, timeout: float | None, metadata: Metadata | None, **more: object) -> Any:  # noqa: ANN401, ASYNC109 - gRPC's words
        """Get the credential, then begin the call with the time that is left."""
        loop = asyncio.get_running_loop()
        _without_authorization(metadata)
        deadline = self.way.service.deadline
        limit = deadline if timeout is None and self.always else timeout
        start = loop.time()
        credential = await self.way.credential(self.name, request, deadline if limit is None else limit)
        left = None if limit is None else max(limit - (loop.time() - start), 0.001)
        channel = self.way.service.channel(credential)
        sent = (*(metadata or ()), *credential.metadata())
        return self.on(channel)(request, timeout=left, metadata=sent, **more)


class _UnaryMethod(_Method):
    def __call__(
        self,
        request: object,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        **more: object,
    ) -> UnaryCall:
        return UnaryCall(self.begin(request, timeout, metadata, **more))


class _StreamMethod(_Method):
    def __call__(
        self,
        request: object,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        **more: object,
    ) -> StreamCall:
        return StreamCall(self.begin(request, timeout, metadata, **more))


@dataclass(frozen=True, slots=True, kw_only=True)
class _RequestStreamMethod:
    """A method that begins without a request: there is nothing to make an intent from, so it takes a held credential.

    Attributes:
        way: to credential and connection.
        name: the method's full name.
        on: makes gRPC's own callable on a channel.

    """

    way: Way
    name: str
    on: Callable[[grpc.aio.Channel], Start]

    def __call__(self, request_iterator: Any = None, *, metadata: Metadata | None = None, **more: object) -> Any:  # noqa: ANN401 - gRPC's words
        held = self.way.held
        if held is None:
            raise Undeclared(f"{self.name} begins without a request, so it has no intent; exchange for it yourself.")
        _without_authorization(metadata)
        sent = (*(metadata or ()), *held.metadata())
        return self.on(self.way.service.channel(held))(request_iterator, metadata=sent, **more)


class CredentialChannel(grpc.aio.Channel):
    """The channel to a service that attaches a credential to each call. It belongs to its session.

    A call raises what `Session.exchange` raises when it gets no credential, TokenRefused (or another RefusedError) when
    the service refuses it with one of our reasons, and AioRpcError for everything else. Calls that begin without a
    request message (client streams) go with a held credential only, and raise AioRpcError for a refusal too.

    Args:
        way: how a call comes to its credential and its connection.

    """

    def __init__(self, way: Way) -> None:
        self._way = way

    def unary_unary(self, method: str, *serializers: Any, **named: Any) -> Any:  # noqa: ANN401 - see grpc.aio.Channel
        """Return what calls a method with one answer."""
        return _UnaryMethod(
            way=self._way,
            name=method,
            always=True,
            on=lambda channel: channel.unary_unary(method, *serializers, **named),
        )

    def unary_stream(self, method: str, *serializers: Any, **named: Any) -> Any:  # noqa: ANN401 - see grpc.aio.Channel
        """Return what calls a method with many answers; without a timeout of the caller's it may go on for ever."""
        return _StreamMethod(
            way=self._way,
            name=method,
            always=False,
            on=lambda channel: channel.unary_stream(method, *serializers, **named),
        )

    def stream_unary(self, method: str, *serializers: Any, **named: Any) -> Any:  # noqa: ANN401 - see grpc.aio.Channel
        """Return what calls a method with many requests; it needs a held credential."""
        return _RequestStreamMethod(
            way=self._way, name=method, on=lambda channel: channel.stream_unary(method, *serializers, **named)
        )

    def stream_stream(self, method: str, *serializers: Any, **named: Any) -> Any:  # noqa: ANN401 - see grpc.aio.Channel
        """Return what calls a method with many requests and answers; it needs a held credential."""
        return _RequestStreamMethod(
            way=self._way, name=method, on=lambda channel: channel.stream_stream(method, *serializers, **named)
        )

    async def close(self, grace: float | None = None) -> None:
        """Do nothing: the connections are the session's."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - gRPC's
        """Return the state of the current generation's connection."""
        return self._way.service.channel(None).get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait for the current generation's connection."""
        await self._way.service.channel(None).wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait for the current generation's connection."""
        await self._way.service.channel(None).channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _without_authorization(metadata: Metadata | None) -> None:
    if any(key.lower() == _AUTHORIZATION for key, _ in metadata or ()):
        raise BrokerError("The channel sets the authorization of each call itself.")
