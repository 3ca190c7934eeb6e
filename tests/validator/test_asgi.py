"""ASGI: the application runs for what is covered and for nothing else; every answer says why."""

import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from broker.errors import Reason, Refusal
from broker.intent import Resource
from broker.validator import (
    Call,
    Entry,
    HttpRequest,
    MappingError,
    ValidatorMiddleware,
    high_impact,
    verified_token,
)
from broker.validator.asgi import MAX_BODY, status_of
from broker.validator.routes import Routes
from tests.fakes.trust_domain import Svid
from tests.unit.credential.samples import CREDENTIAL
from tests.validator.test_interceptor import World, world

REFUND = "POST /orders/{order_id}/refund"
HEALTH = "GET /healthz"
PATH = "/orders/1234/refund"
BODY = b'{"amount": 5000}'


async def refund(request: HttpRequest) -> Call:
    asked = json.loads(await request.body())
    return Call(
        action="order.refund",
        resource=Resource(type="order", id=request.names["order_id"]),
        tenant="retail",
        parameters={"amount": asked["amount"], "currency": "EUR"},
    )


@dataclass
class Shop:
    """The application behind the guard."""

    handled: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self.handled.append("lifespan")
            return
        self.handled.append(scope["path"] if scope["path"] == "/healthz" else verified_token().credential_id)
        message = await receive()
        self.bodies.append(message["body"])
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@dataclass(kw_only=True)
class Front:
    """A guarded application, and how to ask it."""

    given: World = field(default_factory=world)
    entry: Entry = refund
    shop: Shop = field(default_factory=Shop)

    def __post_init__(self) -> None:
        self.app = ValidatorMiddleware(
            self.shop, guard=self.given.guard(), calls={REFUND: self.entry}, open_to=[HEALTH]
        )

    def tls(self, svid: Svid | None = None) -> dict[str, Any]:
        evidence = (svid or self.given.caller).evidence()
        return {"tls_version": 0x0304, "client_cert_chain": [evidence.leaf.decode()]}

    async def ask(
        self,
        headers: Sequence[tuple[bytes, bytes]] | None = None,
        *,
        method: str = "POST",
        path: str = PATH,
        raw: bytes | None = None,
        body: Sequence[bytes] = (BODY,),
        extensions: Any = None,
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        """Ask; return status, headers and body."""
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": part, "more_body": True} for part in body[:-1]
        ]
        messages += [{"type": "http.request", "body": part} for part in body[-1:]] + [{"type": "http.disconnect"}]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": raw if raw is not None else path.encode(),
            "headers": self.bearer() if headers is None else list(headers),
            "client": ("192.0.2.1", 1),
            "extensions": {"tls": self.tls()} if extensions is None else extensions,
        }
        await self.app(scope, receive, send)
        start, content = sent
        return start["status"], dict(start["headers"]), content["body"]

    def bearer(self, token: str = "") -> list[tuple[bytes, bytes]]:
        return [(b"authorization", b"Bearer " + (token or self.given.token()).encode())]

    async def refused(self, headers: Any = None, **request: Any) -> tuple[int, str]:
        """Ask; return status and reason of the refusal, whose form is right."""
        status, answered, body = await self.ask(headers, **request)
        told = json.loads(body)
        meaning = Reason[told["reason"]].meaning
        assert (told["message"], told["next_step"]) == (meaning.sentence, meaning.next_step)
        assert answered[b"content-length"] == str(len(body)).encode()
        assert (b"www-authenticate" in answered) == (status in (401, 403))
        assert (b"retry-after" in answered) == (status == 503)
        assert not self.shop.handled
        return status, told["reason"]


async def test_what_is_covered_is_handled_with_its_body_and_its_credential() -> None:
    front = Front()
    assert (await front.ask(body=[BODY[:4], BODY[4:]]))[0] == 200
    assert (front.shop.handled, front.shop.bodies) == ([CREDENTIAL], [BODY])
    with pytest.raises(LookupError):
        verified_token()


async def test_a_body_that_no_mapping_reads_goes_through_as_it_comes() -> None:
    def by_path(request: HttpRequest) -> Call:
        order = Resource(type="order", id=request.names["order_id"])
        return Call(action="order.refund", resource=order, tenant="retail", parameters={"amount": 1, "currency": "EUR"})

    front = Front(entry=by_path)
    assert (await front.ask(body=[b"x" * (MAX_BODY + 1)]))[0] == 200
    assert len(front.shop.bodies[0]) == MAX_BODY + 1


async def test_the_leaf_may_come_as_der_and_with_its_chain() -> None:
    front = Front()
    tls = front.tls()
    der = ssl.PEM_cert_to_DER_cert(tls["client_cert_chain"][0])
    assert (await front.ask(extensions={"tls": tls | {"client_cert_chain": [der], "tls_version": "TLSv1.3"}}))[0] == 200


async def test_a6_a_stolen_token_is_refused_with_any_other_leaf() -> None:
    front = Front()
    thief = front.given.domain.svid("/agent/thief")
    assert await front.refused(extensions={"tls": front.tls(thief)}) == (401, "TOKEN_HOLDER_MISMATCH")
    assert (await front.ask())[0] == 200


CONNECTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no-tls": ({}, "TLS_VERSION_REFUSED"),
    "null": ({"tls": None}, "TLS_VERSION_REFUSED"),
    "tls-1.2": ({"tls": {"tls_version": 0x0303}}, "TLS_VERSION_REFUSED"),
    "no-leaf": ({"tls": {"tls_version": 0x0304}}, "SVID_ABSENT"),
    "empty": ({"tls": {"tls_version": 0x0304, "client_cert_chain": []}}, "SVID_ABSENT"),
    "not-verified": ({"tls": {"client_cert_error": "bad"}}, "SVID_ABSENT"),
    "garbage": ({"tls": {"tls_version": 0x0304, "client_cert_chain": ["x"]}}, "SVID_MALFORMED"),
    "garbage-der": ({"tls": {"tls_version": 0x0304, "client_cert_chain": [b"x"]}}, "SVID_MALFORMED"),
    "number": ({"tls": {"tls_version": 0x0304, "client_cert_chain": [1]}}, "SVID_MALFORMED"),
    "too-many": ({"tls": {"tls_version": 0x0304, "client_cert_chain": ["x"] * 9}}, "SVID_MALFORMED"),
}


@pytest.mark.parametrize(("extensions", "reason"), CONNECTIONS.values(), ids=CONNECTIONS.keys())
async def test_a_connection_that_proves_nobody_is_refused(extensions: dict[str, Any], reason: str) -> None:
    front = Front()
    if "client_cert_error" in (extensions.get("tls") or {}):
        extensions = {"tls": front.tls() | extensions["tls"]}
    assert await front.refused(extensions=extensions) == (401, reason)


HEADERS: dict[str, tuple[list[tuple[bytes, bytes]], str]] = {
    "none": ([], "TOKEN_MISSING"),
    "basic": ([(b"authorization", b"Basic x")], "TOKEN_MALFORMED"),
    "twice": ([(b"authorization", b"Bearer x")] * 2, "TOKEN_MALFORMED"),
    "garbage": ([(b"authorization", b"Bearer \xff")], "TOKEN_MALFORMED"),
    "forwarded": ([(b"x-forwarded-client-cert", b"x"), (b"x-authorization", b"Bearer x")], "TOKEN_MISSING"),
}


@pytest.mark.parametrize(("headers", "reason"), HEADERS.values(), ids=HEADERS.keys())
async def test_a_request_without_one_bearer_token_is_refused(headers: list[tuple[bytes, bytes]], reason: str) -> None:
    assert await Front().refused(headers) == (401, reason)


PATHS: dict[str, dict[str, Any]] = {
    "unknown": {"path": "/orders"},
    "method": {"method": "GET"},
    "method-case": {"method": "post"},
    "slash-after": {"path": PATH + "/"},
    "slash-twice": {"path": "//orders/1234/refund"},
    "dots": {"path": "/orders/../refund"},
    "encoded-slash": {"raw": b"/orders/12%2F34/refund"},
    "open-by-other-method": {"path": "/healthz"},
    "open-below": {"method": "GET", "path": "/healthz/x"},
}


@pytest.mark.parametrize("request_", PATHS.values(), ids=PATHS.keys())
async def test_a_route_that_is_not_mapped_is_refused(request_: dict[str, Any]) -> None:
    assert await Front().refused(**request_) == (403, "CALL_UNMAPPED")


BODIES: dict[str, tuple[list[bytes], int, str]] = {
    "too-much": ([b'{"amount": 5001}'], 403, "TOKEN_SCOPE_EXCEEDED"),
    "not-json": ([b"x"], 403, "CALL_UNMAPPED"),
    "too-long": ([b"x" * MAX_BODY, b"x"], 400, "REQUEST_INVALID"),
    "breaks-off": ([], 400, "REQUEST_MALFORMED"),
}


@pytest.mark.parametrize(("body", "status", "reason"), BODIES.values(), ids=BODIES.keys())
async def test_a_body_that_is_not_covered_is_refused(body: list[bytes], status: int, reason: str) -> None:
    assert await Front().refused(body=body) == (status, reason)


async def test_nothing_is_read_before_there_is_a_credential() -> None:
    assert await Front().refused([], body=[]) == (401, "TOKEN_MISSING")  # no message to receive: it would break off


async def test_an_old_view_refuses_for_now_and_names_the_bound() -> None:
    front = Front(entry=high_impact(refund))
    headers = front.bearer()
    front.given.now += timedelta(seconds=3)
    status, answered, body = await front.ask(headers)
    assert (status, answered[b"retry-after"]) == (503, b"1")
    told = json.loads(body)
    assert (told["reason"], told["bound"]) == ("VIEW_STALE", "the bound for high-impact calls, 2.5 s")
    front.given.hear()
    assert (await front.ask(headers))[0] == 200


async def test_a_defect_refuses_without_telling() -> None:
    given = world()

    def broken() -> Any:
        raise RuntimeError("canary")

    given.bundles, token = broken, given.token()  # type: ignore[method-assign]
    front = Front(given=given)
    status, _, body = await front.ask(front.bearer(token))
    assert (status, b"canary" in body) == (503, False)


async def test_what_is_open_needs_nothing_and_lifespan_goes_through() -> None:
    front = Front()
    assert (await front.ask([], method="GET", path="/healthz", extensions={}))[0] == 200
    await front.app({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert front.shop.handled == ["/healthz", "lifespan"]


async def test_a_websocket_is_closed_before_it_is_accepted() -> None:
    front, sent = Front(), []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await front.app({"type": "websocket", "path": "/healthz"}, receive, send)
    await front.app({"type": "other"}, receive, send)
    assert [(each["type"], each["code"]) for each in sent] == [("websocket.close", 1008)]
    assert not front.shop.handled


def test_every_reason_has_a_status() -> None:
    assert {status_of(reason) for reason in Reason} == {400, 401, 403, 404, 409, 429, 503}


def test_the_plain_function_judges_the_same() -> None:
    given = world()
    order = Resource(type="order", id="1234")
    call = Call(action="order.refund", resource=order, tenant="retail", parameters={"amount": 1, "currency": "EUR"})
    checked = given.guard().check(given.token(), call, evidence=given.caller.evidence())
    assert checked.credential_id == CREDENTIAL
    thief = given.domain.svid("/agent/thief")
    with pytest.raises(Refusal) as refused:
        given.guard().check(given.token(), call, evidence=thief.evidence())
    assert refused.value.reason is Reason.TOKEN_HOLDER_MISMATCH
    with pytest.raises(Refusal) as refused:
        given.guard().check(given.token(thief), call, evidence=thief.evidence())
    assert refused.value.detail == "its agent is not the caller"


STARTS: dict[str, tuple[dict[str, Any], str]] = {
    "unmapped": ({"calls": {REFUND: refund}, "routes": [REFUND, "GET /orders"]}, "without a mapping: GET /orders"),
    "no-such-route": ({"calls": {REFUND: refund}, "routes": []}, "no route here"),
    "both": ({"calls": {REFUND: refund}, "open_to": [REFUND]}, "both mapped and open"),
    "no-method": ({"calls": {"/orders": refund}}, "not .METHOD"),
    "wildcard": ({"calls": {}, "open_to": ["GET /{rest:path}"]}, "not .METHOD"),
    "half-segment": ({"calls": {"GET /orders/x{y}": refund}}, "not .METHOD"),
    "dots": ({"calls": {"GET /a/../b": refund}}, "dots"),
    "name-twice": ({"calls": {"GET /a/{x}/{x}": refund}}, "twice"),
    "unclear": ({"calls": {"GET /a/{x}": refund}, "open_to": ["GET /a/open"]}, "not clear"),
    "text": ({"calls": {}, "open_to": HEALTH}, "not one text"),
}


@pytest.mark.parametrize(("given", "told"), STARTS.values(), ids=STARTS.keys())
def test_a_mapping_that_does_not_fit_does_not_start(given: dict[str, Any], told: str) -> None:
    Routes(calls={REFUND: refund}, open_to=[HEALTH], routes=[REFUND, HEALTH])
    with pytest.raises(MappingError, match=told):
        Routes(**given)
