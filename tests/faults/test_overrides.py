"""SIGKILL while something is being stopped: it is stopped whole, with what lived under it, or not at all."""

import pytest

from tests.faults.ledger import Held, differences
from tests.faults.points import Point
from tests.faults.spawned import Spawned
from tests.faults.test_crash import CHANGE, NO_ANSWER
from tests.operations.world import SUPPORT
from tests.polling import eventually

STOPPED = "OVERRIDE_IN_FORCE"


async def back(broker: Spawned) -> str:
    """Wait until the agent is answered again; return how an exchange ends then, empty when it is given."""

    async def answer() -> tuple[str] | None:
        told = await broker.agent.exchange(broker.name("after"))
        return None if told in NO_ANSWER else (told if isinstance(told, str) else "",)

    (told,) = await eventually(answer, within=60)
    return told


@pytest.mark.parametrize("point", CHANGE, ids=lambda point: point.name)
async def test_a_stop_that_was_not_acknowledged_is_in_force_whole_or_not_at_all(halves: Spawned, point: Point) -> None:
    await halves.serves()
    held = await halves.agent.exchange(halves.name("live"))
    assert isinstance(held, Held), held
    halves.orders.give(point, "impose_override", passes=1)
    _, unanswered = await halves.security.stop(SUPPORT)
    assert halves.orders.carried_out
    assert unanswered in NO_ANSWER
    assert await back(halves) == (STOPPED if point.committed else "")
    facts = halves.facts()
    assert differences(halves.ledger, facts) == []
    assert (held.credential in facts.revoked) is point.committed
    assert len(facts.overrides) == (1 if point.committed else 0)
    for override in facts.overrides:
        assert await halves.security.let_go_on(override) == "SECOND_PERSON_REQUIRED"
        assert await halves.duty.let_go_on(override) == ""
    assert await back(halves) == ""
    await halves.serves()


async def test_a_stop_that_was_acknowledged_outlives_every_process(halves: Spawned) -> None:
    await halves.serves()
    override, unanswered = await halves.security.stop(SUPPORT)
    assert not unanswered
    for role in ("issuer", "door"):
        halves.kill(role)
        assert await back(halves) == STOPPED
    halves.kill("all")
    halves.start()
    assert await back(halves) == STOPPED
    assert await halves.duty.let_go_on(override) == ""
    await halves.serves()
    assert differences(halves.ledger, halves.facts()) == []
