"""Services of two tenants, behind every guard of the SDK: a credential of one tenant opens nothing of the other."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

import broker.validator
from broker.errors import Refusal
from broker.intent import Resource
from broker.svid.leaf import thumbprint_of
from broker.v1 import task_pb2, task_pb2_grpc
from broker.validator import Bounds, Call, HttpRequest, Validation, open_validator
from tests.attacks.entrances import PATIENCE, begin_task, exchange, outcome, request, revoke
from tests.attacks.house import House
from tests.attacks.tenancy import DEPOT, RETAIL, SHOP, SIDES, TRADE, Side, open_tenancy, status_index_of
from tests.fakes.orders_service import TASKS
from tests.fakes.trust_domain import Svid, pem
from tests.operations.world import ORDERS, SHARED
from tests.polling import eventually

ISSUER = "https://broker.example.org"
NAME = "service.example.org"
ORDER = "1234"

# Who takes a token at a service: by its name in the SDK. `check` of the first is the bare function.
Judge = Callable[[Svid, str, str], Awaitable[str]]
GUARDS = ("Validator", "Guard", "ValidatorInterceptor", "ValidatorMiddleware")
# Why the SDK's other names take no token.
OTHERS = {
    "what a service says of its calls": {
        "Bounds", "Call", "Entry", "HttpRequest", "Impact", "Mapped", "Mapper", "MappingError", "Membership", "Memory",
        "Resource", "high_impact", "reads", "writes",
    },
    "what makes the guards that are tried here": {"GuardedService", "Validation", "connect", "open_validator"},
    "what follows the broker, and holds no credential": {"Feed", "FeedSettings", "NoFeed", "RevocationView"},
    "what a guarded handler asks, once a token was taken": {"outcome", "verified_token"},
    "what is said of a token that was taken": {"Reports", "SpoolUnusable", "Use", "Written"},
}  # fmt: skip


def test_every_name_of_the_sdk_is_a_guard_that_is_tried_or_takes_no_token() -> None:
    others = [name for names in OTHERS.values() for name in names]
    assert sorted([*GUARDS, *others]) == sorted(broker.validator.__all__)


def touched(order: str, tenant: str) -> Call:
    return Call(action="order.read", resource=Resource(type="order", id=order), tenant=tenant)


async def of_request(asked: HttpRequest) -> Call:
    return touched(asked.names["order"], asked.names["tenant"])


class Handlers(task_pb2_grpc.TaskServiceServicer):
    """Stands for any gRPC service: the fields of a task name an order and its tenant."""

    async def BeginTask(self, _: object, __: object) -> task_pb2.BeginTaskResponse:  # noqa: N802 - the stub's name
        return task_pb2.BeginTaskResponse()

    async def EndTask(self, _: object, __: object) -> task_pb2.EndTaskResponse:  # noqa: N802 - the stub's name
        return task_pb2.EndTaskResponse()

    async def CancelTask(self, _: object, __: object) -> task_pb2.CancelTaskResponse:  # noqa: N802 - the stub's name
        raise AssertionError

    async def HeartbeatTask(self, _: object, __: object) -> task_pb2.HeartbeatTaskResponse:  # noqa: N802 - the same
        raise AssertionError

    async def NarrowTask(self, _: object, __: object) -> task_pb2.NarrowTaskResponse:  # noqa: N802 - the same
        raise AssertionError

    async def ResumeTask(self, _: object, __: object) -> task_pb2.ResumeTaskResponse:  # noqa: N802 - the same
        raise AssertionError


async def application(_: Any, __: Any, send: Any) -> None:
    """Stand for any web service."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'{"reason": ""}'})


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """One service, with every guard."""

    house: House
    own: Svid
    validation: Validation
    port: int

    async def judged(self, guard: str, caller: Svid, token: str, tenant: str) -> str:
        """Return the reason why a call is refused by a guard; empty when it is served."""
        judges: dict[str, Judge] = {
            "Validator": self._bare,
            "Guard": self._plain,
            "ValidatorInterceptor": self._by_grpc,
            "ValidatorMiddleware": self._by_http,
        }
        try:
            return await judges[guard](caller, token, tenant)
        except Refusal as refusal:
            return refusal.reason.name

    async def _bare(self, caller: Svid, token: str, tenant: str) -> str:
        thumbprint, now = thumbprint_of(caller.leaf), datetime.now(UTC)
        self.validation.validator.check(token, touched(ORDER, tenant), caller_thumbprint=thumbprint, now=now)
        return ""

    async def _plain(self, caller: Svid, token: str, tenant: str) -> str:
        guard = self.validation.guard(self.house.identity.bundles)
        guard.check(token, touched(ORDER, tenant), evidence=caller.evidence())
        return ""

    async def _by_grpc(self, caller: Svid, token: str, tenant: str) -> str:
        credentials = grpc.ssl_channel_credentials(
            pem(self.house.home.bundle), caller.private_key, caller.certificate_chain
        )
        options = [("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1)]
        asked = task_pb2.BeginTaskRequest(purpose=ORDER, tenant=tenant)
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options) as channel:
            stub = task_pb2_grpc.TaskServiceStub(channel)
            call = stub.BeginTask(asked, metadata=(("authorization", f"Bearer {token}"),), timeout=PATIENCE)
            return (await outcome(call)).reason

    async def _by_http(self, caller: Svid, token: str, tenant: str) -> str:
        guard = self.validation.middleware(
            application, bundles=self.house.identity.bundles, calls={"GET /{tenant}/orders/{order}": of_request}
        )
        path, sent = f"/{tenant}/orders/{ORDER}", list[Any]()

        async def send(message: Any) -> None:
            sent.append(message)

        evidence = caller.evidence()
        tls = {"tls_version": 0x0304, "client_cert_chain": [evidence.leaf.decode()]}
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "extensions": {"tls": tls},
            "headers": [(b"authorization", b"Bearer " + token.encode())], "client": ("192.0.2.1", 1),
        }  # fmt: skip
        await guard(scope, None, send)  # type: ignore[arg-type]  # nothing here reads a body
        told: str = json.loads(sent[1]["body"])["reason"]
        return told


@asynccontextmanager
async def guarded(house: House, service: str) -> AsyncIterator[Guarded]:
    own = house.svid(service, dns=(NAME,))
    bounds = Bounds.same(timedelta(minutes=5))
    async with open_validator(
        channel=house.good(service), issuer=ISSUER, audience=service, bounds=bounds
    ) as validation:
        await validation.feed.ready()
        guard = validation.interceptor(
            bundles=house.identity.bundles,
            services=[TASKS],
            calls={
                "/broker.v1.TaskService/BeginTask": lambda asked: touched(asked.purpose, asked.tenant),
                "/broker.v1.TaskService/EndTask": lambda _: touched("", ""),
            },
        )
        server = grpc.aio.server(interceptors=[guard])
        task_pb2_grpc.add_TaskServiceServicer_to_server(Handlers(), server)
        pair = [(own.private_key, own.certificate_chain)]
        credentials = grpc.ssl_server_credentials(pair, pem(house.home.bundle), require_client_auth=True)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        try:
            yield Guarded(house=house, own=own, validation=validation, port=port)
        finally:
            await server.stop(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Three services, and the SVIDs of who calls them."""

    house: House
    services: dict[str, Guarded]
    svids: dict[str, Svid]

    async def given(self, who: str, audience: str, tenant: str = "") -> Any:
        """Exchange; a tenant is named by whoever has several."""
        channel = self.house.channel(self.svids[who])
        task = (await begin_task(channel, tenant=tenant)).task.task_id if tenant else ""
        credential = (await exchange(channel, request(audience=audience, task_id=task))).credential
        await channel.close()
        return credential


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    async with open_tenancy() as tenancy, AsyncExitStack() as stack:
        house = tenancy.house
        services = {name: await stack.enter_async_context(guarded(house, name)) for name in (SHOP, DEPOT, ORDERS)}
        svids = {who: house.svid(who) for who in (RETAIL.agent, TRADE.agent, SHARED)}
        yield Scene(house=house, services=services, svids=svids | {name: each.own for name, each in services.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A credential where it does not belong. Who, where and whose are functions of the two sides, ours first.

    Attributes:
        held: who got it, for which service, for which tenant.
        by: who presents it.
        at: the service.
        on: whose resource.
        reason: why it is refused.

    """

    held: Callable[[Side, Side], tuple[str, str, str]]
    by: Callable[[Side, Side], str]
    at: Callable[[Side, Side], str]
    on: Callable[[Side, Side], str]
    reason: str


def shared(_: Side, __: Side) -> str:
    return ORDERS


ROWS = {
    "our-credential-on-their-resource": Row(
        held=lambda ours, _: (ours.agent, ORDERS, ""), by=lambda ours, _: ours.agent, at=shared,
        on=lambda _, theirs: theirs.tenant, reason="TOKEN_TENANT_MISMATCH",
    ),
    "their-credential-in-our-hands": Row(
        held=lambda _, theirs: (theirs.agent, ORDERS, ""), by=lambda ours, _: ours.agent, at=shared,
        on=lambda _, theirs: theirs.tenant, reason="TOKEN_HOLDER_MISMATCH",
    ),
    "their-credential-in-our-hands-on-ours": Row(
        held=lambda _, theirs: (theirs.agent, ORDERS, ""), by=lambda ours, _: ours.agent, at=shared,
        on=lambda ours, _: ours.tenant, reason="TOKEN_HOLDER_MISMATCH",
    ),
    "their-credential-shown-by-our-service": Row(
        held=lambda _, theirs: (theirs.agent, ORDERS, ""), by=lambda ours, _: ours.service, at=shared,
        on=lambda _, theirs: theirs.tenant, reason="TOKEN_HOLDER_MISMATCH",
    ),
    "their-credential-shown-by-the-shared-service": Row(
        held=lambda _, theirs: (theirs.agent, theirs.service, ""), by=shared, at=lambda _, theirs: theirs.service,
        on=lambda _, theirs: theirs.tenant, reason="TOKEN_HOLDER_MISMATCH",
    ),
    "credential-for-our-service-at-theirs": Row(
        held=lambda ours, _: (ours.agent, ours.service, ""), by=lambda ours, _: ours.agent,
        at=lambda _, theirs: theirs.service, on=lambda _, theirs: theirs.tenant, reason="TOKEN_AUDIENCE_REFUSED",
    ),
    "credential-for-the-shared-service-at-theirs": Row(
        held=lambda ours, _: (ours.agent, ORDERS, ""), by=lambda ours, _: ours.agent,
        at=lambda _, theirs: theirs.service, on=lambda _, theirs: theirs.tenant, reason="TOKEN_AUDIENCE_REFUSED",
    ),
    "agent-of-both-for-us-on-theirs": Row(
        held=lambda ours, _: (SHARED, ORDERS, ours.tenant), by=lambda _, __: SHARED, at=shared,
        on=lambda _, theirs: theirs.tenant, reason="TOKEN_TENANT_MISMATCH",
    ),
    "agent-of-both-for-us-at-their-service": Row(
        held=lambda ours, _: (SHARED, ours.service, ours.tenant), by=lambda _, __: SHARED,
        at=lambda _, theirs: theirs.service, on=lambda _, theirs: theirs.tenant, reason="TOKEN_AUDIENCE_REFUSED",
    ),
}  # fmt: skip


@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES.keys())
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
async def test_a_credential_across_the_wall_is_refused_by_every_guard(
    scene: Scene, row: Row, sides: tuple[Side, Side]
) -> None:
    holder, audience, tenant = row.held(*sides)
    credential = await scene.given(holder, audience, tenant)
    for guard in GUARDS:
        for _ in range(2):  # the second time the token is one that was verified before
            there = scene.services[row.at(*sides)]
            told = await there.judged(guard, scene.svids[row.by(*sides)], credential.token, row.on(*sides))
            assert told == row.reason, guard
            home = scene.services[audience]
            assert await home.judged(guard, scene.svids[holder], credential.token, credential.tenant) == "", guard


@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES.keys())
async def test_what_is_revoked_at_their_service_counts_at_ours(scene: Scene, sides: tuple[Side, Side]) -> None:
    """The lists of two services have the same places in them: the one's revoked place is nothing to the other."""
    ours, theirs = sides
    places: dict[str, dict[int, Any]] = {ours.service: {}, theirs.service: {}}
    while not (common := places[ours.service].keys() & places[theirs.service].keys()):
        for side in sides:
            credential = await scene.given(side.agent, side.service)
            places[side.service][status_index_of(credential.token)] = credential
    place = min(common)
    gone, kept = places[theirs.service][place], places[ours.service][place]
    await revoke(scene.house.good(theirs.desk), credential_id=gone.credential_id)
    their_agent, our_agent = scene.svids[theirs.agent], scene.svids[ours.agent]

    async def refused() -> bool:
        told = await scene.services[theirs.service].judged("Guard", their_agent, gone.token, theirs.tenant)
        return told == "TOKEN_REVOKED"

    await eventually(refused)
    for guard in GUARDS:
        told = await scene.services[theirs.service].judged(guard, their_agent, gone.token, theirs.tenant)
        assert told == "TOKEN_REVOKED", guard
        assert await scene.services[ours.service].judged(guard, our_agent, kept.token, ours.tenant) == "", guard
