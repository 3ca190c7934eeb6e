"""SIGKILL while a credential is being spent: it is or it is not, and the service that asks again is told the same."""

import pytest

from tests.faults.facts import Facts
from tests.faults.ledger import differences
from tests.faults.points import Point
from tests.faults.spawned import Spawned
from tests.faults.test_crash import CHANGE, NO_ANSWER
from tests.polling import eventually

KEY, ANOTHER = "the-key-of-one-attempt", "the-key-of-the-next-one"
POINTS = [Point.ISSUER_RECEIVED, Point.DECIDED, *CHANGE, Point.BEFORE_ANSWER, Point.DOOR_ENCODED]


async def once(broker: Spawned) -> str:
    await broker.serves()
    task, problem = await broker.agent.begin(broker.name("conversation"))
    assert not problem
    return await broker.agent.once(task)


def redemptions(facts: Facts, credential: str) -> list[int]:
    """Return the positions of the events that say that it was spent."""
    return [
        position
        for position, event in enumerate(facts.events)
        if event["type"] == "credential.redeemed" and event["credential"] == credential
    ]


async def asked_again(broker: Spawned, credential: str, key: str) -> int | str:
    """Ask until there is an answer."""

    async def answer() -> tuple[int | str] | None:
        told = await broker.service.spend(credential, key)
        return None if told in NO_ANSWER else (told,)

    (told,) = await eventually(answer, within=60)
    return told


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
async def test_a_lost_answer_is_the_first_one_when_it_is_asked_for_again(halves: Spawned, point: Point) -> None:
    credential = await once(halves)
    halves.orders.give(point, "redeem", passes=1)
    assert await halves.service.spend(credential, KEY) in NO_ANSWER
    assert halves.orders.carried_out
    facts = halves.facts()
    before = redemptions(facts, credential)
    assert len(before) == (1 if point.committed else 0)
    told = await asked_again(halves, credential, KEY)
    facts = halves.facts()
    assert redemptions(facts, credential) == [told]
    assert before in ([], [told])
    assert await asked_again(halves, credential, ANOTHER) == "CREDENTIAL_SPENT"
    assert differences(halves.ledger, facts) == []


async def test_what_was_spent_stays_spent_whatever_dies(halves: Spawned) -> None:
    credential = await once(halves)
    position = await halves.service.spend(credential, KEY)
    for role in ("issuer", "door"):
        halves.kill(role)
        assert await asked_again(halves, credential, ANOTHER) == "CREDENTIAL_SPENT"
        assert await asked_again(halves, credential, KEY) == position
    halves.kill("all")
    halves.start()
    assert await asked_again(halves, credential, ANOTHER) == "CREDENTIAL_SPENT"
    assert await asked_again(halves, credential, KEY) == position
