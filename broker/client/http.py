"""HTTP: a transport for httpx that gets a credential for each request, and sends it to one service and nobody else.

    transport = broker.client.http.transport(session, "spiffe://example.org/orders", "orders.example.org:8443")
    async with httpx.AsyncClient(transport=transport, base_url="https://orders.example.org:8443") as client:
        ask = Ask(action="order.read", resource=("order", "1234"), purpose="support")
        order = await client.get("/orders/1234", extensions={"ask": ask})

Both lines of httpx work; the extra `http` brings the first. The transport puts the credential on, below the client: no
redirect, hook or log of the client's ever has it. A request for another host is not sent at all.
"""

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, overload

from broker.client import sync
from broker.client.ask import Ask
from broker.client.credential import Credential
from broker.client.errors import BrokerError, RefusedError, Undeclared
from broker.client.refusal_body import may_be_refusal, refusal_in
from broker.client.services import Service
from broker.client.session import Session
from broker.link.tunnel import Tunnel

if TYPE_CHECKING:
    import httpx

__all__ = ["Declare", "transport"]

Declare: TypeAlias = Callable[[Any], Ask | None]
"""What a request is about to do; None when that is not known."""

_T = TypeVar("_T")
_HTTPS_PORT: Final = 443
_UNAUTHORIZED: Final = 401


@overload
def transport(
    session: Session, service_id: str, address: str, *, intent: Declare | None = None
) -> "httpx.AsyncBaseTransport": ...
@overload
def transport(
    session: sync.Session, service_id: str, address: str, *, intent: Declare | None = None
) -> "httpx.BaseTransport": ...
@overload
def transport(
    session: Session | sync.Session,
    service_id: str,
    address: str,
    *,
    intent: Declare | None = None,
    library: ModuleType,
) -> Any: ...  # noqa: ANN401 - a class of that library's
def transport(
    session: Session | sync.Session,
    service_id: str,
    address: str,
    *,
    intent: Declare | None = None,
    library: ModuleType | None = None,
) -> Any:
    """Return a transport to a service, which must prove that SPIFFE ID before a byte is sent.

    What a request is about to do, it says itself: `extensions={"ask": Ask(...)}`, or `{"credential": credential}` when
    there already is one. Else `intent` is asked. A request of which nobody says it is not sent (Undeclared).

    A request raises what `Session.exchange` raises when it gets no credential, TokenRefused (or another RefusedError)
    when the service refuses it with one of our reasons, and the library's own errors for everything else. When the
    service does not accept a credential that the session held (`Ask(cache=True)`), one new one is tried; never in place
    of one that is good once.

    Args:
        session: gives the credentials; one without asyncio gives a transport without.
        service_id: who the service must be; the audience of the intents.
        address: where it listens, "host:port"; requests are for https:// at just that.
        intent: what a request is about to do, from the request.
        library: httpx2, for a client of that; else httpx.

    Raises:
        RefusedError: service_id is not a SPIFFE ID.
        ValueError: the address is not "host:port".

    """
    library = library or import_module("httpx")
    if isinstance(session, Session):
        service = session.services.at(service_id, address)
        return type("AsyncTransport", (_Asynchronous, library.AsyncBaseTransport), {})(service, intent, library)
    service = session.session.services.at(service_id, address)
    return type("Transport", (_Waiting, library.BaseTransport), {})(service, intent, library, session)


class _Transport(ABC):
    """What both kinds do alike, in steps that each takes its own way.

    Args:
        service: where all requests go.
        intent: what a request is about to do, when it does not say so itself.
        library: the line of httpx.

    """

    def __init__(self, service: Service, intent: Declare | None, library: Any) -> None:  # noqa: ANN401 - a module
        self._service = service
        self._intent = intent
        self._library = library
        self._inners: dict[Tunnel, Any] = {}

    async def _handle(self, request: Any) -> Any:  # noqa: ANN401 - the library's request and response
        subject = self._subject(request)
        credential, response, refusal = await self._attempt(request, subject)
        held = isinstance(subject, Ask) and subject.cache and credential.use == "many"
        if response.status_code == _UNAUTHORIZED and held:
            await self._on_session(self._forget(credential))
            if isinstance(request.stream, self._library.ByteStream):  # anything else has been sent, and is gone
                await self._end(response)
                _, response, refusal = await self._attempt(request, subject)
        if refusal is not None:
            raise refusal
        return response

    def _subject(self, request: Any) -> Ask | Credential:  # noqa: ANN401 - as above
        """Return what the request is about to do, if it may be sent here at all."""
        url, (host, port) = request.url, self._service.endpoint.host_and_port()
        if (url.scheme, url.host, url.port or _HTTPS_PORT) != ("https", host.lower(), port):
            here, there = f"https://{self._service.endpoint.address}", f"{url.scheme}://{url.netloc.decode('ascii')}"
            raise BrokerError(f"This transport leads to {here} and to nobody else; nothing was sent to {there}.")
        if "authorization" in request.headers:
            raise BrokerError("The transport sets the authorization of each request itself.")
        given = request.extensions
        subject = given.get("credential") or given.get("ask") or (self._intent(request) if self._intent else None)
        if not isinstance(subject, Ask | Credential):
            raise Undeclared(
                f'Nobody said what this {request.method} is about to do: send it with extensions={{"ask": Ask(...)}}, '
                "or give the transport an intent=."
            )
        return subject

    async def _attempt(self, request: Any, subject: Ask | Credential) -> tuple[Credential, Any, RefusedError | None]:  # noqa: ANN401 - as above
        credential, tunnel = await self._on_session(self._open(subject))
        try:
            response = await self._send(await self._inner(tunnel), self._with(request, credential))
        except self._library.TimeoutException:
            raise
        except self._library.TransportError as error:
            why = tunnel.last_error  # the library knows only that it was disconnected
            if why is None:
                raise
            raise type(error)(f"{self._service.endpoint.address} did not answer: {why}", request=request) from why
        if not may_be_refusal(response):
            return credential, response, None
        content = await self._read(response)
        refusal = refusal_in(content)
        whole = self._library.Response(
            response.status_code,
            headers=response.headers,
            stream=self._library.ByteStream(content),
            extensions=response.extensions,
        )
        return credential, whole, refusal

    async def _open(self, subject: Ask | Credential) -> tuple[Credential, Tunnel]:
        credential = await self._service.obtain(subject) if isinstance(subject, Ask) else subject
        return credential, self._service.tunnel(credential)

    async def _forget(self, credential: Credential) -> None:
        self._service.forget(credential)

    def _with(self, request: Any, credential: Credential) -> Any:  # noqa: ANN401 - as above
        """Return what goes into the tunnel, which does the TLS: a copy, so that the client's own has no credential."""
        headers = request.headers.copy()
        headers.update(credential.metadata())
        return self._library.Request(
            request.method,
            request.url.copy_with(scheme="http"),
            headers=headers,
            stream=request.stream,
            extensions=request.extensions,
        )

    async def _inner(self, tunnel: Tunnel) -> Any:  # noqa: ANN401 - the library's own transport
        """Return the connections through a tunnel; let go of those through tunnels that are closed."""
        for old in [each for each in list(self._inners) if each.closed]:
            if (idle := self._inners.pop(old, None)) is not None:
                await self._end(idle)
        found = self._inners.get(tunnel)
        if found is None:
            # The tunnel does TLS; a context without authorities spares the library loading the web's.
            nothing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            # Of threads that come here together, one is the first; what the others made has no connection.
            found = self._inners.setdefault(tunnel, self._make(verify=nothing, uds=str(tunnel.path)))
        return found

    async def _close(self) -> None:
        while self._inners:
            await self._end(self._inners.popitem()[1])

    @abstractmethod
    def _make(self, **named: Any) -> Any:  # noqa: ANN401 - as above
        """Make the library's own transport."""

    @abstractmethod
    async def _on_session(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do some work where the session does its own."""

    @abstractmethod
    async def _send(self, inner: Any, request: Any) -> Any:  # noqa: ANN401 - as above
        """Send a request, and return the beginning of the response."""

    @abstractmethod
    async def _read(self, response: Any) -> bytes:  # noqa: ANN401 - as above
        """Read a response to its end."""

    @abstractmethod
    async def _end(self, used: Any) -> None:  # noqa: ANN401 - a response or a transport of the library's
        """Close something."""


class _Asynchronous(_Transport):
    async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401 - as above
        return await self._handle(request)

    async def aclose(self) -> None:
        await self._close()

    def _make(self, **named: Any) -> Any:  # noqa: ANN401 - as above
        return self._library.AsyncHTTPTransport(**named)

    async def _on_session(self, work: Coroutine[Any, Any, _T]) -> _T:
        return await work

    async def _send(self, inner: Any, request: Any) -> Any:  # noqa: ANN401 - as above
        return await inner.handle_async_request(request)

    async def _read(self, response: Any) -> bytes:  # noqa: ANN401 - as above
        content: bytes = await response.aread()
        return content

    async def _end(self, used: Any) -> None:  # noqa: ANN401 - as above
        await used.aclose()


class _Waiting(_Transport):
    """Its steps wait instead of being suspended; threads may share it."""

    def __init__(self, service: Service, intent: Declare | None, library: Any, session: sync.Session) -> None:  # noqa: ANN401 - a module
        super().__init__(service, intent, library)
        self._session = session

    def handle_request(self, request: Any) -> Any:  # noqa: ANN401 - as above
        return _done(self._handle(request))

    def close(self) -> None:
        _done(self._close())

    def _make(self, **named: Any) -> Any:  # noqa: ANN401 - as above
        return self._library.HTTPTransport(**named)

    async def _on_session(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._session.loop.run(work)

    async def _send(self, inner: Any, request: Any) -> Any:  # noqa: ANN401 - as above
        return inner.handle_request(request)

    async def _read(self, response: Any) -> bytes:  # noqa: ANN401 - as above
        content: bytes = response.read()
        return content

    async def _end(self, used: Any) -> None:  # noqa: ANN401 - as above
        used.close()


def _done(work: Coroutine[Any, Any, _T]) -> _T:
    """Return what some work returns that is never suspended."""
    try:
        work.send(None)
    except StopIteration as end:
        found: _T = end.value
        return found
    raise RuntimeError("a step that has to wait was suspended")
