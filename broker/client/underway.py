"""Calls that are underway before they have begun: first the credential, then the call itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

import grpc

from broker.client.errors import RefusedError, from_rpc

_C = TypeVar("_C", bound=grpc.aio.Call)


class Underway(Generic[_C]):
    """One call, from the moment it was asked for.

    Args:
        begin: gets the credential and begins the call.

    """

    def __init__(self, begin: Coroutine[Any, Any, _C]) -> None:
        self._beginning: asyncio.Task[_C] = asyncio.get_running_loop().create_task(begin)

    def _begun(self) -> _C | None:
        beginning = self._beginning
        if not beginning.done() or beginning.cancelled() or beginning.exception() is not None:
            return None
        return beginning.result()

    async def _call(self) -> _C:
        return await asyncio.shield(self._beginning)

    def cancel(self) -> bool:
        """End the call, or what comes before it."""
        call = self._begun()
        return self._beginning.cancel() if call is None else call.cancel()

    def cancelled(self) -> bool:
        """Say whether it was ended by this side."""
        call = self._begun()
        return self._beginning.cancelled() if call is None else call.cancelled()

    def done(self) -> bool:
        """Say whether it is over."""
        call = self._begun()
        return self._beginning.done() if call is None else call.done()

    def time_remaining(self) -> float | None:
        """Return the seconds left, None when that is not known yet."""
        call = self._begun()
        return None if call is None else call.time_remaining()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have a callback called with this call when it is over."""

        def begun(_: object) -> None:
            call = self._begun()
            if call is None:
                callback(self)
            else:
                call.add_done_callback(lambda _: callback(self))

        self._beginning.add_done_callback(begun)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return what the service sent first."""
        return await (await self._call()).initial_metadata()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Return what the service sent last."""
        return await (await self._call()).trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        """Return how it ended."""
        return await (await self._call()).code()

    async def details(self) -> str:
        """Return what the service said about how it ended."""
        return await (await self._call()).details()

    async def wait_for_connection(self) -> None:
        """Wait until there is a connection."""
        await (await self._call()).wait_for_connection()


class UnaryCall(Underway[grpc.aio.UnaryUnaryCall[Any, Any]], grpc.aio.UnaryUnaryCall[Any, Any]):
    """A call with one answer."""

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> object:
        try:
            call = await self._call()
            return await call
        except asyncio.CancelledError:
            self.cancel()
            raise
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error


class StreamCall(Underway[grpc.aio.UnaryStreamCall[Any, Any]], grpc.aio.UnaryStreamCall[Any, Any]):
    """A call with many answers."""

    async def read(self) -> Any:  # noqa: ANN401 - whatever the service sends
        """Return the next answer, EOF after the last."""
        try:
            call = await self._call()
            return await call.read()
        except asyncio.CancelledError:
            self.cancel()
            raise
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (answer := await self.read()) is not grpc.aio.EOF:
            yield answer


def _translated(error: grpc.aio.AioRpcError) -> Exception:
    """Return our refusal when the service gave one of our reasons, else gRPC's error as it is."""
    found = from_rpc(error, connection=None)
    return found if isinstance(found, RefusedError) and not isinstance(found.reason, str) else cast(Exception, error)
