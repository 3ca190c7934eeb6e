"""What a service reports: of each caller a few refusals, and of what it accepted always how it ended."""

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import cast
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
    dropped: int = 0

    def add(self, report: Report) -> "Future[bool]":
        self.kept.append(report)
        return Future()

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
