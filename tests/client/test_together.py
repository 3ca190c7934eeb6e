"""Several exchanges at once: together over one stream, each with its own answer, deadline and end."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from broker.client import Credential, Denied, Session, Unreachable
from broker.client.exchanging import Conversation
from broker.errors import Reason, Refusal
from broker.issuer.port import ExchangeAnswer, ExchangeCall
from tests.fakes.issuer import FakeIssuer
from tests.server.supply import INTENT, Supply, session_with
from tests.server.world import World, until

UNARY = "/broker.v1.ExchangeService/Exchange"
STREAM = "/broker.v1.ExchangeService/ExchangeStream"


def asked(world: World) -> list[ExchangeCall]:
    return [call for call in world.issuer.calls if isinstance(call, ExchangeCall)]


def order(number: int) -> dict[str, Any]:
    return INTENT | {"resource": ("order", str(number))}


async def held(world: World, session: Session) -> asyncio.Event:
    """Open the stream, then let the issuer wait."""
    await asyncio.gather(*await many(session, 2))
    world.issuer.groups.clear()
    world.issuer.calls.clear()
    world.issuer.hold = asyncio.Event()
    return world.issuer.hold


def conversation(session: Session) -> Conversation:
    """The stream that is open."""
    (generation,) = session._generations._generations.values()
    found = generation.exchanges._conversation
    assert found is not None
    return found


async def many(session: Session, count: int) -> list[asyncio.Task[Credential]]:
    """Ask for many, and let each begin."""
    asking = [asyncio.ensure_future(session.exchange(**order(number))) for number in range(count)]
    await asyncio.sleep(0)
    return asking


async def test_one_after_the_other_each_goes_alone(world: World, session: Session) -> None:
    for number in range(3):
        await session.exchange(**order(number))
    assert world.issuer.groups == [1, 1, 1]
    await until(lambda: sum(n for name, n in world.counters.calls.items() if name.startswith(f"{UNARY} ")) == 3)


async def test_many_at_once_go_over_one_stream_each_with_its_own(world: World, session: Session) -> None:
    credentials = await asyncio.gather(*await many(session, 300))
    for number, credential in enumerate(credentials):
        assert credential.authorization_details[0]["identifier"] == str(number)
    assert len({call.request_id for call in asked(world)}) == len(asked(world)) == 300
    assert sum(n for name, n in world.counters.calls.items() if name.startswith(f"{UNARY} ")) == 1
    assert max(world.issuer.groups) > 1


async def test_a_refusal_is_one_items(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FakeIssuer._decide

    def odd(issuer: FakeIssuer, call: ExchangeCall) -> ExchangeAnswer:
        answer = real(issuer, call)
        refused = not isinstance(call.intent, Refusal) and int(call.intent.resource.id) % 2
        return Refusal(Reason.POLICY_FORBIDDEN, policy_ids=("p",)) if refused else answer

    monkeypatch.setattr(FakeIssuer, "_decide", odd)
    answers = await asyncio.gather(*await many(session, 20), return_exceptions=True)
    assert [isinstance(each, Denied) for each in answers] == [bool(number % 2) for number in range(20)]
    assert isinstance(answers[3], Denied)
    assert (answers[3].reason, answers[3].policy_ids) == (Reason.POLICY_FORBIDDEN, ("p",))


async def test_who_is_cancelled_harms_nobody(world: World, session: Session) -> None:
    hold = await held(world, session)
    asking = await many(session, 10)
    await until(lambda: len(world.issuer.groups) > 1)
    for each in asking[1::2]:
        each.cancel()
    late = asyncio.ensure_future(session.exchange(**order(99)))
    hold.set()
    answers = await asyncio.gather(*asking, late, return_exceptions=True)
    assert not conversation(session).over
    assert [isinstance(each, asyncio.CancelledError) for each in answers] == [*[False, True] * 5, False]


async def test_a_stream_that_dies_is_asked_again_under_the_same_ids(world: World, session: Session) -> None:
    hold = await held(world, session)
    asking = await many(session, 6)
    await until(lambda: len(world.issuer.groups) > 1)
    stream = conversation(session)
    stream._call.cancel()  # as a connection that breaks
    await until(lambda: stream.over)
    hold.set()
    await asyncio.gather(*asking)
    ids = [call.request_id for call in asked(world)]
    assert len(set(ids)) == 6
    assert len(ids) > 6
    assert len({call.intent.digest() for call in asked(world) if not isinstance(call.intent, Refusal)}) == 6
    await asyncio.gather(*await many(session, 3))


async def test_an_unavailable_item_is_asked_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FakeIssuer.exchange
    failed: list[int] = []

    async def failing(issuer: FakeIssuer, calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        answers = await real(issuer, calls)
        if failed:
            return answers
        failed.append(len(calls))
        return [Refusal(Reason.AUDIT_UNAVAILABLE) for _ in calls]

    monkeypatch.setattr(FakeIssuer, "exchange", failing)
    await asyncio.gather(*await many(session, 5))
    assert failed


async def test_each_has_its_deadline(world: World, supply: Supply) -> None:
    session = session_with(world, supply, deadline=4)
    hold = await held(world, session)
    answers = await asyncio.wait_for(asyncio.gather(*await many(session, 5), return_exceptions=True), 60)
    assert all(isinstance(each, Unreachable) for each in answers)
    hold.set()
    await asyncio.gather(*await many(session, 5))
    await session.close()


async def test_a_new_svid_has_a_stream_of_its_own(world: World, session: Session, supply: Supply) -> None:
    await asyncio.gather(*await many(session, 5))
    supply.svid = world.domain.svid("/agent", ttl=timedelta(minutes=5))
    credentials = await asyncio.gather(*await many(session, 5))
    assert {credential.thumbprint for credential in credentials} == {supply.identity().thumbprint}
    leaves = [call.context.evidence.leaf for call in asked(world)]
    assert leaves == [world.agent.leaf_pem] * 5 + [supply.svid.leaf_pem] * 5
