"""SIGKILL at each named point between receiving and answering; a client's ledger against the reopened store."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from tests.faults.client import UNKNOWN
from tests.faults.facts import Facts
from tests.faults.ledger import Held, differences
from tests.faults.points import Point
from tests.faults.spawned import Spawned
from tests.polling import eventually

PASSES = 3
# What a caller hears when one of the halves dies under its request.
NO_ANSWER = (UNKNOWN, "ISSUER_UNAVAILABLE")

EXCHANGE = list(Point)
CHANGE = [Point.HALF_WRITTEN, Point.BEFORE_COMMIT, Point.AFTER_COMMIT, Point.DOOR_ANSWERED]
EMBEDDED = [Point.SIGNED, Point.BEFORE_COMMIT, Point.AFTER_COMMIT, Point.DOOR_ENCODED]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request: why it was not answered (empty when it was), and whether a store holds it."""

    unanswered: str
    stands: Callable[[Facts], bool]
    name: str


async def exchange(broker: Spawned) -> Asked:
    name = broker.name("request")
    answer = await broker.agent.exchange(name)
    return Asked(
        unanswered=answer if isinstance(answer, str) else "",
        stands=lambda facts: facts.credential_of(name) is not None,
        name=name,
    )


async def revoke(broker: Spawned) -> Asked:
    held = await broker.agent.exchange(broker.name("revocable"))
    assert isinstance(held, Held), held
    unanswered = await broker.security.revoke(held.credential)
    return Asked(
        unanswered=unanswered,
        stands=lambda facts: f"credential {held.credential}" in facts.revocations.values(),
        name=held.credential,
    )


async def begin_task(broker: Spawned) -> Asked:
    name = broker.name("conversation")
    _, unanswered = await broker.agent.begin(name)
    return Asked(unanswered=unanswered, stands=lambda facts: name in facts.conversations, name=name)


async def end_task(broker: Spawned) -> Asked:
    task, problem = await broker.agent.begin(broker.name("conversation"))
    assert not problem
    held = await broker.agent.exchange(broker.name("in-task"), task=task)
    assert isinstance(held, Held), held
    unanswered = await broker.agent.end(task)
    return Asked(unanswered=unanswered, stands=lambda facts: facts.tasks[task] is not None, name=task)


VERBS: dict[str, Callable[[Spawned], Awaitable[Asked]]] = {
    "exchange": exchange,
    "revoke": revoke,
    "begin_task": begin_task,
    "end_task": end_task,
}


async def die(broker: Spawned, point: Point, verb: str) -> Asked:
    """Ask until the broker dies at the point; return what was not answered."""
    await broker.serves()
    broker.orders.give(point, verb, passes=PASSES)
    asked = [await VERBS[verb](broker) for _ in range(PASSES)]
    assert broker.orders.carried_out
    assert [bool(each.unanswered) for each in asked] == [False, False, True]
    assert asked[-1].unanswered in NO_ANSWER
    return asked[-1]


def committed_and_unanswered(broker: Spawned, facts: Facts) -> set[str]:
    """Return the requests that were granted and of which no client has heard."""
    return {request for request in facts.granted.values() if request} - {held.request_id for held in broker.ledger.held}


async def ask_again(broker: Spawned, request: str) -> Held:
    """Ask the same again, as a client does whose reply was lost, until the broker is back."""

    async def again() -> Held | None:
        answer = await broker.agent.exchange(request)
        return answer if isinstance(answer, Held) else None

    return await eventually(again, within=60)


async def check_exchange(broker: Spawned, point: Point) -> None:
    asked = await die(broker, point, "exchange")
    facts = broker.facts()
    assert differences(broker.ledger, facts) == []
    # The run counts only if it hit what it was meant to hit.
    assert committed_and_unanswered(broker, facts) == ({asked.name} if point.committed else set())
    if broker.embedded:
        await broker.died()
        await broker.serves()
    held = await ask_again(broker, asked.name)
    facts = broker.facts()
    assert differences(broker.ledger, facts) == []
    reissued = [event["credential"] for event in facts.of("credential.reissued")]
    assert (held.credential in reissued) is point.committed
    assert len([event for event in facts.of("credential.granted") if event["credential"] == held.credential]) == 1


@pytest.mark.parametrize("point", EXCHANGE, ids=lambda point: point.name)
async def test_no_credential_without_its_event_and_the_same_one_when_asked_again(halves: Spawned, point: Point) -> None:
    await check_exchange(halves, point)


@pytest.mark.parametrize("point", EMBEDDED, ids=lambda point: point.name)
async def test_the_same_holds_in_one_process(whole: Spawned, point: Point) -> None:
    await check_exchange(whole, point)
    assert differences(whole.ledger, await whole.reopened()) == []


@pytest.mark.parametrize("point", CHANGE, ids=lambda point: point.name)
@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "exchange"])
async def test_what_was_acknowledged_is_in_force_and_what_was_not_is_whole_or_absent(
    halves: Spawned, verb: str, point: Point
) -> None:
    asked = await die(halves, point, verb)
    facts = halves.facts()
    assert differences(halves.ledger, facts) == []
    assert asked.stands(facts) is point.committed


async def test_a_revocation_that_was_made_and_not_acknowledged_can_be_asked_again(halves: Spawned) -> None:
    await halves.serves()
    held = await halves.agent.exchange(halves.name("request"))
    assert isinstance(held, Held)
    halves.orders.give(Point.AFTER_COMMIT, "revoke", passes=1)
    assert await halves.security.revoke(held.credential) in NO_ANSWER
    await halves.serves()
    # It is in force already; asking again says so for good.
    assert await halves.agent.exchange(held.request_id) == "CREDENTIAL_REVOKED"
    assert await halves.security.revoke(held.credential) == ""
    assert differences(halves.ledger, halves.facts()) == []


async def test_the_store_opens_again_after_all_of_it(halves: Spawned) -> None:
    await halves.serves()
    assert differences(halves.ledger, await halves.reopened()) == []
