"""Keys over the wire: who may not see or change them does not, and nothing that is sent leaves the rings unclear."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from broker.v1 import keys_pb2
from tests.attacks.entrances import key_set, list_keys, outcome, rotate_keys
from tests.attacks.house import AUDITOR, INVOICES, PARTNER_AUDITOR, House
from tests.operations.world import COURIER, ORDERS, RETAIL_DESK, SECURITY, SUPPORT

TOKENS = keys_pb2.KEY_USE_TOKENS

Ask = Callable[[grpc.aio.Channel, str], Any]
ASKS: dict[str, Ask] = {
    "list": lambda to, _: list_keys(to),
    "rotate": lambda to, _: rotate_keys(to, use=TOKENS),
    "emergency": lambda to, kid: rotate_keys(to, emergency_kid=kid, reason="mine"),
    "emergency-of-no-key": lambda to, _: rotate_keys(to, emergency_kid="none", reason="mine"),
}
STRANGERS = {
    "agent": (SUPPORT, "TENANT_REFUSED"),
    "agent-of-a-partner": (COURIER, "TENANT_REFUSED"),
    "service": (ORDERS, "TENANT_REFUSED"),
    "another-service": (INVOICES, "TENANT_REFUSED"),
    "operator-of-one-tenant": (RETAIL_DESK, "TENANT_REFUSED"),
    "nobody": ("spiffe://example.org/operator/nobody", "PRINCIPAL_UNKNOWN"),
}


async def rings(house: House) -> list[tuple[int, int, str]]:
    found = (await list_keys(house.good(SECURITY))).keys
    return [(key.use, key.state, key.kid) for key in found]


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize(("who", "reason"), STRANGERS.values(), ids=STRANGERS)
async def test_a_stranger_is_refused_with_one_event_whatever_is_named(
    house: House, who: str, reason: str, ask: Ask
) -> None:
    before = await rings(house)
    channel = house.channel(house.svid(who))
    told = await outcome(ask(channel, before[0][2]))
    await channel.close()
    assert told.reason == reason
    events = await house.recorded(told.request)
    assert [event["reason"] for event in events] == [reason]
    assert before[0][2] not in told.everything
    assert await rings(house) == before


@pytest.mark.parametrize("who", [AUDITOR, PARTNER_AUDITOR])
async def test_whoever_policy_lets_in_is_served(house: House, who: str) -> None:
    channel = house.channel(house.svid(who))
    assert len((await list_keys(channel)).keys) >= 4
    assert (await outcome(ASKS["emergency-of-no-key"](channel, ""))).reason == "KEY_UNKNOWN"
    await channel.close()


GARBAGE: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "REQUEST_INVALID"),
    "use-unspecified": ({"use": 0}, "REQUEST_INVALID"),
    "use-unknown": ({"use": 3}, "REQUEST_INVALID"),
    "empty-kid": ({"emergency_kid": "", "reason": "r"}, "REQUEST_INVALID"),
    "huge-kid": ({"emergency_kid": "k" * 65, "reason": "r"}, "REQUEST_INVALID"),
    "path-for-a-kid": ({"emergency_kid": "../../etc/passwd", "reason": "r"}, "KEY_UNKNOWN"),
    "sql-for-a-kid": ({"emergency_kid": "' OR 1=1 --", "reason": "r"}, "KEY_UNKNOWN"),
    "no-reason": ({"emergency_kid": "k"}, "REQUEST_INVALID"),
    "blank-reason": ({"emergency_kid": "k", "reason": "\u2003\n\t"}, "REQUEST_INVALID"),
    "huge-reason": ({"use": TOKENS, "reason": "r" * 1025}, "REQUEST_INVALID"),
    "huge-reason-in-bytes": ({"use": TOKENS, "reason": "\u202e" * 342}, "REQUEST_INVALID"),
    "huge-request-id": ({"use": TOKENS, "request_id": "r" * 65}, "REQUEST_INVALID"),
}


@pytest.mark.parametrize(("fields", "reason"), GARBAGE.values(), ids=GARBAGE)
async def test_garbage_is_refused_with_one_event_and_changes_nothing(
    house: House, fields: dict[str, Any], reason: str
) -> None:
    before = await rings(house)
    told = await outcome(rotate_keys(house.good(SECURITY), **fields))
    assert told.reason == reason
    assert [event["reason"] for event in await house.recorded(told.request)] == [reason]
    assert await rings(house) == before


async def test_a_reason_that_would_deceive_a_reader_is_kept_to_itself(own_house: House) -> None:
    """Nothing of it stands in the event or in the answer; its opening gives it as it was sent."""
    house, text = own_house, "\u202egnirts desrever\u202c"
    kid = (await rings(house))[0][2]
    answer = await rotate_keys(house.good(SECURITY), emergency_kid=kid, reason=text)
    assert text not in str(answer)
    (event,) = [event for event in await house.log() if event["type"] == "keys.rotated"]
    assert event["opened"]["text"] == text
    assert b"gnirts" not in event["content"]


async def test_twenty_emergencies_at_once_take_one_key_away_once(own_house: House) -> None:
    house = own_house
    channels = [house.channel(house.svid(SECURITY)) for _ in range(4)]
    kid = (await rings(house))[0][2]
    asked = [outcome(rotate_keys(channels[n % 4], emergency_kid=kid, reason=f"{n}")) for n in range(20)]
    told = [each.reason for each in await asyncio.gather(*asked)]
    assert sorted(told) == ["", *["KEY_UNKNOWN"] * 19]
    after = await rings(house)
    for use in (keys_pb2.KEY_USE_TOKENS, keys_pb2.KEY_USE_CHECKPOINTS):
        states = [state for its_use, state, _ in after if its_use == use]
        assert states == [keys_pb2.KEY_STATE_CURRENT, keys_pb2.KEY_STATE_NEXT]
    assert kid not in (await key_set(house.good(ORDERS))).key_set.jwks
    for channel in channels:
        await channel.close()


async def test_the_same_request_at_once_from_several_lines_is_done_once(own_house: House) -> None:
    house = own_house
    channels = [house.channel(house.svid(SECURITY)) for _ in range(4)]
    kid = (await rings(house))[0][2]
    answers = await asyncio.gather(
        *(rotate_keys(channel, emergency_kid=kid, reason="stolen", request_id="one") for channel in channels * 3)
    )
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
    assert len([event for event in await house.log() if event["type"] == "keys.rotated"]) == 1
    stranger = house.channel(house.svid(AUDITOR))
    told = await outcome(rotate_keys(stranger, emergency_kid=kid, reason="stolen", request_id="one"))
    assert told.reason == "KEY_UNKNOWN", "another operator's request id is another request"
    for channel in (*channels, stranger):
        await channel.close()
