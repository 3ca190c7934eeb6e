"""Streams end when what let them open ends, with a reason and one event; their cursors serve whoever may read on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.v1 import exchange_pb2_grpc
from tests.attacks.entrances import (
    Outcome,
    audit,
    exchange,
    failure,
    first,
    items,
    lift,
    outcome,
    request,
    revocations,
    revoke,
)
from tests.attacks.house import AUDITOR, INVOICES, PARTNER_AUDITOR, House
from tests.operations.world import COURIER, SECURITY, SUPPORT
from tests.polling import eventually

WITHIN = 60.0  # bounds a failure only
LIVES = (3, 10, 40)  # seconds that an SVID is good for: the streams are opened before it is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One kind of stream, of one reader.

    Attributes:
        name: for the test's id.
        who: reads.
        open: opens it, at a cursor.
        resumes: whether it has cursors.

    """

    name: str
    who: str
    open: Callable[[grpc.aio.Channel, str], Any]
    resumes: bool = True


def follow_audit(channel: grpc.aio.Channel, cursor: str) -> Any:
    return audit(channel, cursor, follow=True, timeout=None)


def follow_revocations(channel: grpc.aio.Channel, cursor: str) -> Any:
    return revocations(channel, cursor, timeout=None)


def converse(channel: grpc.aio.Channel, _: str) -> Any:
    return exchange_pb2_grpc.ExchangeServiceStub(channel).ExchangeStream()


def watch_health(channel: grpc.aio.Channel, _: str) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its stubs declare no methods
    return stub.Watch(health_pb2.HealthCheckRequest())


def streams(agent: str, service: str, operator: str) -> tuple[Stream, ...]:
    return (
        Stream(name="ExchangeStream", who=agent, open=converse, resumes=False),
        Stream(name="SubscribeRevocations-agent", who=agent, open=follow_revocations),
        Stream(name="SubscribeRevocations-service", who=service, open=follow_revocations),
        Stream(name="SubscribeAudit", who=operator, open=follow_audit),
        Stream(name="Health.Watch", who=agent, open=watch_health, resumes=False),
    )


@dataclass(kw_only=True)
class Open:
    """A stream that is being read, until it ends."""

    call: Any
    cursor: str = ""
    reached: int = 0
    messages: int = 0

    async def begin(self, purpose: str) -> None:
        """Have the stream do something, so that it is known to be open."""
        if hasattr(self.call, "write"):
            await self.call.write(items(request(purpose=purpose)))
        await self.take_one()

    async def take_one(self) -> None:
        """Read the next message."""
        self._take(await asyncio.wait_for(self.call.read(), WITHIN))

    async def end(self) -> Outcome:
        """Read to the end; say how it ended. An end without a refusal is none."""
        try:
            async with asyncio.timeout(WITHIN):
                while (message := await self.call.read()) is not grpc.aio.EOF:
                    self._take(message)
        except grpc.aio.AioRpcError as error:
            return failure(error)
        raise AssertionError("it ended well")

    def _take(self, message: Any) -> None:
        assert message is not grpc.aio.EOF
        self.messages += 1
        if hasattr(message, "cursor"):
            assert self.messages == 1 or message.from_position == self.reached
            self.cursor, self.reached = message.cursor, message.to_position


async def ended(house: House, told: Outcome, reason: str) -> None:
    """For the reason, with one event of it."""
    assert told.reason == reason, told
    (event,) = [event for event in await house.recorded(told.request) if "reason" in event]
    assert event["reason"] == reason


async def read_on(house: House, stream: Stream, opened: Open) -> None:
    """The cursor, in the hands of the same reader in good standing: it goes on where it was."""
    if stream.resumes:
        channel = house.channel(house.svid(stream.who))
        message = await first(stream.open(channel, opened.cursor))
        assert message.from_position == opened.reached
        await channel.close()


PURPOSES = {COURIER: "delivery"}


async def open_all(house: House, wanted: tuple[Stream, ...], **form: Any) -> list[tuple[Stream, Open]]:
    """Open these streams, each on a connection of its own."""
    found = []
    for stream in wanted:
        opened = Open(call=stream.open(house.channel(house.svid(stream.who, **form)), ""))
        await opened.begin(PURPOSES.get(stream.who, "customer-support"))
        found.append((stream, opened))
    return found


async def open_in_time(house: House, wanted: tuple[Stream, ...]) -> tuple[datetime, list[tuple[Stream, Open]]]:
    """Open these streams by SVIDs that end soon, but not before all are open; return when the first of them ends."""
    for seconds in LIVES:
        over = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
        try:
            return over, await open_all(house, wanted, ttl=timedelta(seconds=seconds))
        except (AssertionError, grpc.aio.AioRpcError):
            if datetime.now(UTC) < over:
                raise
    raise AssertionError(f"not all are open in {LIVES[-1]} s")


async def test_f2_streams_end_with_the_svid_they_were_opened_with(house: House) -> None:
    over, opened = await open_in_time(house, streams(SUPPORT, INVOICES, AUDITOR))

    async def timed(each: Open) -> tuple[Outcome, datetime]:
        return await each.end(), datetime.now(UTC)

    told = await asyncio.gather(*(timed(each) for _, each in opened))
    for (stream, each), (how, when) in zip(opened, told, strict=True):
        await ended(house, how, "SVID_EXPIRED")
        assert over <= when, stream.name
        await read_on(house, stream, each)


async def test_f2_streams_end_with_the_trust_in_their_readers_domain(own_house: House) -> None:
    house = own_house
    wanted = tuple(each for each in streams(COURIER, "", PARTNER_AUDITOR) if each.who)
    opened = await open_all(house, wanted)
    control = (await open_all(house, streams(SUPPORT, INVOICES, AUDITOR)[3:4]))[0][1]
    house.trust()
    for _, each in opened:
        how = await each.end()
        await ended(house, how, "SVID_TRUST_DOMAIN_UNKNOWN")
    seen = control.messages
    await control.take_one()  # the neighbour's goes on
    assert control.messages > seen
    house.trust(house.partner)

    async def back() -> bool:
        return not (await outcome(exchange(channel, request(purpose="delivery")))).reason

    channel = house.channel(house.svid(COURIER))
    await eventually(back)
    for stream, each in opened:
        await read_on(house, stream, each)


FORBIDDING = """
@id("no-courier")
forbid (principal == Agent::"{agent}", action == Action::"broker.revocations.follow", resource);
@id("no-invoices")
forbid (principal == Service::"{service}", action == Action::"broker.revocations.follow", resource);
@id("no-auditor")
forbid (principal == Operator::"{operator}", action == Action::"broker.audit.read", resource);
"""


async def test_streams_end_when_a_bundle_takes_their_right_away(own_house: House) -> None:
    house = own_house
    wanted = streams(COURIER, INVOICES, AUDITOR)[1:4]
    opened = await open_all(house, wanted)
    extra = FORBIDDING.format(agent=COURIER, service=INVOICES, operator=AUDITOR)
    await house.policy(lambda _: {"extra.cedar": extra})
    for stream, each in opened:
        how = await each.end()
        assert how.code is grpc.StatusCode.PERMISSION_DENIED, stream.name
        assert how.metadata["policy_ids"] in ("no-courier", "no-invoices", "no-auditor")
        await ended(house, how, "POLICY_FORBIDDEN")
    await house.policy(lambda _: {"extra.cedar": None})
    for stream, each in opened:
        await read_on(house, stream, each)


async def test_streams_end_when_a_bundle_no_longer_knows_their_reader(own_house: House) -> None:
    house = own_house
    opened = await open_all(house, streams(COURIER, INVOICES, AUDITOR)[2:4])
    whole = (house.settings.policy.dir / "entities.toml").read_text()
    await house.policy(
        lambda texts: {
            "entities.toml": texts["entities.toml"].replace(INVOICES, INVOICES + "2").replace(AUDITOR, AUDITOR + "2")
        }
    )
    for _, each in opened:
        await ended(house, await each.end(), "PRINCIPAL_UNKNOWN")
    await house.policy(lambda _: {"entities.toml": whole})
    for stream, each in opened:
        await read_on(house, stream, each)


async def test_streams_end_when_their_reader_is_revoked(own_house: House) -> None:
    house = own_house
    wanted = streams(COURIER, INVOICES, AUDITOR)[:2]
    (_, talk), (stream, each) = await open_all(house, wanted)
    neighbour = (await open_all(house, streams(SUPPORT, INVOICES, AUDITOR)[1:2]))[0][1]
    revoked = await revoke(house.good(SECURITY), agent=COURIER)
    await ended(house, await each.end(), "AGENT_REVOKED")
    # A conversation goes on, as the proto says; what is asked in it is refused one by one.
    assert await said(talk) == "AGENT_REVOKED"
    await neighbour.take_one()
    await lift(house.good(SECURITY), revoked.revocation_id)
    assert await said(talk) == ""
    await read_on(house, stream, each)


async def said(talk: Open) -> str:
    """Ask once more in a conversation; return the reason of the refusal, or nothing."""

    async def ask() -> Any:
        await talk.call.write(items(request(purpose="delivery")))
        (item,) = (await talk.call.read()).items
        return item

    return (await outcome(ask())).reason
