"""Restarts of either side, with the real broker: no revocation is ever missed, and nothing is accepted in between."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from broker.errors import Reason, Refusal
from broker.intent import Resource
from broker.svid.authenticate import Authenticator
from broker.svid.spiffe_id import SpiffeId
from broker.validator import Bounds, Call, Validation, open_validator
from tests.attacks.entrances import exchange, request, revoke
from tests.attacks.house import House, open_house
from tests.operations.world import ORDERS, SECURITY, SUPPORT
from tests.polling import eventually

ISSUER = "https://broker.example.org"
CALL = Call(action="order.read", resource=Resource(type="order", id="1234"), tenant="retail")
PATIENT = Bounds.same(timedelta(minutes=5))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


@asynccontextmanager
async def service(house: House, bounds: Bounds = PATIENT) -> AsyncIterator[Validation]:
    """Start the service's side, as a process that knows nothing yet."""
    channel = house.channel(house.svid(ORDERS))
    async with open_validator(channel=channel, issuer=ISSUER, audience=ORDERS, bounds=bounds) as validation:
        yield validation
    await channel.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A credential, and whose it is."""

    token: str
    credential_id: str
    thumbprint: str

    def told(self, validation: Validation) -> Reason | None:
        """Return why the service refuses it, None when it does not."""
        now = datetime.now(UTC)
        try:
            validation.validator.check(self.token, CALL, caller_thumbprint=self.thumbprint, now=now)
        except Refusal as refusal:
            return refusal.reason
        return None


async def given(house: House) -> Given:
    svid = house.svid(SUPPORT)
    channel: grpc.aio.Channel = house.channel(svid)
    credential = (await exchange(channel, request())).credential
    await channel.close()
    own = Authenticator(own_id=SpiffeId.parse(ORDERS))
    caller = own.authenticate(svid.evidence(), house.identity.bundles(), datetime.now(UTC))
    return Given(token=credential.token, credential_id=credential.credential_id, thumbprint=caller.thumbprint)


async def end(house: House, credential: Given) -> None:
    channel = house.channel(house.svid(SECURITY))
    await revoke(channel, credential_id=credential.credential_id)
    await channel.close()


async def heard(validation: Validation, credential: Given) -> None:
    async def refused() -> bool:
        return credential.told(validation) is Reason.TOKEN_REVOKED

    await eventually(refused)


async def test_a_service_that_starts_again_knows_what_was_revoked_while_it_was_away(house: House) -> None:
    before, between, kept = [await given(house) for _ in range(3)]
    async with service(house) as validation:
        await validation.feed.ready()
        await end(house, before)
        await heard(validation, before)
    await end(house, between)
    async with service(house) as validation:
        assert {each.told(validation) for each in (before, between, kept)} == {Reason.VIEW_STALE}  # nothing known yet
        await validation.feed.ready()
        told = [each.told(validation) for each in (before, between, kept)]
        assert told == [Reason.TOKEN_REVOKED, Reason.TOKEN_REVOKED, None]


async def test_both_sides_start_again_one_after_the_other(house: House) -> None:
    first, second, third, kept = [await given(house) for _ in range(4)]
    async with service(house) as validation:
        await validation.feed.ready()
        await end(house, first)
        await heard(validation, first)
        await house.restart()
        await end(house, second)
        assert first.told(validation) is Reason.TOKEN_REVOKED  # not forgotten while the feed is away
        await heard(validation, second)
    await house.restart()
    async with service(house) as validation:
        await validation.feed.ready()
        await end(house, third)
        await heard(validation, third)
        told = [each.told(validation) for each in (first, second, third, kept)]
        assert told == [Reason.TOKEN_REVOKED] * 3 + [None]


async def test_many_services_come_back_from_where_they_were(house: House) -> None:
    """Each from its own cursor; a view that was dropped would be seen as refused in between."""
    ended, kept = await given(house), await given(house)
    async with service(house) as one, service(house) as two, service(house) as three:
        services = (one, two, three)
        for each in services:
            await each.feed.ready()
        await house.restart()
        await end(house, ended)
        for each in services:
            await heard(each, ended)
            assert kept.told(each) is None
