"""HTTP by both lines of httpx: a credential for each request, over the right SVID, to the right service or nobody."""

import asyncio
import hashlib
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

import broker.client.http
import broker.client.sync
from broker.client import Ask, BrokerError, Denied, TokenRefused, Undeclared, Unreachable
from broker.client.http import transport
from broker.client.refusal_body import refusal_in
from broker.errors import Reason
from tests.attacks.entrances import revoke
from tests.client.http_stage import LARGE, HttpStage, open_http_stage
from tests.client.stage import reading
from tests.client.test_cache import held
from tests.operations.world import BROKER, ORDERS, SECURITY, SUPPORT
from tests.polling import eventually

REQUESTS = 600
AT_ONCE = 8
ROTATIONS = 8


@pytest.fixture(scope="module")
async def web() -> AsyncIterator[HttpStage]:
    """The stage of this module."""
    async with open_http_stage() as opened:
        yield opened


@pytest.fixture(params=[httpx, httpx2], ids=lambda line: line.__name__)
def line(request: pytest.FixtureRequest) -> ModuleType:
    """Each of the two lines."""
    found: ModuleType = request.param
    return found


@pytest.fixture(autouse=True)
def afresh(web: HttpStage) -> None:
    """Nobody has seen anything."""
    for shop in (web.shop, web.thief):
        shop.seen.clear()
        shop.asked.clear()


def client(web: HttpStage, line: Any, *, intent: Any = None, to: str = "", **more: Any) -> Any:
    address = to or web.address
    way = transport(web.stage.session, ORDERS, address, intent=intent, library=line)
    return line.AsyncClient(transport=way, base_url=f"https://{address}", timeout=60, **more)


def ask(order: str = "1234", **more: Any) -> dict[str, Any]:
    return {"ask": reading(order, **more)}


def by_path(request: Any) -> Ask | None:
    match request.method, request.url.path.split("/"):
        case "GET" | "PUT", ["", "orders", order, *_]:
            return reading(order)
        case _:
            return None


# --- what is accepted -----------------------------------------------------------------------------------------------


async def test_a_request_that_says_what_it_does(web: HttpStage, line: ModuleType) -> None:
    async with client(web, line) as http:
        answers = [await http.get(f"/orders/{order}", extensions=ask(order)) for order in ("1234", "1235")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(set(web.shop.seen)) == 2, "each has a credential of its own"
    assert all(seen.startswith("Bearer ey") for seen in web.shop.seen)


async def test_a_transport_that_is_told_what_requests_do(web: HttpStage, line: ModuleType) -> None:
    async with client(web, line, intent=by_path) as http:
        assert (await http.get("/orders/1234")).status_code == 200
        with pytest.raises(Undeclared):
            await http.delete("/orders/1234")
    assert len(web.shop.seen) == 1


async def test_a_credential_that_there_already_is(web: HttpStage, line: ModuleType) -> None:
    intent = reading("1234").intent(ORDERS)
    credential = await web.stage.session.exchange_intent(intent)
    async with client(web, line) as http:
        for _ in range(2):
            assert (await http.get("/orders/1234", extensions={"credential": credential})).status_code == 200
    assert set(web.shop.seen) == {credential.metadata()[0][1]}


async def test_a_write_with_its_parameters(web: HttpStage, line: ModuleType) -> None:
    async with client(web, line) as http, web.stage.session.task(purpose="customer-support") as task:
        given = Ask(
            action="order.refund",
            resource=("order", "1234"),
            purpose="customer-support",
            parameters={"amount": 4200, "currency": "EUR"},
            task=task,
        )
        paid = await http.post("/orders/1234/refund", json={"amount": 4200}, extensions={"ask": given})
        assert paid.status_code == 200
        with pytest.raises(TokenRefused) as caught:
            await http.post("/orders/1234/refund", json={"amount": 4900}, extensions={"ask": given})
        assert caught.value.reason is Reason.TOKEN_SCOPE_EXCEEDED
    assert web.shop.asked == ["/orders/1234/refund"]


async def test_large_bodies_both_ways(web: HttpStage, line: ModuleType) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(80):
            yield bytes([number]) * 65_536

    whole = b"".join([piece async for piece in pieces()])
    async with client(web, line, intent=by_path) as http:
        assert len((await http.get("/orders/1234/all")).content) == LARGE
        for content in (whole, pieces()):
            answer = await http.put("/orders/1234/scan", content=content)
            assert answer.text == hashlib.sha256(whole).hexdigest()
        async with http.stream("GET", "/orders/1234/all") as answer:
            assert sum([len(piece) async for piece in answer.aiter_raw()]) == LARGE


async def test_a_program_without_asyncio(web: HttpStage, line: Any) -> None:
    def program() -> None:
        address = f"127.0.0.1:{web.stage.house.door.port}"
        with (
            broker.client.sync.connect(address, broker_id=BROKER, socket=web.stage.agent.socket, timeout=60) as session,
            line.Client(
                transport=transport(session, ORDERS, web.address, intent=by_path, library=line),
                base_url=f"https://{web.address}",
                timeout=60,
            ) as http,
            ThreadPoolExecutor(AT_ONCE) as pool,
        ):
            assert [each.status_code for each in pool.map(http.get, ["/orders/1234"] * 40)] == [200] * 40
            assert len(http.get("/orders/1234/all").content) == LARGE
            with pytest.raises(TokenRefused):
                http.get("/orders/1235", extensions=ask("1234"))
            with pytest.raises(BrokerError, match="nobody else"):
                http.get(f"https://{web.thief_address}/")

    await asyncio.to_thread(program)
    assert len(set(web.shop.seen)) == 41


async def test_threads_that_begin_together_share_their_connections(web: HttpStage, line: Any) -> None:
    together, made = threading.Barrier(2), []

    def program() -> None:
        address = f"127.0.0.1:{web.stage.house.door.port}"
        with broker.client.sync.connect(
            address, broker_id=BROKER, socket=web.stage.agent.socket, timeout=60
        ) as session:
            way: Any = transport(session, ORDERS, web.address, intent=by_path, library=line)
            make = way._make

            def slowly(**named: Any) -> Any:
                inner = make(**named)
                made.append(inner)
                together.wait(60)
                return inner

            way._make = slowly
            with line.Client(transport=way, base_url=f"https://{web.address}", timeout=60) as http:
                with ThreadPoolExecutor(2) as pool:
                    list(pool.map(http.get, ["/orders/1234"] * 2))
                (kept,) = way._inners.values()
                assert [bool(each._pool.connections) for each in made] == [each is kept for each in made]

    await asyncio.to_thread(program)
    assert len(made) == 2


def test_the_line_need_not_be_named(web: HttpStage) -> None:
    assert isinstance(transport(web.stage.session, ORDERS, web.address), httpx.AsyncBaseTransport)


def test_the_sdk_itself_brings_no_http() -> None:
    code = "import sys, broker.client, broker.client.http, broker.client.tools; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert "'broker.client.http'" in loaded
    assert "'httpx" not in loaded


# --- who gets it, and who does not ----------------------------------------------------------------------------------


async def test_somebody_else_is_sent_nothing(web: HttpStage, line: Any) -> None:
    """The thief has an SVID of the right trust domain, and listens where the service is looked for."""
    async with client(web, line, intent=by_path, to=web.thief_address) as http:
        with pytest.raises(line.TransportError, match=r"service/thief, not spiffe://example.org/service/orders"):
            await http.get("/orders/1234")
    assert not web.thief.asked
    way = transport(web.stage.session, "spiffe://example.org/service/thief", web.thief_address, library=line)
    async with line.AsyncClient(transport=way, base_url=f"https://{web.thief_address}") as http:
        credential = await web.stage.session.exchange_intent(reading("1234").intent(ORDERS))
        await http.get("/orders/1234", extensions={"credential": credential})
    assert web.thief.asked == ["/orders/1234"], "it does answer when it is called by its own name"


async def test_a_redirect_to_another_host_carries_nothing(web: HttpStage, line: Any) -> None:
    web.shop.moved_to = f"https://{web.thief_address}/orders/1234"
    elsewhere = transport(web.stage.session, "spiffe://example.org/service/thief", web.thief_address, library=line)
    for mounts in ({}, {f"https://{web.thief_address}": elsewhere}):
        async with client(web, line, follow_redirects=True, mounts=mounts) as http:
            with pytest.raises((BrokerError, Denied)):
                await http.get("/orders/1234/moved", extensions=ask())
    assert len(web.shop.asked) == 2
    assert not web.thief.asked
    async with client(web, line) as http:
        answer = await http.get("/orders/1234/moved", extensions=ask())
    assert answer.next_request is not None
    for request in (answer.request, answer.next_request):
        assert "authorization" not in request.headers


async def test_a_redirect_within_the_service_is_a_request_of_its_own(web: HttpStage, line: ModuleType) -> None:
    web.shop.moved_to = "/orders/1235"
    async with client(web, line, intent=by_path, follow_redirects=True) as http:
        assert (await http.get("/orders/1234/moved")).status_code == 200
    assert web.shop.asked == ["/orders/1234/moved", "/orders/1235"]
    assert len(set(web.shop.seen)) == 2


@pytest.mark.parametrize("url", ["http://{}/orders/1234", "https://127.0.0.1/orders/1234", "https://localhost:1/x"])
async def test_another_address_is_not_asked(web: HttpStage, line: ModuleType, url: str) -> None:
    async with client(web, line, intent=by_path) as http:
        with pytest.raises(BrokerError, match="nobody else"):
            await http.get(url.format(web.address))
    assert not web.shop.asked


async def test_an_authorization_of_the_callers_is_not_sent(web: HttpStage, line: ModuleType) -> None:
    async with client(web, line, intent=by_path) as http:
        for more in ({"auth": ("user", "password")}, {"headers": {"Authorization": "Bearer other"}}):
            with pytest.raises(BrokerError, match="itself"):
                await http.get("/orders/1234", **more)
    assert not web.shop.asked


@pytest.mark.parametrize("extensions", [{}, {"ask": None}, {"ask": {"action": "order.read"}}, {"ask": "order.read"}])
async def test_nobody_said_what_it_does(web: HttpStage, line: ModuleType, extensions: dict[str, Any]) -> None:
    async with client(web, line) as http:
        with pytest.raises(Undeclared):
            await http.get("/orders/1234", extensions=extensions)
    assert not web.shop.asked


async def test_no_token_in_any_log(web: HttpStage, line: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with client(web, line, intent=by_path) as http:
        answer = await http.get("/orders/1234")
        with pytest.raises(TokenRefused) as caught:
            await http.get("/orders/1235", extensions=ask("1234"))
    (token,) = {seen.removeprefix("Bearer ") for seen in web.shop.seen}
    assert "HTTP/1.1 200" in caplog.text
    for text in (caplog.text, repr(answer), repr(answer.request.headers), str(caught.value)):
        assert token not in text
        assert token.rpartition(".")[2] not in text


# --- what is refused ------------------------------------------------------------------------------------------------


async def test_a_refusal_of_the_broker_is_no_request(web: HttpStage, line: ModuleType) -> None:
    async with client(web, line) as http:
        with pytest.raises(Denied):
            await http.get(
                "/orders/1234",
                extensions={"ask": Ask(action="order.read", resource=("order", "1234"), purpose="billing")},
            )
    assert not web.shop.asked


async def test_a_refusal_of_the_service_is_ours(web: HttpStage, line: ModuleType) -> None:
    async with client(web, line) as http:
        for path in ("/orders/1235", "/orders/..%2f1234"):
            with pytest.raises(TokenRefused) as caught:
                await http.get(path, extensions=ask("1234"))
            reason = caught.value.reason
            assert reason in (Reason.TOKEN_SCOPE_EXCEEDED, Reason.CALL_UNMAPPED)
            assert caught.value.sentence == reason.meaning.sentence
    assert not web.shop.asked


@pytest.mark.parametrize(
    ("status", "kind", "content"),
    [
        (404, b"application/json", b'{"detail": "gone"}'),
        (401, b"application/json", b'{"reason": "NO_SUCH", "message": "", "next_step": ""}'),
        (403, b"application/json", b"[" * 4000),
        (403, b"application/json", b'{"reason": ["TOKEN_EXPIRED"], "message": 1, "next_step": 2}'),
        (403, b"application/json", b'{"reason": "TOKEN_EXPIRED", "message": "%s", "next_step": ""}' % (b"x" * 5000)),
        (503, b"text/plain", b'{"reason": "VIEW_STALE", "message": "", "next_step": ""}'),
        (400, b"application/json", b'"' + b"x" * 100_000 + b'"'),
        (500, b"application/json", b'{"reason": "INTERNAL", "message": "", "next_step": ""}'),
    ],
)
async def test_what_else_the_service_answers_is_an_answer(
    web: HttpStage, line: ModuleType, status: int, kind: bytes, content: bytes
) -> None:
    web.shop.odd = status, kind, content
    async with client(web, line, intent=by_path) as http:
        answer = await http.get("/orders/1234/odd")
        assert (answer.status_code, answer.content) == (status, content)
        async with http.stream("GET", "/orders/1234/odd") as answer:
            assert b"".join([piece async for piece in answer.aiter_raw()]) == content


def test_every_reason_is_understood() -> None:
    for reason in Reason:
        found = refusal_in(f'{{"reason": "{reason.name}", "message": "m", "next_step": "n", "bound": "b"}}'.encode())
        assert found is not None
        assert (found.reason, found.sentence) == (reason, reason.meaning.sentence)


async def test_a_held_credential_that_is_not_accepted_is_replaced(
    web: HttpStage, line: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was revoked, and only the service has heard of it."""
    session, cache = web.stage.session, web.stage.session._cache
    hear = cache._hear

    def deaf(message: Any) -> None:
        message.ClearField("revoked")
        hear(message)

    monkeypatch.setattr(cache, "_hear", deaf)
    credential = await held(session)
    await revoke(web.stage.house.good(SECURITY), credential_id=credential.id)

    async with client(web, line) as http:

        async def refused() -> bool:
            try:
                await http.get("/orders/1234", extensions={"credential": credential})
            except TokenRefused as refusal:
                return refusal.reason is Reason.TOKEN_REVOKED
            return False

        await eventually(refused)
        web.shop.seen.clear()
        for _ in range(2):
            assert (await http.get("/orders/1234", extensions=ask(cache=True))).status_code == 200
    (seen,) = set(web.shop.seen)
    assert seen != credential.metadata()[0][1]


async def test_a_401_is_asked_again_once_at_most(web: HttpStage, line: ModuleType) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    web.shop.odd = 401, b"text/plain", b"no"
    async with client(web, line) as http:
        for more, times in (({}, 2), ({"content": b"x"}, 2), ({"content": pieces()}, 1)):
            await held(web.stage.session)
            web.shop.seen.clear()
            answer = await http.request("GET", "/orders/1234/odd", extensions=ask(cache=True), **more)
            assert (answer.status_code, answer.content) == (401, b"no")
            assert len(set(web.shop.seen)) == len(web.shop.seen) == times
        web.shop.seen.clear()
        assert (await http.get("/orders/1234/odd", extensions=ask())).status_code == 401
        assert len(web.shop.seen) == 1, "this one was given a moment ago; another would be no better"


async def test_nobody_answers(web: HttpStage, line: Any) -> None:
    async with client(web, line, intent=by_path, to="127.0.0.1:1") as http:
        with pytest.raises(line.TransportError, match=r"127\.0\.0\.1:1 did not answer: .*[Cc]onnect"):
            await http.get("/orders/1234")


async def test_no_credential_in_time(web: HttpStage, line: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    async def late(*_: object, **__: object) -> None:
        raise Unreachable("The broker did not answer: not in time")

    monkeypatch.setattr(web.stage.session, "exchange_intent", late)
    async with client(web, line, intent=by_path) as http:
        with pytest.raises(Unreachable):
            await http.get("/orders/1234")
    assert not web.shop.asked


async def test_a_generation_that_is_over_leaves_no_connection(web: HttpStage, line: Any) -> None:
    way = transport(web.stage.session, ORDERS, web.address, intent=by_path, library=line)
    async with line.AsyncClient(transport=way, base_url=f"https://{web.address}", timeout=60) as http:
        credential = await web.stage.session.exchange_intent(reading("1234").intent(ORDERS))
        assert (await http.get("/orders/1234", extensions={"credential": credential})).status_code == 200
        (before,) = way._inners
        generations = web.stage.session._generations
        await generations._generations.pop(credential.thumbprint).close()
        assert before.closed
        assert (await http.get("/orders/1234")).status_code == 200
        assert before not in way._inners
        assert len(way._inners) == 1


# --- while identities change ----------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Caller:
    """Calls without end, and what became of it."""

    done: int = 0
    failed: list[Exception] = field(default_factory=list)
    going: bool = True

    async def run(self, http: Any) -> None:
        """Call until enough is done, and nothing rotates any more."""
        while self.going or self.done < REQUESTS:
            try:
                (await http.get("/orders/1234")).raise_for_status()
            except Exception as problem:
                self.failed.append(problem)
            self.done += 1

    async def reached(self, count: int) -> None:
        """Wait until so many are done."""

        async def so_many() -> bool:
            return self.done >= count

        await eventually(so_many, within=300)


async def rotate(web: HttpStage, caller: Caller) -> None:
    """Renew every leaf again and again, and the authority in the middle of it."""
    house = web.stage.house
    prepared = house.home.prepare_authority()
    for number in range(ROTATIONS):
        await caller.reached(REQUESTS // (ROTATIONS + 2) * (number + 1))
        if number == ROTATIONS // 3:  # by now it is trusted everywhere
            house.home.activate(prepared)
        if number == ROTATIONS - 2:  # by now it has issued to all
            house.home.remove_authority()
        house.workload.give_svid(house.svid(BROKER, dns=("broker.example.org",)), house.home)
        held = web.stage.session._generations._generations
        before = len(held)
        web.stage.renew(web.stage.agent, SUPPORT)
        web.stage.renew(web.stage.service, ORDERS)
        await eventually(partial(_grown, held, before))  # or the next one would come before this one was used
    caller.going = False


async def _grown(held: Sized, before: int) -> bool:
    return len(held) > before


@pytest.mark.timeout(600)
async def test_no_request_fails_while_everything_rotates() -> None:
    async with open_http_stage() as web:
        caller = Caller()
        async with (
            client(web, httpx, intent=by_path) as one,
            client(web, httpx2, intent=by_path) as two,
            asyncio.timeout(550),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(rotate(web, caller))
            for http in (one, two) * (AT_ONCE // 2):
                group.create_task(caller.run(http))
        assert not caller.failed, (len(caller.failed), caller.failed[:3])
        assert len(set(web.shop.seen)) == len(web.shop.seen) == caller.done >= REQUESTS
        assert len(web.stage.house.home.authorities) == 1
        assert len(web.stage.session._generations._generations) > ROTATIONS
