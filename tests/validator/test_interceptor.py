"""Interceptor: a guarded service on a real TLS connection; a handler runs for what is covered and for nothing else."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pyroaring import BitMap

from broker.errors import Reason, Refusal
from broker.intent import Resource
from broker.svid.authenticate import Authenticator
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId
from broker.v1 import revoke_pb2, task_pb2, task_pb2_grpc
from broker.validator import (
    Call,
    Entry,
    Guard,
    Mapped,
    Mapper,
    MappingError,
    RevocationView,
    Validator,
    ValidatorInterceptor,
    high_impact,
    reads,
    verified_token,
    writes,
)
from broker.validator.view import KeySet, Update
from tests.fakes.orders_service import TASKS
from tests.fakes.trust_domain import Svid, TrustDomain, pem
from tests.unit.credential.samples import AUDIENCE, CREDENTIAL, ISSUER, LIFETIME, SIGNER, token

BEGIN = "/broker.v1.TaskService/BeginTask"
END = "/broker.v1.TaskService/EndTask"
REVOCATIONS = revoke_pb2.DESCRIPTOR.services_by_name["RevocationService"]
GOOD = task_pb2.BeginTaskRequest(purpose="1234", tenant="retail", conversation="5000")


def begin(request: task_pb2.BeginTaskRequest) -> Call:
    """Stand for any service's mapping: the task's fields name an order here."""
    return Call(
        action="order.refund",
        resource=Resource(type="order", id=request.purpose),
        tenant=request.tenant,
        parameters={"amount": int(request.conversation), "currency": "EUR"},
    )


def end(_: task_pb2.EndTaskRequest) -> Call:
    raise Refusal(Reason.TASK_UNKNOWN)


@dataclass
class Service(task_pb2_grpc.TaskServiceServicer):
    """The service behind the guard."""

    handled: list[str] = field(default_factory=list)

    async def BeginTask(  # noqa: N802 - the stub's name
        self,
        request: task_pb2.BeginTaskRequest,  # noqa: ARG002 - the stub's
        context: object,  # noqa: ARG002 - the stub's
    ) -> task_pb2.BeginTaskResponse:
        self.handled.append(verified_token().credential_id)
        return task_pb2.BeginTaskResponse(task=task_pb2.BeginTaskResponse().task)

    def EndTask(  # noqa: N802 - the stub's name; a handler that is not a coroutine
        self,
        request: task_pb2.EndTaskRequest,  # noqa: ARG002 - the stub's
        context: object,  # noqa: ARG002 - the stub's
    ) -> task_pb2.EndTaskResponse:
        self.handled.append(verified_token().credential_id)
        return task_pb2.EndTaskResponse(position=1)


@dataclass
class World:
    """A service, its caller, and what the service knows."""

    domain: TrustDomain
    server: Svid
    caller: Svid
    now: datetime
    service: Service = field(default_factory=Service)
    view: RevocationView = field(default_factory=lambda: RevocationView(issuer=ISSUER, monotonic=lambda: 0.0))
    port: int = 0

    def __post_init__(self) -> None:
        self.hear()

    def hear(self, *revoked: int) -> None:
        key_set = KeySet(issuer=ISSUER, jwks='{"keys":[' + SIGNER.public_jwk + "]}")
        snapshot = BitMap(revoked).serialize()
        self.view.apply(Update(start=0, stop=0, snapshot=snapshot, read_at=self.now, key_set=key_set), self.now)

    def bundles(self) -> TrustBundles:
        return self.domain.bundles()

    def thumbprint(self, svid: Svid | None = None) -> str:
        authenticator = Authenticator(own_id=SpiffeId.parse(AUDIENCE))
        return authenticator.authenticate((svid or self.caller).evidence(), self.bundles(), self.now).thumbprint

    def token(self, svid: Svid | None = None, **changes: object) -> str:
        bound: dict[str, Any] = {
            "thumbprint": self.thumbprint(svid),
            "issued_at": self.now,
            "expires_at": self.now + LIFETIME,
        }
        return token(**(bound | changes))

    def guard(self) -> Guard:
        return Guard(
            validator=Validator(issuer=ISSUER, audience=AUDIENCE, view=self.view),
            authenticator=Authenticator(own_id=SpiffeId.parse(AUDIENCE)),
            bundles=self.bundles,
            clock=lambda: self.now,
        )

    def channel(self, svid: Svid | None = None) -> grpc.aio.Channel:
        held = svid or self.caller
        credentials = grpc.ssl_channel_credentials(pem(self.domain.bundle), held.private_key, held.certificate_chain)
        options = [("grpc.ssl_target_name_override", "orders.test"), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options)


def world() -> World:
    domain = TrustDomain(name="example.org")
    server = domain.svid("/service/orders", dns=("orders.test",))
    return World(domain, server, domain.svid("/agent/support"), datetime.now(UTC).replace(microsecond=0))


@asynccontextmanager
async def serving(
    given: World,
    mapper: Entry = begin,
    extra: Sequence[grpc.GenericRpcHandler] = (),
    open_to: Sequence[str] = (),
) -> AsyncIterator[World]:
    calls: dict[str, Entry] = {BEGIN: mapper, END: end}
    interceptor = ValidatorInterceptor(guard=given.guard(), services=[TASKS], calls=calls, open_to=open_to)
    server = grpc.aio.server(interceptors=[interceptor])
    task_pb2_grpc.add_TaskServiceServicer_to_server(given.service, server)
    server.add_generic_rpc_handlers(tuple(extra))
    credentials = grpc.ssl_server_credentials(
        [(given.server.private_key, given.server.certificate_chain)], pem(given.domain.bundle), require_client_auth=True
    )
    given.port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield given
    finally:
        await server.stop(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a caller is told."""

    code: grpc.StatusCode
    reason: str = ""
    domain: str = ""
    sentence: str = ""
    details: str = ""
    bound: str = ""


async def ask(
    given: World,
    metadata: Sequence[tuple[str, str]],
    *,
    content: bytes = GOOD.SerializeToString(),
    method: str = BEGIN,
    svid: Svid | None = None,
) -> Answer:
    """Call the service with any bytes; return what came back."""
    async with given.channel(svid) as channel:
        plain: Any = channel.unary_unary(method)
        call = plain(content, metadata=tuple(metadata))
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return read(error)
    return Answer(code=grpc.StatusCode.OK)


def read(error: grpc.aio.AioRpcError) -> Answer:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has all that is read
    info, sentence = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
    for detail in status.details if status else ():
        detail.Unpack(info)
        detail.Unpack(sentence)
    return Answer(
        code=error.code(),
        reason=info.reason,
        domain=info.domain,
        sentence=sentence.message,
        details=error.details() or "",
        bound=info.metadata["bound"],
    )


def bearer(text: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {text}")]


async def test_a_covered_call_is_handled_and_the_handler_knows_its_credential() -> None:
    async with serving(world()) as given:
        assert await ask(given, bearer(given.token())) == Answer(code=grpc.StatusCode.OK)
        assert await ask(given, [("authorization", f"bearer {given.token()}")]) == Answer(code=grpc.StatusCode.OK)
        assert given.service.handled == [CREDENTIAL] * 2
    with pytest.raises(LookupError):
        verified_token()


async def test_a_handler_that_is_no_coroutine_is_guarded_too() -> None:
    given = world()
    calls: dict[str, Mapper] = {BEGIN: begin, END: lambda _: begin(GOOD)}
    interceptor = ValidatorInterceptor(guard=given.guard(), services=[TASKS], calls=calls)
    server = grpc.aio.server(interceptors=[interceptor])
    task_pb2_grpc.add_TaskServiceServicer_to_server(given.service, server)
    pair = [(given.server.private_key, given.server.certificate_chain)]
    credentials = grpc.ssl_server_credentials(pair, pem(given.domain.bundle), require_client_auth=True)
    given.port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    assert (await ask(given, bearer(given.token()), method=END, content=b"")).code is grpc.StatusCode.OK
    assert given.service.handled == [CREDENTIAL]
    await server.stop(None)


async def test_a6_a_stolen_token_is_refused_for_its_key() -> None:
    async with serving(world()) as given:
        thief = given.domain.svid("/agent/thief")
        stolen = given.token()
        own = given.token(thief, agent="spiffe://example.org/agent/thief")
        assert (await ask(given, bearer(own), svid=thief)).code is grpc.StatusCode.OK
        answer = await ask(given, bearer(stolen), svid=thief)
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_HOLDER_MISMATCH")
        assert answer.domain == "broker.v1"
        assert answer.sentence == Reason.TOKEN_HOLDER_MISMATCH.meaning.sentence
        assert given.service.handled == [CREDENTIAL]


async def test_a_token_of_another_agent_for_the_callers_key_is_refused() -> None:
    async with serving(world()) as given:
        assert (await ask(given, bearer(given.token()))).code is grpc.StatusCode.OK
        forged = given.token(agent="spiffe://example.org/agent/other")
        assert (await ask(given, bearer(forged))).reason == "TOKEN_HOLDER_MISMATCH"
        assert given.service.handled == [CREDENTIAL]


HEADERS = {
    "none": ([], "TOKEN_MISSING"),
    "empty": ([("authorization", "")], "TOKEN_MALFORMED"),
    "basic": ([("authorization", "Basic Zm9vOmJhcg==")], "TOKEN_MALFORMED"),
    "no-token": ([("authorization", "Bearer ")], "TOKEN_MALFORMED"),
    "only-scheme": ([("authorization", "Bearer")], "TOKEN_MALFORMED"),
    "garbage": (bearer("garbage"), "TOKEN_MALFORMED"),
    "two-blanks": ([("authorization", "Bearer  {}")], "TOKEN_MALFORMED"),
    "twice": ([("authorization", "Bearer {}"), ("authorization", "Bearer {}")], "TOKEN_MALFORMED"),
    "other-header": ([("x-authorization", "Bearer {}")], "TOKEN_MISSING"),
}


@pytest.mark.parametrize(("metadata", "reason"), HEADERS.values(), ids=HEADERS.keys())
async def test_a_call_without_one_bearer_token_is_refused(metadata: list[tuple[str, str]], reason: str) -> None:
    async with serving(world()) as given:
        filled = [(name, value.replace("{}", given.token())) for name, value in metadata]
        answer = await ask(given, filled)
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
        assert not given.service.handled


REFUSED = grpc.StatusCode.PERMISSION_DENIED
REQUESTS = {
    "other-resource": (
        task_pb2.BeginTaskRequest(purpose="9", tenant="retail", conversation="1"),
        "TOKEN_SCOPE_EXCEEDED",
    ),
    "too-much": (
        task_pb2.BeginTaskRequest(purpose="1234", tenant="retail", conversation="5001"),
        "TOKEN_SCOPE_EXCEEDED",
    ),
    "tenant": (task_pb2.BeginTaskRequest(purpose="1234", tenant="other", conversation="1"), "TOKEN_TENANT_MISMATCH"),
    "mapping-fails": (task_pb2.BeginTaskRequest(purpose="1234", tenant="retail", conversation="x"), "CALL_UNMAPPED"),
}


@pytest.mark.parametrize(("request_", "reason"), REQUESTS.values(), ids=REQUESTS.keys())
async def test_a_call_that_is_not_covered_is_refused(request_: task_pb2.BeginTaskRequest, reason: str) -> None:
    async with serving(world()) as given:
        answer = await ask(given, bearer(given.token()), content=request_.SerializeToString())
        assert (answer.code, answer.reason) == (REFUSED, reason)
        assert not given.service.handled
        assert (await ask(given, bearer(given.token()))).code is grpc.StatusCode.OK


async def test_bytes_that_are_no_request_are_refused_and_only_looked_at_with_a_credential() -> None:
    async with serving(world()) as given:
        answer = await ask(given, bearer(given.token()), content=b"\xff\xff\xff")
        assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")
        assert (await ask(given, [], content=b"\xff\xff\xff")).reason == "TOKEN_MISSING"


async def test_a_mapping_may_refuse_and_runs_only_with_a_credential() -> None:
    async with serving(world()) as given:
        answer = await ask(given, bearer(given.token()), method=END, content=b"")
        assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_UNKNOWN")
        assert (await ask(given, bearer("x"), method=END, content=b"")).reason == "TOKEN_MALFORMED"


async def test_what_is_revoked_while_the_mapping_looks_up_is_refused() -> None:
    given = world()

    def mapper(request: task_pb2.BeginTaskRequest) -> Awaitable[Call]:
        async def look_up() -> Call:
            given.hear(7)
            return begin(request)

        return look_up()

    async with serving(given, mapper):
        assert (await ask(given, bearer(given.token(status_index=8)))).code is grpc.StatusCode.OK
        given.hear()
        answer = await ask(given, bearer(given.token(status_index=7)))
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")


async def test_an_old_view_refuses_for_now_and_names_the_bound() -> None:
    for entry, seconds, bound in (
        (begin, 4, "the bound for writes, 4 s"),
        (reads(begin), 10, "the bound for reads, 10 s"),
        (writes(begin), 4, "the bound for writes, 4 s"),
        (high_impact(begin), 2, "the bound for high-impact calls, 2.5 s"),
        (Mapped(mapper=begin, within=timedelta(seconds=1)), 1, "this call's own bound, 1 s"),
    ):
        given = world()
        async with serving(given, entry):
            text, heard = given.token(), given.now
            given.now = heard + timedelta(seconds=seconds)
            assert (await ask(given, bearer(text))).code is grpc.StatusCode.OK
            given.now = heard + timedelta(seconds=seconds + 1)
            answer = await ask(given, bearer(text))
            assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "VIEW_STALE")
            assert answer.bound == bound
            given.hear()
            assert (await ask(given, bearer(text))).code is grpc.StatusCode.OK


async def test_an_svid_that_expires_during_a_connection_is_refused() -> None:
    given = world()
    brief = given.domain.svid("/agent/support", ttl=timedelta(minutes=1))
    async with serving(given), given.channel(brief) as channel:
        stub = task_pb2_grpc.TaskServiceStub(channel)
        await stub.BeginTask(GOOD, metadata=tuple(bearer(given.token(brief))))
        text = given.token(brief)
        given.now += timedelta(minutes=1)
        given.hear()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.BeginTask(GOOD, metadata=tuple(bearer(text)))
        assert (read(refused.value).code, read(refused.value).reason) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "SVID_EXPIRED",
        )


async def test_a_removed_bundle_refuses_on_an_open_connection() -> None:
    given = world()
    trusted = [given.domain.bundles(epoch=1)]
    text = given.token()
    given.bundles = lambda: trusted[-1]  # type: ignore[method-assign]
    async with serving(given), given.channel() as channel:
        stub = task_pb2_grpc.TaskServiceStub(channel)
        await stub.BeginTask(GOOD, metadata=tuple(bearer(text)))
        trusted.append(TrustDomain(name="other.example").bundles(epoch=2))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.BeginTask(GOOD, metadata=tuple(bearer(text)))
    assert read(refused.value).reason == "SVID_TRUST_DOMAIN_UNKNOWN"


async def test_a_defect_refuses_without_telling() -> None:
    given = world()

    def broken() -> TrustBundles:
        raise RuntimeError("canary")

    given.bundles, text = broken, given.token()  # type: ignore[method-assign]
    async with serving(given):
        answer = await ask(given, bearer(text))
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "INTERNAL")
        assert "canary" not in answer.details


async def test_without_tls_nobody_is_anybody() -> None:
    given = world()
    interceptor = ValidatorInterceptor(guard=given.guard(), services=[TASKS], calls={BEGIN: begin, END: end})
    server = grpc.aio.server(interceptors=[interceptor])
    task_pb2_grpc.add_TaskServiceServicer_to_server(given.service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await task_pb2_grpc.TaskServiceStub(channel).BeginTask(GOOD, metadata=tuple(bearer(given.token())))
    assert read(refused.value).reason == "TLS_VERSION_REFUSED"
    await server.stop(None)


# --- the mapping ----------------------------------------------------------------------------------------------------


def test_a_method_without_mapping_does_not_start() -> None:
    ValidatorInterceptor(guard=world().guard(), services=[TASKS], calls={BEGIN: begin, END: end})
    with pytest.raises(MappingError, match=rf"without a mapping: {END}"):
        ValidatorInterceptor(guard=world().guard(), services=[TASKS], calls={BEGIN: begin})


def test_a_mapping_without_method_does_not_start() -> None:
    with pytest.raises(MappingError, match=r"/broker.v1.TaskService/Begin"):
        ValidatorInterceptor(
            guard=world().guard(), services=[TASKS], calls={BEGIN: begin, END: end, "/broker.v1.TaskService/Begin": end}
        )


def test_a_streaming_method_does_not_start() -> None:
    names = [f"/broker.v1.RevocationService/{method.name}" for method in REVOCATIONS.methods]
    with pytest.raises(MappingError, match=r"streaming.*SubscribeRevocations"):
        ValidatorInterceptor(guard=world().guard(), services=[REVOCATIONS], calls=dict.fromkeys(names, end))


HEALTH = "/grpc.health.v1.Health/Check"


async def test_what_is_open_to_anybody_is_so_by_its_full_name_alone() -> None:
    async def check(_: bytes, __: object) -> bytes:
        return b"\x08\x01"

    handlers: dict[str, Any] = {
        "Check": grpc.unary_unary_rpc_method_handler(check),
        "List": grpc.unary_unary_rpc_method_handler(check),
    }
    generic = grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)
    async with serving(world(), extra=[generic], open_to=[HEALTH]) as given:
        assert (await ask(given, [], method=HEALTH)).code is grpc.StatusCode.OK
        assert (await ask(given, [], method="/grpc.health.v1.Health/List")).reason == "CALL_UNMAPPED"
        assert (await ask(given, [])).reason == "TOKEN_MISSING"
    async with serving(world(), extra=[generic]) as given:
        assert (await ask(given, [], method=HEALTH)).reason == "CALL_UNMAPPED"


OPEN: dict[str, tuple[Any, str]] = {
    "text": (HEALTH, "not one text"),
    "wildcard": (["/grpc.health.v1.Health/*"], "not a full method name"),
    "service": (["grpc.health.v1.Health"], "not a full method name"),
    "no-slash": (["grpc.health.v1.Health/Check"], "not a full method name"),
    "empty": ([""], "not a full method name"),
    "mapped-too": ([BEGIN], "both mapped and open"),
}


@pytest.mark.parametrize(("open_to", "told"), OPEN.values(), ids=OPEN.keys())
def test_nothing_is_open_by_accident(open_to: Any, told: str) -> None:
    calls: dict[str, Entry] = {BEGIN: begin, END: end}
    ValidatorInterceptor(guard=world().guard(), services=[TASKS], calls=calls, open_to=[HEALTH])
    with pytest.raises(MappingError, match=told):
        ValidatorInterceptor(guard=world().guard(), services=[TASKS], calls=calls, open_to=open_to)


def test_a_method_that_is_open_to_anybody_needs_no_mapping() -> None:
    ValidatorInterceptor(guard=world().guard(), services=[TASKS], calls={BEGIN: begin}, open_to=[END])


async def test_a_service_that_was_not_named_at_the_start_is_refused_at_run_time() -> None:
    reached: list[str] = []

    async def unary(_: bytes, __: object) -> bytes:
        reached.append("unary")
        return b""

    async def stream(_: object, __: object) -> AsyncIterator[bytes]:
        reached.append("stream")
        yield b""

    handlers: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Down": grpc.unary_stream_rpc_method_handler(stream),
        "Up": grpc.stream_unary_rpc_method_handler(unary),
        "Both": grpc.stream_stream_rpc_method_handler(stream),
    }
    generic = grpc.method_handlers_generic_handler("other.Service", handlers)
    async with serving(world(), extra=[generic]) as given, given.channel() as channel:
        metadata = tuple(bearer(given.token()))

        async def messages() -> AsyncIterator[bytes]:
            yield b"x"

        reasons = []
        untyped: Any = channel
        for call in (
            untyped.unary_unary("/other.Service/Unary")(b"", metadata=metadata),
            untyped.stream_unary("/other.Service/Up")(messages(), metadata=metadata),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            reasons.append(read(refused.value).reason)
        for streamed in (
            untyped.unary_stream("/other.Service/Down")(b"", metadata=metadata),
            untyped.stream_stream("/other.Service/Both")(messages(), metadata=metadata),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await streamed.read()
            reasons.append(read(refused.value).reason)
        assert reasons == ["CALL_UNMAPPED"] * 4
        assert not reached
        assert (await ask(given, bearer(given.token()), method="/other.Service/None")).code is (
            grpc.StatusCode.UNIMPLEMENTED
        )
