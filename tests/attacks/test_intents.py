"""Intents over the wire, alone and in a stream: one meaning or a refusal, never a crash (threats.md C1 to C4, G2)."""

import json
from itertools import count
from typing import Any, cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from broker.errors import Reason
from broker.server.limits import Limits
from broker.v1 import exchange_pb2, types_pb2
from tests.attacks.entrances import BY_NAME, UNSAID, Entrance, at_every_entrance, items, request
from tests.attacks.house import House
from tests.attacks.raw import PATHS, ask, intent, number, send, text
from tests.attacks.test_svids import of_one, refused_once
from tests.operations.world import ORDERS, SUPPORT
from tests.unit.test_intent import ACCEPTED, BAD_NAMES, REFUSED

both_ways = pytest.mark.parametrize("way", ["Exchange", "ExchangeStream"])
INVALID = Reason.REQUEST_INVALID
MALFORMED = Reason.REQUEST_MALFORMED
_attackers = count()


async def refused(house: House, way: str, content: Any, reason: Reason) -> None:
    """Refused with its reason and exactly one event, in the name of who asked; who is new, so that none is spared."""
    who = f"spiffe://example.org/attacker/{next(_attackers)}"
    channel = house.channel(house.svid(who))
    told = await ask(channel, way, content)
    await channel.close()
    assert told.reason == reason.name, told
    assert told.answer is None
    (event,) = await house.recorded(told.request)
    assert (event["type"][-8:], event["reason"], event["spiffe_id"]) == (".refused", reason.name, who)
    assert (await ask(house.good(SUPPORT), way, request())).code is grpc.StatusCode.OK


def wire_reason(value: str, reason: Reason) -> Reason:
    """The proto's own bounds come first where they are as strict."""
    return INVALID if len(value.encode()) > 32768 else reason


PARAMETERS = [
    pytest.param(value, wire_reason(value, reason), id=row.id)
    for row in REFUSED
    for value, reason in [cast(tuple[str, Reason], row.values)]
    if row.id != "C1-raw-surrogate"  # no protobuf carries it as text; as bytes it is a row below
]


@both_ways
@pytest.mark.parametrize(("value", "reason"), PARAMETERS)
async def test_parameters_without_one_meaning(house: House, way: str, value: str, reason: Reason) -> None:
    await refused(house, way, request(parameters=value), reason)


@both_ways
@pytest.mark.parametrize(("value", "meaning"), ACCEPTED)
async def test_parameters_with_one_meaning_reach_policy(house: House, way: str, value: str, meaning: Any) -> None:
    """The control: they are understood; what the schema of the action does not know, policy refuses."""
    told = await ask(house.good(SUPPORT), way, request(parameters=value))
    assert told.reason == ("PARAMETERS_REFUSED" if meaning else "")


NAMES: list[Any] = [
    pytest.param(field, row.values[0], INVALID if row.id in ("empty", "too-long") else Reason.INTENT_NAME_INVALID,
                 id=f"{field}-{row.id}")
    for field in ("action", "purpose", "type", "set")
    for row in BAD_NAMES
]  # fmt: skip
OTHER_TEXT = [
    pytest.param("id", "1\n2", Reason.INTENT_RESOURCE_INVALID, id="C4-id-newline"),
    pytest.param("id", "\u202e4321", Reason.INTENT_RESOURCE_INVALID, id="B5-id-right-to-left"),
    pytest.param("id", "1\x00", Reason.INTENT_RESOURCE_INVALID, id="C4-id-nul"),
    pytest.param("id", "12\u200b34", Reason.INTENT_RESOURCE_INVALID, id="C2-id-zero-width"),
    pytest.param("id", "é" * 129, INVALID, id="id-too-long"),
    pytest.param("id", "", INVALID, id="id-empty"),
    pytest.param("audience", "*", Reason.INTENT_NAME_INVALID, id="C4-audience-star"),
    pytest.param("audience", "spiffe://example.org/service/*", Reason.INTENT_NAME_INVALID, id="C4-audience-wildcard"),
    pytest.param("audience", ORDERS + "\n", Reason.INTENT_NAME_INVALID, id="C4-audience-newline"),
    pytest.param("audience", "spiffe://EXAMPLE.org/service/orders", Reason.INTENT_NAME_INVALID, id="C2-audience-case"),
    pytest.param("audience", "spiffe://example.org/a" + "a" * 2048, INVALID, id="audience-too-long"),
    pytest.param("task_id", "*", Reason.TASK_UNKNOWN, id="C4-task-star"),
    pytest.param("task_id", "task_%", Reason.TASK_UNKNOWN, id="C4-task-sql"),
    pytest.param("task_id", "' or 1=1 --", Reason.TASK_UNKNOWN, id="C4-task-quote"),
    pytest.param("on_behalf_of", "a\nb", Reason.INTENT_NAME_INVALID, id="C4-behalf-newline"),
    pytest.param("on_behalf_of", "x" * 257, INVALID, id="behalf-too-long"),
]


def with_text(field: str, value: str) -> exchange_pb2.ExchangeRequest:
    if field in ("type", "id", "set"):
        base = {"type": "order"} | ({"id": "1"} if field == "type" else {})
        return request(resource=types_pb2.Resource(**(base | {field: value})))
    return request(**{field: value})


@both_ways
@pytest.mark.parametrize(("field", "value", "reason"), NAMES + OTHER_TEXT)
async def test_text_that_could_be_read_as_a_rule_or_as_other_text(
    house: House, way: str, field: str, value: str, reason: Reason
) -> None:
    await refused(house, way, with_text(field, value), reason)


LITERAL = [
    *(
        "*",
        "1*",
        "%",
        "_",
        "?order",
        "1 ",
        "../wholesale/1",
        "wholesale/1234",
        '1" || true || "',
        'Order::"wholesale/1"',
    ),
    *("\u00e9", "e\u0301", "K", "\u212a"),
]


@both_ways
@pytest.mark.parametrize("value", LITERAL, ids=[ascii(value) for value in LITERAL])
async def test_c4_an_id_is_itself_and_no_pattern(house: House, way: str, value: str) -> None:
    """It opens the one thing of that very name, in the caller's own tenant."""
    told = await ask(house.good(SUPPORT), way, with_text("id", value))
    (detail,) = json.loads(told.answer.authorization_details)
    assert detail["identifier"] == value
    assert told.answer.tenant == "retail"
    (event,) = [event for event in await house.log() if event.get("credential") == told.answer.credential_id]
    assert event["intent"]["resource"] == {"type": "order", "id": value}


UNKNOWN_ELSEWHERE = [
    pytest.param({"action": "order"}, "ACTION_UNKNOWN", id="D2-prefix-of-an-action"),
    pytest.param({"action": "order.readx"}, "ACTION_UNKNOWN", id="D2-longer-action"),
    pytest.param({"purpose": "customer"}, "PURPOSE_REFUSED", id="D2-prefix-of-a-purpose"),
    pytest.param({"audience": ORDERS + "/x"}, "AUDIENCE_UNKNOWN", id="D2-below-the-audience"),
    pytest.param({"audience": ORDERS[:-1]}, "AUDIENCE_UNKNOWN", id="D2-prefix-of-the-audience"),
    pytest.param({"resource": types_pb2.Resource(type="orders", id="1")}, "RESOURCE_TYPE_UNKNOWN", id="D2-longer-type"),
]


@both_ways
@pytest.mark.parametrize(("changes", "reason"), UNKNOWN_ELSEWHERE)
async def test_d2_names_match_whole(house: House, way: str, changes: dict[str, Any], reason: str) -> None:
    assert (await ask(house.good(SUPPORT), way, request(**changes))).reason == reason


GOOD_INTENT = request().intent.SerializeToString()
RAW = [
    pytest.param(intent(GOOD_INTENT) + number(99, 1), MALFORMED, id="C3-unknown-field"),
    pytest.param(intent(GOOD_INTENT + text(99, b"x")), MALFORMED, id="C3-unknown-field-of-the-intent"),
    pytest.param(intent(GOOD_INTENT + text(2, number(9, 1))), MALFORMED, id="C3-unknown-field-of-the-resource"),
    pytest.param(intent(GOOD_INTENT) + text(2, number(1, 60) + number(3, 1)), MALFORMED, id="C3-unknown-in-duration"),
    pytest.param(intent(GOOD_INTENT + number(1, 1)), MALFORMED, id="C3-text-as-number"),
    pytest.param(intent(GOOD_INTENT + text(8, b"\x03")), MALFORMED, id="C3-enum-as-text"),
    pytest.param(intent(GOOD_INTENT + text(1, b"\xff")), MALFORMED, id="C2-invalid-utf-8-action"),
    pytest.param(intent(GOOD_INTENT + text(3, b'{"a":"\xed\xa0\x80"}')), MALFORMED, id="C1-raw-surrogate"),
    pytest.param(intent(GOOD_INTENT + text(7, b"\xc0\xaf")), MALFORMED, id="C2-overlong-utf-8-behalf"),
    pytest.param(intent(GOOD_INTENT) + text(3, b"\xfe"), MALFORMED, id="C2-invalid-utf-8-request-id"),
    pytest.param(intent(GOOD_INTENT)[:-1], MALFORMED, id="G2-truncated"),
    pytest.param(intent(GOOD_INTENT) + b"\x0b", MALFORMED, id="G2-group-without-end"),
    pytest.param(intent(GOOD_INTENT) + b"\x00", MALFORMED, id="G2-field-number-0"),
    pytest.param(intent(GOOD_INTENT + b"\xa3\x06" * 5000), MALFORMED, id="G2-depth-5000"),
    pytest.param(b"", INVALID, id="no-intent"),
    pytest.param(intent(b""), INVALID, id="empty-intent"),
    pytest.param(intent(GOOD_INTENT + number(8, 99)), INVALID, id="C3-enum-undefined"),
    pytest.param(intent(GOOD_INTENT + number(9, -1)), INVALID, id="C3-enum-negative"),
    pytest.param(intent(GOOD_INTENT) + text(3, b"r" * 65), INVALID, id="request-id-too-long"),
    pytest.param(request(resource=types_pb2.Resource(type="order")), INVALID, id="neither-id-nor-set"),
]
LIFETIMES = {
    "negative": Duration(seconds=-1),
    "zero": Duration(),
    "half": Duration(nanos=500_000_000),
    "signs-differ": Duration(seconds=1, nanos=-1),
    "a-day-and-a-bit": Duration(seconds=86400, nanos=1),
    "largest": Duration(seconds=2**63 - 1, nanos=2**31 - 1),
    "smallest": Duration(seconds=-(2**63), nanos=-(2**31)),
}


@both_ways
@pytest.mark.parametrize(("content", "reason"), RAW)
async def test_bytes_that_are_no_exchange(house: House, way: str, content: Any, reason: Reason) -> None:
    await refused(house, way, content, reason)


@both_ways
@pytest.mark.parametrize(
    "lifetime",
    [
        *(pytest.param(lifetime, id=name) for name, lifetime in LIFETIMES.items()),
        pytest.param(Duration(seconds=60, nanos=2_000_000_000), id="nanos-too-many"),
        pytest.param(Duration(seconds=-1, nanos=2**31 - 1), id="nanos-against-seconds"),
    ],
)
async def test_a_lifetime_out_of_bounds(house: House, way: str, lifetime: Duration) -> None:
    asked = request()
    asked.lifetime.CopyFrom(lifetime)
    await refused(house, way, asked, INVALID)


TWICE = [
    pytest.param(text(1, b"order.cancel"), "TASK_REQUIRED", id="action"),
    pytest.param(text(4, b"curiosity"), "PURPOSE_REFUSED", id="purpose"),
    pytest.param(text(2, text(3, b"open-orders")), "RESOURCE_SET_REFUSED", id="resource-id-then-set"),
    pytest.param(text(2, text(1, b"customer")), "RESOURCE_TYPE_UNKNOWN", id="resource-type"),
]


@both_ways
@pytest.mark.parametrize(("again", "reason"), TWICE)
async def test_c3_a_field_that_stands_twice_has_one_meaning(house: House, way: str, again: bytes, reason: str) -> None:
    """Its last value, for policy and log alike."""
    told = await ask(house.good(SUPPORT), way, intent(GOOD_INTENT + again))
    assert told.reason == reason, told
    told = await ask(house.good(SUPPORT), way, intent(again + GOOD_INTENT))
    assert told.reason == "", told
    (detail,) = json.loads(told.answer.authorization_details)
    assert (detail["identifier"], detail["actions"]) == ("1234", ["order.read"])


GARBAGE = {"ff": b"\xff", "truncated": text(1, b"xyz")[:-1], "unknown-field": text(1000, b"x"), "number-0": b"\x00"}


@at_every_entrance
@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
async def test_undecodable_bytes_at_every_entrance(house: House, content: bytes, entrance: Entrance) -> None:
    """Who sent them is asked first: a stranger is told just that, and only who is known that nobody can read it."""
    async with house.wire(house.svid(entrance.who, by=house.partner)) as wire:
        await refused_once(house, await send(wire.channel, PATHS[entrance.name], content), Reason.SVID_CHAIN_INVALID)
    who = f"spiffe://example.org/attacker/{next(_attackers)}"
    async with house.wire(house.svid(who)) as wire:
        told = await send(wire.channel, PATHS[entrance.name], content)
        assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")
        (event,) = await house.recorded(told.request)
        assert (event["reason"], event["spiffe_id"]) == ("REQUEST_MALFORMED", who)


@pytest.mark.parametrize("entrance", [BY_NAME[name] for name in ("Exchange", "ExchangeStream", "SubscribeAudit")])
async def test_g2_what_is_too_large_reaches_nobody(house: House, entrance: Entrance) -> None:
    channel = house.channel(house.svid(entrance.who))
    await entrance(channel)
    events = await of_one(house)
    for content, metadata in ((b"x" * (Limits().message + 1), ()), (b"", (("x", "y" * 17_000),))):
        told = await send(channel, PATHS[entrance.name], content, metadata=metadata)
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, UNSAID)
    assert await of_one(house) == events
    assert (await entrance(channel)).reason == entrance.control  # the same connection goes on
    await channel.close()


async def test_a_message_of_too_many_items(house: House) -> None:
    path = PATHS["ExchangeStream"]
    told = await send(house.good(SUPPORT), path, items(*[request()] * 257).SerializeToString())
    assert told.reason == "LIMIT_STREAM_ITEMS"
    (event,) = await house.recorded(told.request)
    assert event["reason"] == "LIMIT_STREAM_ITEMS"
    told = await send(house.good(SUPPORT), path, b"")
    assert told.reason == "REQUEST_INVALID"
    told = await send(house.good(SUPPORT), path, items(*[request()] * 256).SerializeToString())
    assert len(exchange_pb2.ExchangeStreamResponse.FromString(told.answer).items) == 256


async def test_neighbours_of_a_bad_item_are_served(house: House) -> None:
    """One message: a bad item, a refused one, and a good one under the same number."""
    bad, refused_one = request(action="*"), request(purpose="curiosity")
    message = items(bad, refused_one, request())
    for item in message.items:
        item.correlation = 2**64 - 1
    told = await send(house.good(SUPPORT), PATHS["ExchangeStream"], message.SerializeToString())
    answers = exchange_pb2.ExchangeStreamResponse.FromString(told.answer).items
    assert sorted(str(item.WhichOneof("outcome")) for item in answers) == ["credential", "refusal", "refusal"]
    assert {item.correlation for item in answers} == {2**64 - 1}
