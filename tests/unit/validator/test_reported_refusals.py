"""Refusals of credentials are reported; above ten a second they are counted."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

from broker.errors import Reason, Refusal
from broker.outcome import Report
from broker.validator.reports import Reports


def test_of_refusals_ten_a_second_are_reported_and_the_others_are_counted() -> None:
    added: list[Report] = []
    dropped: list[int] = []
    spool = SimpleNamespace(add=added.append, drop=lambda: dropped.append(1))
    at = [datetime(2026, 11, 28, 12, tzinfo=UTC)]
    reports = Reports(spool=cast("Any", spool), clock=lambda: at[0], new_id=lambda: str(uuid4()))
    shown = cast("Any", SimpleNamespace(credential_id="cred_1"))
    for _ in range(3):
        at[0] += timedelta(seconds=1)
        for _ in range(25):
            reports.refused(shown, Refusal(Reason.TOKEN_EXPIRED), "spiffe://example.org/agent/a")
    assert (len(added), len(dropped)) == (30, 45)
