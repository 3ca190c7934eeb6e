"""What a service reports: of each caller a few refusals, and of what it accepted always how it ended."""

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

import pytest

from broker.credential.claims import VerifiedToken
from broker.credential.verify import verify
from broker.errors import Reason, Refusal
from broker.intent import Resource
from broker.outcome import Report, ReportKind
from broker.validator.call import Call
from broker.validator.reports import ALL_REFUSALS_A_SECOND, REFUSALS_A_SECOND, Reports
from broker.validator.spool import Spool
from tests.unit.credential.samples import AUDIENCE, ISSUER, KEYS, NOW, token

CALL = Call(action="order.refund", resource=Resource(type="order", id="1234"), tenant="retail")


@dataclass
class Slow:
    """A spool whose disk takes its time."""

    kept: list[Report] = field(default_factory=list)
    writing: "list[Future[bool]]" = field(default_factory=list)
    dropped: int = 0

    def add(self, report: Report) -> "Future[bool]":
        self.kept.append(report)
        self.writing.append(Future())
        return self.writing[-1]

    def drop(self) -> None:
        self.dropped += 1


def verified() -> VerifiedToken:
    return verify(token(), keys=KEYS, issuer=ISSUER, audience=AUDIENCE, now=NOW)


def reporting() -> tuple[Slow, Reports]:
    slow = Slow()
    return slow, Reports(spool=cast("Spool", slow), clock=lambda: NOW, new_id=lambda: f"{uuid4()}")


def test_one_caller_cannot_hide_what_another_is_refused() -> None:
    slow, reports = reporting()
    refusal = Refusal(Reason.TOKEN_SCOPE_EXCEEDED)
    for _ in range(1000):
        reports.refused(verified(), refusal, "spiffe://example.org/agent/loud")
    reports.refused(verified(), refusal, "spiffe://example.org/agent/thief")
    loud = [each for each in slow.kept if each.presented_by.endswith("loud")]
    assert (len(loud), slow.dropped) == (REFUSALS_A_SECOND, 1000 - REFUSALS_A_SECOND)
    assert slow.kept[-1].presented_by.endswith("thief")
    for number in range(1000):
        reports.refused(verified(), refusal, f"spiffe://example.org/agent/{number}")
    assert len(slow.kept) == ALL_REFUSALS_A_SECOND, "many callers together are bounded too"


async def test_a_caller_that_goes_away_before_its_handler_runs_leaves_no_use_without_an_end() -> None:
    slow, reports = reporting()
    waiting = asyncio.ensure_future(reports.accepted(verified(), CALL, durable=True))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    use, came = slow.kept
    assert (use.kind, came.kind, came.use) == (ReportKind.ACCEPTED, ReportKind.UNKNOWN, use.id)


async def turns(waiting: "asyncio.Future[Any]") -> bool:
    """Let the loop go round a few times, and return whether it is done."""
    for _ in range(10):
        await asyncio.sleep(0)
    return waiting.done()


async def test_a_write_is_let_through_once_its_use_is_durable_and_a_read_at_once() -> None:
    slow, reports = reporting()
    write = asyncio.ensure_future(reports.accepted(verified(), CALL, durable=True))
    read = asyncio.ensure_future(reports.accepted(verified(), CALL, durable=False))
    assert (await turns(write), await turns(read)) == (False, True)
    slow.writing[0].set_result(True)
    assert (await write).id == slow.kept[0].id


@pytest.mark.parametrize("well", [True, False])
async def test_its_end_is_said_once_that_is_durable(well: bool) -> None:
    slow, reports = reporting()
    use = await reports.accepted(verified(), CALL, durable=False)
    end = asyncio.ensure_future(use.ended(well=well))
    assert not await turns(end)
    slow.writing[-1].set_result(True)
    await end
    assert slow.kept[-1].kind is (ReportKind.DONE if well else ReportKind.UNKNOWN)


async def test_what_could_not_be_kept_has_no_use() -> None:
    slow, reports = reporting()
    waiting = asyncio.ensure_future(reports.accepted(verified(), CALL, durable=True))
    await turns(waiting)
    slow.writing[0].set_result(False)
    use = await waiting
    assert use.id == ""
    await use.ended(well=True)
    assert len(slow.kept) == 1, "nor an outcome"
