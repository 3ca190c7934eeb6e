"""Reporter: sends what is in the spool to the broker, in order, until the broker has said that it counted each.

At least once: what was answered is forgotten here only after the answer, and the broker counts each report once. What
the broker cannot take now is sent again, ever more slowly; what it will never take is given up, and counted.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2, status_pb2

from broker.outcome import Report, ReportKind
from broker.v1 import outcome_pb2, outcome_pb2_grpc
from broker.validator.spool import Spool

_LOG: Final = logging.getLogger(__name__)
_LOOK_SECONDS: Final = 0.02
_AGAIN: Final = frozenset({code_pb2.UNAVAILABLE, code_pb2.RESOURCE_EXHAUSTED, code_pb2.DEADLINE_EXCEEDED})
_KINDS: Final = MappingProxyType(
    {
        ReportKind.DONE: outcome_pb2.OUTCOME_KIND_DONE,
        ReportKind.FAILED: outcome_pb2.OUTCOME_KIND_FAILED,
        ReportKind.ROLLED_BACK: outcome_pb2.OUTCOME_KIND_ROLLED_BACK,
        ReportKind.UNKNOWN: outcome_pb2.OUTCOME_KIND_UNKNOWN,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterSettings:
    """How reports are sent.

    Attributes:
        batch: how many in one message, at most 256.
        deadline: how long the broker may take for one.
        first_pause: after what could not be sent; doubles with each further failure.
        longest_pause: what it doubles up to.

    """

    batch: int = 128
    deadline: timedelta = timedelta(seconds=10)
    first_pause: timedelta = timedelta(milliseconds=200)
    longest_pause: timedelta = timedelta(seconds=30)


class Reporter:
    """Sends reports. `run` is one task of the service.

    Args:
        channel: to the broker, with the service's own SVID.
        spool: what is sent.
        jitter: between 0 and 1, anew at each call.
        settings: see there.

    Attributes:
        given_up: how many reports the broker will never take.
        problem: why the last message could not be sent; empty when it could.

    """

    def __init__(
        self,
        *,
        channel: grpc.aio.Channel,
        spool: Spool,
        jitter: Callable[[], float],
        settings: ReporterSettings | None = None,
    ) -> None:
        self._stub: outcome_pb2_grpc.OutcomeServiceAsyncStub = outcome_pb2_grpc.OutcomeServiceStub(channel)
        self._spool = spool
        self._jitter = jitter
        self._settings = settings or ReporterSettings()
        self._batch = self._settings.batch
        self._added = asyncio.Event()
        self.given_up = 0
        self.problem = ""
        loop = asyncio.get_running_loop()

        def added() -> None:
            loop.call_soon_threadsafe(self._added.set)

        spool.on_added = added

    async def run(self) -> None:
        """Send until cancelled."""
        failures = 0
        while True:
            self._added.clear()
            reports = await asyncio.wrap_future(self._spool.first(self._batch))
            if not reports:
                await self._added.wait()
                continue
            failures = 0 if await self._send(reports) else failures + 1
            if failures:
                await asyncio.sleep(self._pause(failures))

    async def emptied(self) -> None:
        """Return once everything has been sent."""
        while await asyncio.wrap_future(self._spool.first(1)):  # noqa: ASYNC110 - answered by a thread
            await asyncio.sleep(_LOOK_SECONDS)

    def _pause(self, failures: int) -> float:
        doubled = self._settings.first_pause * (1 << min(failures - 1, 16))
        return min(self._settings.longest_pause, doubled).total_seconds() * (0.5 + 0.5 * self._jitter())

    async def _send(self, reports: Sequence[Report]) -> bool:
        """Send some reports, and forget those that are answered for good; say whether there were any."""
        request = outcome_pb2.ReportRequest(reports=[_message(each) for each in reports])
        try:
            answer = await self._stub.Report(request, timeout=self._settings.deadline.total_seconds())
        except grpc.aio.AioRpcError as error:
            return await self._failed(reports, error)
        except Exception as defect:  # noqa: BLE001 - reports that stopped would be missed by nobody here
            _LOG.exception("reports were not sent")
            self.problem = type(defect).__name__
            return False
        self._batch = self._settings.batch
        settled = self._settled(reports, answer.answers)
        self.problem = "" if settled else "the broker cannot count reports now"
        return bool(settled) and await asyncio.wrap_future(self._spool.remove(settled))

    async def _failed(self, reports: Sequence[Report], error: grpc.aio.AioRpcError) -> bool:
        self.problem = f"{error.code().name}: {error.details()}"
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            _LOG.warning("reports were not sent, and wait: %s", self.problem)
            return False
        if len(reports) > 1:  # one of them is what the broker does not understand: they go one by one
            self._batch = 1
            return True
        self._give_up(reports[0], self.problem)
        return await asyncio.wrap_future(self._spool.remove(reports))

    def _settled(self, reports: Sequence[Report], answers: Sequence[outcome_pb2.ReportAnswer]) -> Sequence[Report]:
        """Return the reports of which nothing more is to be said to the broker."""
        by_id = {each.report_id: each for each in answers}
        settled = []
        for report in reports:
            answer = by_id.get(report.id)
            said = answer.WhichOneof("answer") if answer else None
            if answer is None or said is None or (said == "refusal" and answer.refusal.code in _AGAIN):
                continue
            if said == "refusal":
                self._give_up(report, _reason(answer.refusal))
            settled.append(report)
        return settled

    def _give_up(self, report: Report, why: str) -> None:
        self.given_up += 1
        _LOG.error("the broker did not take report %s (%s) about %s: %s", report.id, report.kind.value,
                   report.credential, why)  # fmt: skip


def _reason(status: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return info.reason
    return status.message


def _message(report: Report) -> outcome_pb2.Report:
    at = Timestamp()
    at.FromDatetime(report.at)
    message = outcome_pb2.Report(
        report_id=report.id, credential_id=report.credential, at=at, call_digest=report.call_digest
    )
    match report.kind:
        case ReportKind.ACCEPTED:
            message.accepted.SetInParent()
        case ReportKind.REFUSED:
            refused = outcome_pb2.Refused(reason=report.reason, presented_by=report.presented_by)
            message.refused.CopyFrom(refused)
        case ReportKind.DROPPED:
            message.dropped.CopyFrom(outcome_pb2.Dropped(count=report.count))
        case kind:
            came = outcome_pb2.Outcome(
                use_id=report.use,
                kind=_KINDS[kind],
                reference=report.reference,
                rolled_back_by=report.rolled_back_by,
            )
            message.outcome.CopyFrom(came)
    return message
