"""Exchange over loopback: what is answered, what is refused, what is bounded."""

import asyncio
import json

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from broker.errors import Reason, Refusal
from broker.v1 import exchange_pb2, exchange_pb2_grpc, types_pb2
from tests.polling import eventually
from tests.server.world import ORDERS, World, old_tls, open_world, request, tasks, told, until

EXCHANGE = "/broker.v1.ExchangeService/Exchange"


def stub(world: World) -> "exchange_pb2_grpc.ExchangeServiceAsyncStub":
    return exchange_pb2_grpc.ExchangeServiceStub(world.channel())


async def send(world: World, raw: bytes) -> bytes:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = world.channel().unary_unary(EXCHANGE)
    return await call(raw, timeout=60)


async def test_a_permitted_intent_gives_a_credential(world: World) -> None:
    asked = request(parameters='{"b":1,"a":"x"}')
    asked.request_id = "mine"
    asked.lifetime.seconds = 60
    given = (await stub(world).Exchange(asked, timeout=60)).credential
    (call,) = world.issuer.calls
    assert not isinstance(call.intent, Refusal)  # type: ignore[attr-defined]
    assert call.request_id == "mine"  # type: ignore[attr-defined]
    assert call.lifetime.total_seconds() == 60  # type: ignore[attr-defined]
    assert given.token.startswith("secret-token-of.")
    assert given.intent_digest == call.intent.digest()  # type: ignore[attr-defined]
    (detail,) = json.loads(given.authorization_details)
    assert (detail["actions"], detail["locations"], detail["identifier"]) == (["order.read"], [ORDERS], "1234")
    assert list(given.policy_ids) == ["orders", "base"]


async def test_neither_token_nor_request_is_logged(world: World) -> None:
    await stub(world).Exchange(request(parameters='{"note":"canary-parameter"}'), timeout=60)
    await until(lambda: world.log.entries)
    (line,) = world.log.entries
    assert (line["event"], line["method"], line["status"]) == ("call", EXCHANGE, "OK")
    assert line["request"].startswith("req_")
    written = repr(world.log.entries)
    for secret in ("secret-token-of", "canary-parameter", "127.0.0.1", "1234", world.agent.id):
        assert secret not in written


MALFORMED = {
    "garbage": b"\xff\xff\xff",
    "truncated": request().SerializeToString()[:-3],
    "invalid UTF-8": b"\x1a\x02\xff\xfe",
    "nested too deep": b"\x0b" * 10_000,
    "unknown field": request().SerializeToString() + b"\xf8\x7f\x01",
    "unknown field within": exchange_pb2.ExchangeRequest(
        intent=types_pb2.Intent.FromString(request().intent.SerializeToString() + b"\xf8\x7f\x01")
    ).SerializeToString(),
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_does_not_decode_is_refused_and_recorded(world: World, raw: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(world, raw)
    answer = told(caught.value)
    assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")
    (recorded,) = world.issuer.refused
    assert (recorded.operation, recorded.refusal.reason) == ("exchange", Reason.REQUEST_MALFORMED)
    await send(world, request().SerializeToString())  # the same connection kind, a good message


INVALID = {
    "no intent": (exchange_pb2.ExchangeRequest(), "intent: required"),
    "no action": (request(action=""), "intent.action"),
    "action too long": (request(action="a" * 129), "intent.action"),
    "no resource": (request(resource=None), "intent.resource: required"),
    "neither id nor set": (request(resource=types_pb2.Resource(type="order")), "intent.resource.which"),
    "id too long": (request(resource=types_pb2.Resource(type="order", id="1" * 257)), "intent.resource.id"),
    "parameters too long": (request(parameters='{"a":"' + "x" * 32768 + '"}'), "intent.parameters"),
    "level unknown": (request(sensitivity=9), "intent.sensitivity"),
    "on_behalf_of too long": (request(on_behalf_of="é" * 129), "intent.on_behalf_of"),
    "lifetime zero": (exchange_pb2.ExchangeRequest(intent=request().intent, lifetime=Duration()), "lifetime"),
    "lifetime negative": (
        exchange_pb2.ExchangeRequest(intent=request().intent, lifetime=Duration(seconds=-1)),
        "lifetime",
    ),
    "lifetime too long": (
        exchange_pb2.ExchangeRequest(intent=request().intent, lifetime=Duration(seconds=86401)),
        "lifetime",
    ),
    "request id too long": (exchange_pb2.ExchangeRequest(intent=request().intent, request_id="r" * 65), "request_id"),
}


@pytest.mark.parametrize(("asked", "where"), INVALID.values(), ids=INVALID.keys())
async def test_what_breaks_a_rule_of_the_proto_is_refused_with_its_field(
    world: World, asked: exchange_pb2.ExchangeRequest, where: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(world).Exchange(asked, timeout=60)
    answer = told(caught.value)
    assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")
    assert answer.metadata["detail"].startswith(where)
    (call,) = world.issuer.calls  # the issuer records it, in the caller's name
    assert call.intent.reason is Reason.REQUEST_INVALID  # type: ignore[attr-defined]


REFUSED_INTENTS = {
    "action with a wildcard": (request(action="order.*"), Reason.INTENT_NAME_INVALID),
    "purpose in capitals": (request(purpose="Support"), Reason.INTENT_NAME_INVALID),
    "audience not a SPIFFE ID": (request(audience="https://example.org"), Reason.INTENT_NAME_INVALID),
    "set with a wildcard": (request(resource=types_pb2.Resource(type="order", set="*")), Reason.INTENT_NAME_INVALID),
    "id with a newline": (
        request(resource=types_pb2.Resource(type="order", id="1\n2")),
        Reason.INTENT_RESOURCE_INVALID,
    ),
    "parameters not JSON": (request(parameters="{"), Reason.INTENT_PARAMETERS_SYNTAX),
    "parameters a list": (request(parameters="[1]"), Reason.INTENT_PARAMETERS_SYNTAX),
    "a float": (request(parameters='{"a":1.5}'), Reason.INTENT_PARAMETERS_NUMBER),
    "null": (request(parameters='{"a":null}'), Reason.INTENT_PARAMETERS_NULL),
    "a key twice": (request(parameters='{"a":1,"a":2}'), Reason.INTENT_PARAMETERS_DUPLICATE),
    "too deep": (request(parameters='{"a":' + "[" * 17 + "]" * 17 + "}"), Reason.INTENT_PARAMETERS_SIZE),
    "a lone surrogate": (request(parameters='{"a":"\\ud800"}'), Reason.INTENT_PARAMETERS_TEXT),
    "task that cannot be": (request(task_id="task_1"), Reason.TASK_UNKNOWN),
}


@pytest.mark.parametrize(("asked", "reason"), REFUSED_INTENTS.values(), ids=REFUSED_INTENTS.keys())
async def test_an_intent_without_one_meaning_goes_to_the_issuer_as_its_refusal(
    world: World, asked: exchange_pb2.ExchangeRequest, reason: Reason
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(world).Exchange(asked, timeout=60)
    assert told(caught.value).reason == reason.name
    (call,) = world.issuer.calls
    assert call.intent.reason is reason  # type: ignore[attr-defined]


async def test_a_stranger_is_refused_as_such_whatever_he_sends(world: World) -> None:
    """Authentication comes before everything else, so that the event names nobody who was not proven."""
    forged = world.domain.svid("spiffe://other.org/agent")
    for raw in (b"\xff", request().SerializeToString(), request(action="").SerializeToString()):
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = world.channel(forged).unary_unary(EXCHANGE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(raw, timeout=60)
        answer = told(caught.value)
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAUTHENTICATED, "SVID_TRUST_DOMAIN_UNKNOWN")


async def test_tls_1_2_is_refused_on_every_call(world: World) -> None:
    async with old_tls(world) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exchange_pb2_grpc.ExchangeServiceStub(channel).Exchange(request(), timeout=60)
    answer = told(caught.value)
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TLS_VERSION_REFUSED")
    await stub(world).Exchange(request(), timeout=60)  # TLS 1.3, the same SVID


async def test_intermediates_reach_the_issuer(world: World) -> None:
    channel = world.channel(world.domain.svid("/deep", depth=2))
    await exchange_pb2_grpc.ExchangeServiceStub(channel).Exchange(request(), timeout=60)
    (call,) = world.issuer.calls
    assert call.context.evidence.chain.count(b"BEGIN CERTIFICATE") == 2  # type: ignore[attr-defined]
    assert call.context.evidence.leaf.count(b"BEGIN CERTIFICATE") == 1  # type: ignore[attr-defined]


async def test_a_defect_is_told_by_the_request_id_alone(world: World) -> None:
    world.issuer.defect = RuntimeError("canary in an exception")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(world).Exchange(request(), timeout=60)
    answer = told(caught.value)
    assert (answer.code, answer.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "canary" not in answer.everything
    defect = next(line for line in world.log.entries if line["event"] == "defect")
    assert defect["request"] == answer.metadata["request"]
    assert defect["exc_info"]


async def test_an_issuer_that_does_not_answer_is_waited_for_so_long() -> None:
    async with open_world(call=0.1) as world:
        world.issuer.hold = asyncio.Event()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(_wait(stub(world), 60), 60)
        answer = told(caught.value)
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "ISSUER_UNAVAILABLE")
        assert world.issuer.finished == 0
        world.issuer.hold.set()
        await until(lambda: world.issuer.finished == 1)  # given up waiting for, not ended


async def test_the_callers_deadline_is_kept_with_a_reason(world: World) -> None:
    world.issuer.hold = asyncio.Event()

    async def with_a_reason() -> bool:
        """Which a busy machine may bring too late, once or twice; without a margin it comes too late always."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub(world).Exchange(request(), timeout=1)
        return told(caught.value).reason == "ISSUER_UNAVAILABLE"

    assert await eventually(with_a_reason)
    world.issuer.hold.set()


async def test_a_caller_that_goes_away_ends_nothing_in_the_issuer(world: World) -> None:
    exchanges = stub(world)
    await exchanges.Exchange(request(), timeout=60)
    before = tasks()
    world.issuer.hold = asyncio.Event()
    call = exchanges.Exchange(request(), timeout=30)
    await until(lambda: len(world.issuer.groups) == 2)
    call.cancel()
    await until(lambda: world.counters.calls.get(f"{EXCHANGE} CANCELLED"))
    world.issuer.hold.set()
    await until(lambda: world.issuer.finished == 2)
    await until(lambda: not tasks() - before)


async def test_more_open_questions_than_allowed_are_refused() -> None:
    async with open_world(calls=2) as world:
        world.issuer.hold = asyncio.Event()
        exchanges = stub(world)
        waiting = [asyncio.ensure_future(_wait(exchanges)) for _ in range(2)]
        await until(lambda: len(world.issuer.groups) == 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exchanges.Exchange(request(), timeout=60)
        assert told(caught.value).reason == "LIMIT_BUSY"
        world.issuer.hold.set()
        await asyncio.gather(*waiting)
        await exchanges.Exchange(request(), timeout=60)


async def _wait(exchanges: "exchange_pb2_grpc.ExchangeServiceAsyncStub", deadline: float = 60) -> None:
    await exchanges.Exchange(request(), timeout=deadline)


TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
TRACEPARENTS = {
    "one": (((("traceparent", f"00-{TRACE}-{SPAN}-01")),), TRACE),
    "none": ((), ""),
    "garbage": ((("traceparent", "zzz; drop table"),), ""),
    "eight kibibytes": ((("traceparent", "0" * 8000),), ""),
    "binary": ((("traceparent-bin", b"\x00\xff"),), ""),
}


@pytest.mark.parametrize(("metadata", "trace"), TRACEPARENTS.values(), ids=TRACEPARENTS.keys())
async def test_whatever_the_traceparent_the_call_is_served(
    world: World, metadata: tuple[tuple[str, str | bytes], ...], trace: str
) -> None:
    await stub(world).Exchange(request(), timeout=60, metadata=metadata)
    (call,) = world.issuer.calls
    assert call.context.trace == trace  # type: ignore[attr-defined]
