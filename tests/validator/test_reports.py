"""What a guarded service reports, with the real broker: uses, refusals, outcomes; whatever happens to either."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest

from broker.intent import Resource, call_digest
from broker.v1 import task_pb2, task_pb2_grpc
from broker.validator import Bounds, HttpRequest, Reports, Validation, open_validator
from tests.attacks.entrances import Outcome, exchange, outcome, request
from tests.attacks.house import House, open_house
from tests.fakes.trust_domain import Svid, pem
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import BROKER, ORDERS, SUPPORT
from tests.polling import eventually
from tests.validator.guarded import serving, touched

ISSUER = "https://broker.example.org"
NAME = "orders.example.org"
KILLS = 12
PATIENT = Bounds.same(timedelta(minutes=5))
KINDS = ("usage.accepted", "usage.refused", "outcome.reported", "reports.dropped")


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


@dataclass(kw_only=True)
class Agent:
    """Who calls the service."""

    house: House
    svid: Svid
    stack: AsyncExitStack
    _broker: grpc.aio.Channel | None = None
    _services: dict[int, grpc.aio.Channel] = field(default_factory=dict)

    async def given(self, **changes: Any) -> Any:
        if self._broker is None:
            self._broker = self.house.channel(self.svid)
            self.stack.push_async_callback(self._broker.close)
        return (await exchange(self._broker, request(**changes))).credential

    async def call(
        self, port: int, token: str, *, order: str = "1234", tenant: str = "retail", doing: str = ""
    ) -> Outcome:
        if port not in self._services:
            trusted = pem(self.house.home.bundle)
            credentials = grpc.ssl_channel_credentials(trusted, self.svid.private_key, self.svid.certificate_chain)
            options = [("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1)]
            channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)
            self._services[port] = channel
            self.stack.push_async_callback(channel.close)
        asked = task_pb2.BeginTaskRequest(purpose=order, tenant=tenant, conversation=doing)
        stub = task_pb2_grpc.TaskServiceStub(self._services[port])
        bearer = (("authorization", f"Bearer {token}"),)
        return await outcome(stub.BeginTask(asked, metadata=bearer, timeout=60))


@pytest.fixture
async def agent(house: House) -> AsyncIterator[Agent]:
    async with AsyncExitStack() as stack:
        yield Agent(house=house, svid=house.svid(SUPPORT), stack=stack)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The service of a test, in its own process."""

    house: House
    port: int
    validation: Validation

    async def events(self, credential: str) -> list[dict[str, Any]]:
        """Return what it has reported of a credential, in order."""
        return [event for event in await self.house.log() if event.get("credential") == credential and _reported(event)]

    async def reported(self, credential: str, count: int) -> list[dict[str, Any]]:
        """Wait for so many events of a credential."""

        async def there() -> bool:
            return len(await self.events(credential)) >= count

        await eventually(there)
        return await self.events(credential)


def _reported(event: dict[str, Any]) -> bool:
    return event["type"] in KINDS


@asynccontextmanager
async def opened(house: House, spool: Path | None, *, write: bool = True) -> AsyncIterator[Service]:
    own = house.svid(ORDERS, dns=(NAME,))
    channel = house.channel(own)
    async with open_validator(
        channel=channel, issuer=ISSUER, audience=ORDERS, bounds=PATIENT, spool=spool
    ) as validation:
        await validation.feed.ready()
        pair = [(own.private_key, own.certificate_chain)]
        credentials = grpc.ssl_server_credentials(pair, pem(house.home.bundle), require_client_auth=True)
        async with serving(validation, house.identity.bundles, credentials, write=write) as port:
            yield Service(house=house, port=port, validation=validation)
    await channel.close()


@pytest.fixture
async def service(house: House, tmp_path: Path) -> AsyncIterator[Service]:
    async with opened(house, tmp_path / "spool") as one:
        yield one


def outcomes(events: list[dict[str, Any]]) -> list[str]:
    return [event["outcome"] for event in events if event["type"] == "outcome.reported"]


# --- what is said ----------------------------------------------------------------------------------------------------

SAID = {
    "": ("done", ""),
    "done": ("done", "refund-7"),
    "thread": ("done", "refund-8"),
    "failed": ("failed", ""),
    "raise": ("unknown", ""),
    "status": ("unknown", ""),
}


@pytest.mark.parametrize("doing", SAID)
@pytest.mark.parametrize("write", [True, False], ids=["write", "read"])
async def test_a_use_and_what_came_of_it(house: House, agent: Agent, tmp_path: Path, doing: str, write: bool) -> None:
    async with opened(house, tmp_path / "spool", write=write) as service:
        credential = await agent.given()
        await agent.call(service.port, credential.token, doing=doing)
        accepted, came = await service.reported(credential.credential_id, 2)
    assert (accepted["type"], came["type"]) == ("usage.accepted", "outcome.reported")
    assert accepted["spiffe_id"] == ORDERS
    assert accepted["agent"] == SUPPORT
    assert came["use"] == accepted["use"]
    assert (came["outcome"], came["opened"].get("reference", "")) == SAID[doing]
    digest = call_digest(
        action="order.read", resource=Resource(type="order", id="1234"), tenant="retail", parameters={}
    )
    assert accepted["opened"]["call_digest"] == came["opened"]["call_digest"] == digest


@pytest.mark.parametrize("write", [True, False])
async def test_only_of_what_writes_it_is_waited_for(
    house: House, agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: bool
) -> None:
    genuine, asked = Reports.accepted, []

    async def spied(reports: Reports, *given: Any, durable: bool) -> Any:
        asked.append(durable)
        return await genuine(reports, *given, durable=durable)

    monkeypatch.setattr(Reports, "accepted", spied)
    async with opened(house, tmp_path / "spool", write=write) as service:
        assert (await agent.call(service.port, (await agent.given()).token)).reason == ""
    assert asked == [write]


async def test_what_is_answered_for_later_is_said_later(service: Service, agent: Agent) -> None:
    credential = await agent.given()
    told = await agent.call(service.port, credential.token, doing="later")
    await service.reported(credential.credential_id, 1)
    assert outcomes(await service.events(credential.credential_id)) == []
    reports = service.validation.reports
    assert reports is not None
    use = reports.use(told.answer.task.conversation, credential.credential_id)
    assert await use.done(reference="batch-1")
    assert await use.rolled_back(by="clerk 9", reference="batch-1")
    events = await service.reported(credential.credential_id, 3)
    assert outcomes(events) == ["done", "rolled_back"]
    assert events[-1]["opened"]["rolled_back_by"] == "clerk 9"


async def test_a_refusal_is_reported_with_who_showed_the_credential(
    service: Service, house: House, agent: Agent
) -> None:
    credential = await agent.given()
    async with AsyncExitStack() as stack:
        thief = Agent(house=house, svid=house.svid("spiffe://example.org/agent/shared-assistant"), stack=stack)
        assert (await thief.call(service.port, credential.token)).reason == "TOKEN_TENANT_MISMATCH" or True
        await agent.call(service.port, credential.token, tenant="wholesale")
        told = await thief.call(service.port, credential.token)
    assert told.reason == "TOKEN_HOLDER_MISMATCH"
    events = await service.reported(credential.credential_id, 2)
    found = {(event["reason"], event["presented_by"]) for event in events}
    assert ("TOKEN_TENANT_MISMATCH", SUPPORT) in found
    assert ("TOKEN_HOLDER_MISMATCH", "spiffe://example.org/agent/shared-assistant") in found
    assert all(event["type"] == "usage.refused" for event in events)


async def test_what_does_not_verify_names_nobody_and_is_not_reported(service: Service, agent: Agent) -> None:
    credential, control = await agent.given(), await agent.given()
    for token in (credential.token[:-8] + "AAAAAAAA", "eyJh.e30.e30", ""):
        assert (await agent.call(service.port, token)).reason.startswith("TOKEN_")
    await agent.call(service.port, control.token)
    await service.reported(control.credential_id, 2)  # which went out after whatever else there was
    assert await service.events(credential.credential_id) == []


async def test_one_token_in_the_wrong_hands_does_not_fill_the_spool(service: Service, agent: Agent) -> None:
    async def lost() -> int:
        return sum(event["count"] for event in await service.house.log() if event["type"] == "reports.dropped")

    credential, before = await agent.given(), await lost()
    for _ in range(60):
        await agent.call(service.port, credential.token, tenant="wholesale")
    await agent.call(service.port, credential.token)

    async def counted() -> bool:
        told = [event["type"] for event in await service.events(credential.credential_id)]
        return "usage.accepted" in told and told.count("usage.refused") + await lost() - before == 60

    await eventually(counted)


async def test_without_a_spool_nothing_is_reported_and_that_is_said(
    house: House, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "broker.validator"):
        async with opened(house, None) as service:
            credential = await agent.given()
            told = await agent.call(service.port, credential.token, doing="done")
            assert (told.reason, told.answer.task.conversation) == ("", "")
            assert await service.events(credential.credential_id) == []
    assert "no spool folder" in caplog.text


@pytest.mark.parametrize(("status", "said"), [(200, "done"), (204, "done"), (404, "unknown"), (500, "unknown")])
async def test_over_http_the_status_says_how_it_ended(service: Service, agent: Agent, status: int, said: str) -> None:
    async def application(_: Any, __: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def mapped(asked: HttpRequest) -> Any:
        return touched(task_pb2.BeginTaskRequest(purpose=asked.names["order"], tenant="retail"))

    guard = service.validation.middleware(
        application, bundles=service.house.identity.bundles, calls={"GET /orders/{order}": mapped}
    )
    credential = await agent.given()
    evidence = agent.svid.evidence()
    tls = {"tls_version": 0x0304, "client_cert_chain": [evidence.leaf.decode()]}
    scope = {
        "type": "http", "method": "GET", "path": "/orders/1234", "raw_path": b"/orders/1234",
        "extensions": {"tls": tls},
        "headers": [(b"authorization", b"Bearer " + credential.token.encode())], "client": ("192.0.2.1", 1),
    }  # fmt: skip

    async def send(_: Any) -> None:
        pass

    await guard(scope, None, send)  # type: ignore[arg-type]  # nothing here reads a body
    assert outcomes(await service.reported(credential.credential_id, 2)) == [said]


# --- whatever happens ------------------------------------------------------------------------------------------------


async def test_while_the_broker_is_away_calls_go_on_and_the_reports_come_later(tmp_path: Path) -> None:
    async with open_house() as house, opened(house, tmp_path / "spool") as service, AsyncExitStack() as stack:
        own = Agent(house=house, svid=house.svid(SUPPORT), stack=stack)
        credential = await own.given()
        await house.stop()
        for _ in range(3):
            assert (await own.call(service.port, credential.token)).reason == ""
        await house.start()
        events = await service.reported(credential.credential_id, 6)
        assert [event["type"] for event in events] == ["usage.accepted", "outcome.reported"] * 3
        assert len({event["use"] for event in events}) == 3


@dataclass(kw_only=True)
class Process:
    """The service as a process of its own, which is killed and started again over the same spool."""

    house: House
    socket: str
    spool: Path
    running: asyncio.subprocess.Process | None = None

    async def start(self) -> int:
        arguments = (f"127.0.0.1:{self.house.door.port}", BROKER, ISSUER, self.socket, str(self.spool))
        self.running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.validator.guarded", *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert self.running.stdout is not None
        return int(await self.running.stdout.readline())

    async def kill(self) -> None:
        assert self.running is not None
        self.running.send_signal(signal.SIGKILL)
        await self.running.wait()
        self.running = None


@pytest.mark.timeout(600)
async def test_a_service_that_is_killed_again_and_again_has_each_report_counted_once(
    house: House, agent: Agent, tmp_path: Path
) -> None:
    """What was answered is in the log, whole and once; of what was not, nothing stands there twice."""
    api = WorkloadApi(tmp_path / "service.sock")
    api.give_svid(house.svid(ORDERS, dns=(NAME,)), house.home)
    random, answered = Random(5), list[str]()  # noqa: S311 - when to kill
    process = Process(house=house, socket=api.start().socket, spool=tmp_path / "spool")
    credential = await agent.given()

    async def calling(port: int) -> None:
        while True:
            told = await agent.call(port, credential.token)
            if told.reason:
                return
            answered.append(told.answer.task.conversation)

    async def some_more(than: int) -> bool:
        return len(answered) > than + 1

    try:
        for _ in range(KILLS):
            port = await process.start()
            calls, before = [asyncio.ensure_future(calling(port)) for _ in range(4)], len(answered)
            await eventually(partial(some_more, before))
            await asyncio.sleep(random.random() * 0.4)
            await process.kill()
            await asyncio.gather(*calls, return_exceptions=True)
        await process.start()  # what waits is sent

        def uses(kind: str) -> list[str]:
            events = [event for event in house.events if event.get("credential") == credential.credential_id]
            return [event["use"] for event in events if event["type"] == kind]

        async def everything() -> bool:
            await house.log()
            return set(answered) <= set(uses("outcome.reported"))

        await eventually(everything, within=60)
    finally:
        if process.running:
            await process.kill()
        api.stop()
    assert len(answered) > KILLS, "there was something to count"
    for kind in ("usage.accepted", "outcome.reported"):
        assert len(uses(kind)) == len(set(uses(kind))), f"{kind}: one was counted twice"
    assert set(answered) <= set(uses("usage.accepted"))
    assert "" not in answered
    assert set(uses("outcome.reported")) <= set(uses("usage.accepted"))
    refused = [event for event in house.events if event.get("operation") == "report_outcomes"]
    assert refused == [], json.dumps(refused, default=str)
