"""ASGI: guards an HTTP service, so that the application runs only for a request that its caller's credential covers.

Pure ASGI 3, no framework. The caller is whoever the server's own TLS says it is (`scope["extensions"]["tls"]`); no
header is believed about that.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any, Final, TypeAlias

from broker.errors import Category, Reason, Refusal
from broker.svid.principal import Evidence
from broker.validator.bounds import Entry
from broker.validator.guard import Guard, bearer, judged
from broker.validator.refuse import FORBIDDEN, LATER
from broker.validator.reports import outcome
from broker.validator.routes import Route, Routes

_LOG: Final = logging.getLogger(__name__)

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY: Final = 64 * 1024
BODY_SECONDS: Final = 10.0
_MAX_CERTIFICATES: Final = 8
_FIRST_ERROR: Final = 400
_TLS_1_3: Final = (0x0304, "TLSv1.3")
_POLICY_VIOLATION: Final = 1008  # RFC 6455 section 7.4.1

_STATUS: Final[Mapping[Category, int]] = {
    Category.UNAUTHENTICATED: 401,
    Category.INVALID: 400,
    Category.DENIED: 403,
    Category.UNMET: 403,
    Category.UNKNOWN: 404,
    Category.CONFLICT: 409,
    Category.OUT_OF_RANGE: 400,
    Category.EXHAUSTED: 429,
    Category.UNAVAILABLE: 503,
    Category.TOKEN: 401,
}


class HttpRequest:
    """What a mapping is given.

    Attributes:
        method: in capitals.
        path: decoded, as the server gives it.
        names: what the names in the route's template stand for.
        query: as sent, undecoded.

    """

    def __init__(self, scope: Scope, names: Mapping[str, str], receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.names = names
        self.query: bytes = scope.get("query_string", b"")
        self._receive = receive
        self._body: bytes | None = None

    async def body(self) -> bytes:
        """Read the whole body, for a mapping that needs it; the application gets it again.

        Raises:
            Refusal: REQUEST_INVALID for one over 64 KiB or slower than 10 s, REQUEST_MALFORMED for one that breaks off.

        """
        if self._body is None:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    self._body = await self._read()
            except TimeoutError:
                raise Refusal(Reason.REQUEST_INVALID, "body: slower than 10 s") from None
        return self._body

    async def receive(self) -> Message:
        """Receive for the application: first the body that was read, then what follows."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _read(self) -> bytes:
        content, more = bytearray(), True
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise Refusal(Reason.REQUEST_MALFORMED, "body: breaks off")
            content += message.get("body", b"")
            more = message.get("more_body", False)
            if len(content) > MAX_BODY:
                raise Refusal(Reason.REQUEST_INVALID, "body: over 64 KiB")
        return bytes(content)


class ValidatorMiddleware:
    """Guards every route of an ASGI application.

    Args:
        app: runs for what is covered; for `lifespan` always, for a websocket never.
        guard: what requests are judged with.
        calls: "METHOD /path/{name}" to its mapping; a mapping alone counts as a write.
        open_to: routes that anybody may ask, each by name, such as "GET /healthz".
        routes: all routes of the application, when it can say; see Routes.

    Raises:
        MappingError: see Routes.

    """

    def __init__(
        self,
        app: App,
        *,
        guard: Guard,
        calls: Mapping[str, Entry],
        open_to: Collection[str] = (),
        routes: Collection[str] | None = None,
    ) -> None:
        self._app = app
        self._guard = guard
        self._routes = Routes(calls=calls, open_to=open_to, routes=routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge, then run the application or refuse."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await self._app(scope, receive, send)
            case "websocket":  # before it is accepted, so that the server answers 403
                await receive()
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": Reason.CALL_UNMAPPED.name})
            case _:
                _LOG.error("a scope of a type that is not guarded is not served")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._routes.find(scope["method"], scope["path"])
        if found is not None and found[0].entry is None:
            await self._app(scope, receive, send)
            return
        try:
            request, token = await self._judge(scope, receive, found)
        except Refusal as refusal:
            await _refuse(send, refusal)
            return
        except Exception:  # noqa: BLE001 - a defect refuses too
            _LOG.exception("the guard failed; the request is refused")
            await _refuse(send, Refusal(Reason.INTERNAL))
            return
        before, use, answered = judged.set(token), outcome(), _Answered(send)
        try:
            await self._app(scope, request.receive, answered.send)
        except BaseException:
            use.broke_off()
            raise
        finally:
            judged.reset(before)
        await use.ended(well=answered.well)

    async def _judge(self, scope: Scope, receive: Receive, found: tuple[Route, dict[str, str]] | None) -> Any:  # noqa: ANN401 - the request, and the credential that covers it
        raw = scope.get("raw_path") or b""
        if found is None or found[0].entry is None or b"%2f" in raw.lower():  # a router may cut it elsewhere
            raise Refusal(Reason.CALL_UNMAPPED)
        request = HttpRequest(scope, found[1], receive)
        headers = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        return await self._guard.judge(
            found[0].entry, evidence_of(scope), token=lambda: bearer(headers), read=lambda: request
        )


class _Answered:
    """Sends, and remembers how a request was answered."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.well = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.well = message["status"] < _FIRST_ERROR
        await self._send(message)


def evidence_of(scope: Scope) -> Evidence:
    """Lift what the connection presented off the TLS extension (ASGI, TLS extension 0.2). Nothing in it is verified.

    Raises:
        Refusal: SVID_MALFORMED, for what is no list of PEM text or DER.

    """
    tls = (scope.get("extensions") or {}).get("tls") or {}
    presented = [] if tls.get("client_cert_error") else list(tls.get("client_cert_chain") or ())
    if len(presented) > _MAX_CERTIFICATES:
        raise Refusal(Reason.SVID_MALFORMED, "more certificates than a chain has")
    leaf, *chain = [_pem(each) for each in presented] or [b""]
    version = "TLSv1.3" if tls.get("tls_version") in _TLS_1_3 else ""
    source = ":".join(map(str, scope.get("client") or ()))
    return Evidence(leaf=leaf, chain=b"".join(chain), tls_version=version, session_reused=False, source=source)


def _pem(certificate: object) -> bytes:
    if isinstance(certificate, str) and certificate.isascii():
        return certificate.encode("ascii") + b"\n"
    if isinstance(certificate, bytes | bytearray):
        content = bytes(certificate)
        return content + b"\n" if content.startswith(b"-----") else ssl.DER_cert_to_PEM_cert(content).encode("ascii")
    raise Refusal(Reason.SVID_MALFORMED)


def status_of(reason: Reason) -> int:
    """Return the HTTP status of a reason (RFC 6750 section 3.1, RFC 9110)."""
    if reason in FORBIDDEN:
        return 403
    return 503 if reason in LATER else _STATUS[reason.category]


async def _refuse(send: Send, refusal: Refusal) -> None:
    reason = refusal.reason
    status = status_of(reason)
    told = {"reason": reason.name, "message": refusal.sentence, "next_step": reason.meaning.next_step}
    if reason is Reason.VIEW_STALE:
        told["bound"] = refusal.detail
    content = json.dumps(told).encode("ascii")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (b"cache-control", b"no-store"),
    ]
    challenge = {401: b'Bearer error="invalid_token"', 403: b'Bearer error="insufficient_scope"'}.get(status)
    if challenge is not None:  # without a credential there is no error to name (RFC 6750 section 3)
        headers.append((b"www-authenticate", b"Bearer" if reason is Reason.TOKEN_MISSING else challenge))
    if status == 503:  # noqa: PLR2004
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
