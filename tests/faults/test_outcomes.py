"""SIGKILL while a service reports: it is recorded or it is not, and the report that is sent again is recorded once."""

from uuid import uuid4

import pytest

from broker.v1 import outcome_pb2
from tests.faults.facts import Facts
from tests.faults.ledger import differences
from tests.faults.points import Point
from tests.faults.requests import failure_of, use_of
from tests.faults.spawned import Spawned
from tests.faults.test_crash import CHANGE, NO_ANSWER
from tests.faults.test_redemptions import once
from tests.polling import eventually

POINTS = [Point.ISSUER_RECEIVED, Point.DECIDED, *CHANGE, Point.BEFORE_ANSWER, Point.DOOR_ENCODED]


def recorded(facts: Facts, said: outcome_pb2.Report) -> list[int]:
    """Return the positions of the events of one report: of a use by its id, of an outcome by its report's."""
    (kind, member) = ("usage.accepted", "use") if said.HasField("accepted") else ("outcome.reported", "report")
    return [
        position
        for position, event in enumerate(facts.events)
        if event["type"] == kind and event.get(member) == said.report_id
    ]


async def sent_again(broker: Spawned, said: outcome_pb2.Report) -> None:
    """Send the same report until it is taken."""

    async def taken() -> bool:
        problem = await broker.service.report(said)
        assert problem in ("", *NO_ANSWER), problem
        return not problem

    assert await eventually(taken, within=60)


@pytest.mark.parametrize("what", ["use", "failure"])
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
async def test_a_report_whose_answer_was_lost_is_recorded_once(halves: Spawned, point: Point, what: str) -> None:
    credential = await once(halves)
    said = use = use_of(credential, str(uuid4()))
    if what == "failure":  # what limits charged for it is given back, and not twice
        assert not await halves.service.report(use)
        said = failure_of(credential, use.report_id, str(uuid4()))
    halves.orders.give(point, "report", passes=1)
    assert await halves.service.report(said) in NO_ANSWER
    assert halves.orders.carried_out
    facts = halves.facts()
    before = recorded(facts, said)
    assert len(before) == (1 if point.committed else 0)
    assert differences(halves.ledger, facts) == []
    await sent_again(halves, said)
    await sent_again(halves, said)
    facts = halves.facts()
    after = recorded(facts, said)
    assert len(after) == 1
    assert before in ([], after)
    assert {position for report, position in halves.ledger.reported if report == said.report_id} == set(after)
    assert differences(halves.ledger, facts) == []
