"""SIGKILL while people are asked, while they answer, and while their answer is used: once, or not at all."""

import pytest

from tests.faults.facts import Facts
from tests.faults.ledger import Held, differences
from tests.faults.points import Point
from tests.faults.requests import LARGE, LARGE_PARAMETERS
from tests.faults.spawned import Spawned
from tests.faults.test_crash import CHANGE, NO_ANSWER
from tests.polling import eventually

HOLD = [Point.DECIDED, *CHANGE[:-1], Point.BEFORE_ANSWER]
ANSWER = [Point.ISSUER_RECEIVED, *CHANGE, Point.DOOR_ENCODED]
USE = [Point.SIGNED, *CHANGE, Point.DOOR_ENCODED]


async def used(broker: Spawned, task: str, approval: str, request_id: str) -> Held | str:
    """Use an approval."""
    return await broker.agent.exchange(
        request_id, task=task, action=LARGE, parameters=LARGE_PARAMETERS, approval=approval
    )


async def asked(broker: Spawned, task: str) -> str:
    """Ask until people are asked; return the approval to wait for."""

    async def answer() -> str:
        return await broker.agent.hold(broker.name("request"), task)

    return await eventually(answer, within=60)


async def told(broker: Spawned, task: str, approval: str, request_id: str = "") -> str:
    """Use an approval until there is an answer: the credential, or why there is none."""
    name = request_id or broker.name("request")

    async def answer() -> tuple[str] | None:
        found = await used(broker, task, approval, name)
        given = found if isinstance(found, str) else found.credential
        return None if given in NO_ANSWER else (given,)

    (found,) = await eventually(answer, within=60)
    return found


async def answered(broker: Spawned, approval: str) -> str:
    async def answer() -> tuple[str] | None:
        told = await broker.lead.approve(approval)
        return None if told in NO_ANSWER else (told,)

    (told,) = await eventually(answer, within=60)
    return told


async def begun(broker: Spawned) -> str:
    await broker.serves()
    task, problem = await broker.agent.begin(broker.name("conversation"))
    assert not problem
    return task


def of_task(facts: Facts, kind: str, task: str) -> list[str]:
    """Return the approvals that events of a kind in a task are about."""
    return [str(event["approval"]) for event in facts.of(kind) if event["task"] == task]


def given(facts: Facts, approval: str) -> list[str]:
    """Return the credentials that were given on an approval."""
    return [str(each["credential"]) for each in facts.of("credential.granted") if each.get("approval") == approval]


@pytest.mark.parametrize("point", HOLD, ids=lambda point: point.name)
async def test_a_request_that_nobody_was_told_of_is_there_whole_or_not_at_all(halves: Spawned, point: Point) -> None:
    task = await begun(halves)
    verb = "exchange" if point in (Point.DECIDED, Point.BEFORE_ANSWER) else "hold"
    halves.orders.give(point, verb, passes=1)
    assert await halves.agent.hold(halves.name("request"), task) == ""
    assert halves.orders.carried_out
    before = of_task(halves.facts(), "approval.requested", task)
    assert len(before) == (1 if point.committed else 0)
    approval = await asked(halves, task)
    assert of_task(halves.facts(), "approval.requested", task) == [approval]
    assert before in ([], [approval])
    assert await answered(halves, approval) == ""
    assert (await told(halves, task, approval)).startswith("cred_")


@pytest.mark.parametrize("point", ANSWER, ids=lambda point: point.name)
async def test_a_yes_that_was_not_acknowledged_counts_once(halves: Spawned, point: Point) -> None:
    task = await begun(halves)
    approval = await asked(halves, task)
    halves.orders.give(point, "approve", passes=1)
    assert await halves.lead.approve(approval) in NO_ANSWER
    assert halves.orders.carried_out
    assert len(of_task(halves.facts(), "approval.approved", task)) == (1 if point.committed else 0)
    assert await answered(halves, approval) == ""
    assert of_task(halves.facts(), "approval.approved", task) == [approval]
    assert (await told(halves, task, approval)).startswith("cred_")


@pytest.mark.parametrize("point", USE, ids=lambda point: point.name)
async def test_what_was_approved_is_given_once_whatever_dies(halves: Spawned, point: Point) -> None:
    task = await begun(halves)
    approval = await asked(halves, task)
    assert await answered(halves, approval) == ""
    name = halves.name("request")
    halves.orders.give(point, "exchange", passes=1)
    assert await used(halves, task, approval, name) in NO_ANSWER
    assert halves.orders.carried_out
    before = given(halves.facts(), approval)
    assert len(before) == (1 if point.committed else 0)
    credential = await told(halves, task, approval, name)
    assert before in ([], [credential])
    assert await told(halves, task, approval) == "APPROVAL_USED"
    facts = halves.facts()
    assert given(facts, approval) == [credential]
    assert differences(halves.ledger, facts) == []


async def test_all_of_it_outlives_every_process(halves: Spawned) -> None:
    task = await begun(halves)
    approval = await asked(halves, task)
    for step in range(2):
        for role in ("issuer", "door"):
            halves.kill(role)
            assert await asked(halves, task) == approval
        halves.kill("all")
        halves.start()
        if step == 0:
            assert await asked(halves, task) == approval
            assert await answered(halves, approval) == ""
    assert (await told(halves, task, approval)).startswith("cred_")
    assert await told(halves, task, approval) == "APPROVAL_USED"
