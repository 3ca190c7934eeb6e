"""Keys that change under load: no credential that counts is refused, and one by a stolen key is, everywhere.

The full minute, a rotation of each ring every second:

    ROTATIONS=60 .venv/bin/python -m pytest -s --timeout=0 tests/validator/test_key_rotation.py
"""

import asyncio
import json
import os
from base64 import urlsafe_b64decode
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from broker.audit.checkpoint import VerifierKey
from broker.audit.verify import LoggedEntry, verify_log
from broker.errors import Reason, Refusal
from broker.intent import Resource
from broker.svid.authenticate import Authenticator
from broker.svid.spiffe_id import SpiffeId
from broker.v1 import keys_pb2, types_pb2
from broker.validator import Bounds, Call, Validation, open_validator
from tests.attacks.entrances import checkpoint, exchange, key_set, list_keys, request, rotate_keys
from tests.attacks.house import House, open_house
from tests.operations.world import ORDERS, SECURITY, SUPPORT, WHOLESALE
from tests.polling import eventually

ISSUER = "https://broker.example.org"
TENANTS = {SUPPORT: "retail", WHOLESALE: "wholesale"}
EACH_SECOND = 'rotate_every = "PT1S"\nrotate_checkpoints_every = "PT1S"\npublish_ahead = "PT0.9S"'
# No older than this may a service's view be: less than a key is published before it signs.
BOUND = Bounds.same(timedelta(seconds=0.9))
ROTATIONS = int(os.environ.get("ROTATIONS", "15"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A credential, whose it is, and when it ends."""

    agent: str
    token: str
    thumbprint: str
    ends: datetime

    @property
    def kid(self) -> str:
        return str(json.loads(urlsafe_b64decode(self.token.partition(".")[0] + "=="))["kid"])

    def told(self, validation: Validation, now: datetime | None = None) -> Reason | None:
        """Return why the service refuses it, None when it does not."""
        call = Call(action="order.read", resource=Resource(type="order", id="1234"), tenant=TENANTS[self.agent])
        now = now or datetime.now(UTC)
        try:
            validation.validator.check(self.token, call, caller_thumbprint=self.thumbprint, now=now)
        except Refusal as refusal:
            return refusal.reason
        return None


@dataclass(kw_only=True)
class Agent:
    """An agent with a connection of its own."""

    agent: str
    channel: grpc.aio.Channel
    thumbprint: str

    @classmethod
    def of(cls, house: House, agent: str) -> "Agent":
        svid = house.svid(agent)
        own = Authenticator(own_id=SpiffeId.parse(ORDERS))
        caller = own.authenticate(svid.evidence(), house.identity.bundles(), datetime.now(UTC))
        return cls(agent=agent, channel=house.channel(svid), thumbprint=caller.thumbprint)

    async def ask(self, *, lifetime: int = 60) -> Given:
        asked = request()
        asked.lifetime.CopyFrom(Duration(seconds=lifetime))
        credential: types_pb2.Credential = (await exchange(self.channel, asked)).credential
        ends = credential.expires_at.ToDatetime(tzinfo=UTC)
        return Given(agent=self.agent, token=credential.token, thumbprint=self.thumbprint, ends=ends)


@asynccontextmanager
async def service(house: House, bounds: Bounds) -> AsyncIterator[tuple[Validation, grpc.aio.Channel]]:
    """Start a service's side, and wait until it knows what counts."""
    channel = house.channel(house.svid(ORDERS))
    async with open_validator(channel=channel, issuer=ISSUER, audience=ORDERS, bounds=bounds) as validation:
        await validation.feed.ready()
        yield validation, channel
    await channel.close()


@dataclass(kw_only=True)
class Load:
    """Agents that ask and call without a pause, and what their calls were told."""

    services: list[Validation]
    told: Counter[str] = field(default_factory=Counter)
    kids: set[str] = field(default_factory=set)
    over: bool = False

    async def run(self, agent: Agent) -> None:
        held: deque[Given] = deque(maxlen=50)
        while not self.over:
            given = await agent.ask(lifetime=5)
            self.kids.add(given.kid)
            held.append(given)
            for each in held:
                for validation in self.services:
                    self.call(each, validation)
            await asyncio.sleep(0)

    def call(self, given: Given, validation: Validation) -> None:
        """Call, unless the credential is just ending by itself."""
        now = datetime.now(UTC)
        if given.ends - now > timedelta(seconds=0.5):
            told = given.told(validation, now)
            self.told["accepted" if told is None else told.name] += 1


async def rotations(house: House) -> Counter[str]:
    """Return how often a key of each use began to sign, by the log."""
    return Counter(
        event["use"] for event in await house.log() if event["type"] == "key.changed" and event["state"] == "current"
    )


@pytest.mark.timeout(60 + 20 * ROTATIONS)
async def test_keys_change_each_second_under_load_and_no_credential_that_counts_is_refused() -> None:
    async with open_house(keys=EACH_SECOND) as house, service(house, BOUND) as one, service(house, BOUND) as two:
        first_key = (await key_set(house.good(ORDERS))).key_set.checkpoint_key
        load = Load(services=[one[0], two[0]])
        agents = [Agent.of(house, agent) for agent in (SUPPORT, SUPPORT, WHOLESALE)]
        running = [asyncio.create_task(load.run(agent)) for agent in agents]
        begun = await rotations(house)

        async def rotated() -> bool:
            for task in running:
                if task.done():
                    await task
            enough = min((await rotations(house) - begun).values(), default=0) >= ROTATIONS
            return enough and load.told["accepted"] > load.told["VIEW_STALE"]

        await eventually(rotated, within=20.0 * ROTATIONS)
        load.over = True
        await asyncio.gather(*running)
        for agent in agents:
            await agent.channel.close()
        print(f"{ROTATIONS} rotations: {dict(load.told)}, by {len(load.kids)} keys")  # noqa: T201
        # A service that had no word from the broker for so long says so, of all that it is shown: that is the machine's
        # doing, and no word on the credential.
        stale = load.told.pop("VIEW_STALE", 0)
        assert list(load.told) == ["accepted"]
        assert load.told["accepted"] > stale
        assert len(load.kids) >= ROTATIONS // 2
        await verified(house, first_key)
        published = json.loads((await key_set(house.good(ORDERS))).key_set.jwks)["keys"]
        assert len(published) < ROTATIONS, "keys whose credentials are over are gone"


async def verified(house: House, first_key: str) -> None:
    """An auditor who holds nothing but the first checkpoint key verifies the whole log by the newest checkpoint."""
    note = (await checkpoint(house.good(SECURITY))).checkpoint.note
    log = [LoggedEntry(position=event["position"], content=event["content"]) for event in await house.log()]
    anchor = VerifierKey.parse(first_key)
    report = verify_log(log, pinned=[note], key=anchor)
    assert report.fault is None
    assert report.vouched > len(log) // 2
    assert note not in {first_key, ""}
    newest = (await key_set(house.good(ORDERS))).key_set.checkpoint_key
    assert newest != first_key


# --- emergencies ---------------------------------------------------------------------------------------------------


async def signing(house: House) -> str:
    """Return the kid of the key that signs tokens."""
    found = (await list_keys(house.good(SECURITY))).keys
    wanted = (keys_pb2.KEY_USE_TOKENS, keys_pb2.KEY_STATE_CURRENT)
    return str(next(key.kid for key in found if (key.use, key.state) == wanted))


async def steal(house: House) -> Any:
    """Let the key that signs count no more."""
    return await rotate_keys(house.good(SECURITY), emergency_kid=await signing(house), reason="the disk was read")


async def becomes(given: Given, validation: Validation, reason: Reason | None) -> None:
    async def told() -> bool:
        return given.told(validation) is reason

    await eventually(told)


PATIENT = Bounds.same(timedelta(minutes=10))
IMPATIENT = Bounds.same(timedelta(seconds=3))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


async def test_a_stolen_key_is_refused_at_once_by_every_service_that_follows() -> None:
    """Neither heartbeat nor staleness comes in time: it is the change of the keys itself that tells them."""
    async with (
        open_house(heartbeat="PT10M") as house,
        service(house, PATIENT) as (one, _),
        service(house, PATIENT) as (two, _),
    ):
        agent = Agent.of(house, SUPPORT)
        old = [await agent.ask() for _ in range(3)]
        assert [each.told(validation) for each in old for validation in (one, two)] == [None] * 6
        changed = await steal(house)
        for validation in (one, two):
            await becomes(old[0], validation, Reason.TOKEN_KEY_UNKNOWN)
        assert {each.told(validation) for each in old for validation in (one, two)} == {Reason.TOKEN_KEY_UNKNOWN}
        new = await agent.ask()
        assert new.kid == changed.kid
        assert (new.told(one), new.told(two)) == (None, None)
        await agent.channel.close()


async def test_a_service_that_is_cut_off_refuses_by_its_own_bound(house: House) -> None:
    agent = Agent.of(house, SUPPORT)
    async with service(house, IMPATIENT) as (cut_off, line), service(house, IMPATIENT) as (follows, _):
        old = await agent.ask()
        await becomes(old, cut_off, None)
        await becomes(old, follows, None)
        await line.close()
        await steal(house)
        await becomes(old, follows, Reason.TOKEN_KEY_UNKNOWN)
        await becomes(old, cut_off, Reason.VIEW_STALE)
        new = await agent.ask()
        assert new.told(cut_off) is Reason.VIEW_STALE
        await becomes(new, follows, None)
    await agent.channel.close()


async def test_a_stolen_key_stays_refused_when_both_sides_start_again(house: House) -> None:
    agent = Agent.of(house, SUPPORT)
    old = await agent.ask()
    async with service(house, PATIENT) as (follows, _):
        changed = await steal(house)
        await becomes(old, follows, Reason.TOKEN_KEY_UNKNOWN)
        await house.restart()
        assert old.told(follows) is Reason.TOKEN_KEY_UNKNOWN
        async with service(house, PATIENT) as (anew, _):
            assert old.told(anew) is Reason.TOKEN_KEY_UNKNOWN
            new = await agent.ask()
            assert new.kid == changed.kid
            assert new.told(anew) is None
            await becomes(new, follows, None)
        assert old.told(follows) is Reason.TOKEN_KEY_UNKNOWN
    await agent.channel.close()
