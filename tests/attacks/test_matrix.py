"""Every entrance holds every caller to the same rules (A10): who is unknown, who was revoked, whose SVID has ended."""

import re
from itertools import count

import grpc
import pytest

from tests.attacks.entrances import ENTRANCES, Entrance, at_every_entrance, lift, revoke
from tests.attacks.house import House
from tests.attacks.test_overrides import BEFORE_ACT, HEALTH, REQUESTS, ask
from tests.operations.world import SECURITY, SUPPORT

_strangers = count()
# Whoever authenticates may ask whether exchanges are served; it gives nothing, and knows nobody.
TOKEN = re.compile(r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+")
OPEN_TO_ALL = {"Health.Check", "Health.Watch"}


def test_the_entrances_are_all_that_there_are() -> None:
    assert {name.split("/")[1] for name in REQUESTS} <= {entrance.name for entrance in ENTRANCES}


@at_every_entrance
async def test_a10_who_is_not_in_the_bundle_gets_nothing_anywhere(house: House, entrance: Entrance) -> None:
    """A good SVID of a trusted domain, under a name that nobody has registered: known to SPIRE is not allowed in."""
    who = f"spiffe://example.org/stranger/{next(_strangers)}"
    given = len([event for event in await house.log() if event["type"] == "credential.granted"])
    async with house.wire(house.svid(who)) as wire:
        told = await entrance(wire.channel)
    if entrance.name in OPEN_TO_ALL:
        assert told.code is grpc.StatusCode.OK
    else:
        assert told.code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND), told
        assert told.answer is None
        (event,) = await house.recorded(told.request)
        assert (event["reason"], event["spiffe_id"]) == (told.reason, who)
    assert len([event for event in await house.log() if event["type"] == "credential.granted"]) == given
    assert (await entrance(house.good(entrance.who))).reason == entrance.control


async def test_a10_a_revoked_agent_gets_nothing_anywhere(own_house: House) -> None:
    house = own_house
    revocation = (await revoke(house.good(SECURITY), agent=SUPPORT)).revocation_id
    for name in REQUESTS | HEALTH:
        told = await ask(house.good(SUPPORT), name)
        assert (name, told.code, told.reason) == (name, grpc.StatusCode.PERMISSION_DENIED, "AGENT_REVOKED")
    counted = [event for event in await house.log() if event.get("reason") == "AGENT_REVOKED"]
    assert counted
    assert {event["spiffe_id"] for event in counted} == {SUPPORT}
    await lift(house.good(SECURITY), revocation)
    for name in REQUESTS | HEALTH:
        assert (await ask(house.good(SUPPORT), name)).reason != "AGENT_REVOKED"
    assert BEFORE_ACT  # what is stopped, at each of them: test_overrides.py


@pytest.mark.parametrize("name", sorted(REQUESTS))
async def test_a10_no_entrance_shows_a_token_but_the_exchanges(house: House, name: str) -> None:
    """What gives credentials is two RPCs; no other answer holds anything that looks like a token."""
    told = await ask(house.good(SUPPORT), name)
    shown = str(told.answer) + told.everything
    gives = name in ("ExchangeService/Exchange", "ExchangeService/ExchangeStream")
    assert bool(TOKEN.search(shown)) is gives
