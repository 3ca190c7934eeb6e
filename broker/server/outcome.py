"""OutcomeService: what services report."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from types import MappingProxyType
from typing import Final

import grpc

from broker.errors import Reason, Refusal
from broker.issuer.port import Report, ReportAnswer, ReportCall, ReportKind
from broker.server.reception import Call, Method, Reception, service
from broker.server.status import status_of
from broker.v1 import outcome_pb2

NAME = "broker.v1.OutcomeService"

_KINDS: Final[Mapping[int, ReportKind]] = MappingProxyType(
    {
        outcome_pb2.OUTCOME_KIND_DONE: ReportKind.DONE,
        outcome_pb2.OUTCOME_KIND_FAILED: ReportKind.FAILED,
        outcome_pb2.OUTCOME_KIND_ROLLED_BACK: ReportKind.ROLLED_BACK,
        outcome_pb2.OUTCOME_KIND_UNKNOWN: ReportKind.UNKNOWN,
    }
)
_OTHERS: Final = MappingProxyType(
    {"accepted": ReportKind.ACCEPTED, "refused": ReportKind.REFUSED, "dropped": ReportKind.DROPPED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeServicer:
    """Serves reports."""

    reception: Reception

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        report = Method(path=f"/{NAME}/Report", operation="report_outcomes")
        return service(NAME, {"Report": self.reception.unary(report, outcome_pb2.ReportRequest, self._report)})

    async def _report(self, call: Call, request: outcome_pb2.ReportRequest) -> outcome_pb2.ReportResponse:
        try:
            reports = tuple(report_of(each) for each in request.reports)
        except Refusal as refusal:
            raise await self.reception.recorded(call, refusal) from refusal
        asked = ReportCall(context=call.context, reports=reports)
        done = await self.reception.ask(call, self.reception.issuer.report(asked))
        pairs = zip(reports, done.answers, strict=True)
        return outcome_pb2.ReportResponse(answers=[_answer(call, report, answer) for report, answer in pairs])


def report_of(message: outcome_pb2.Report) -> Report:
    """Return what a validated message reports.

    Raises:
        Refusal: REQUEST_INVALID, a member stands where its kind has none, or a time is none.

    """
    what = message.WhichOneof("what") or ""
    try:
        at = message.at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as problem:
        raise Refusal(Reason.REQUEST_INVALID, "at") from problem
    return Report(
        id=message.report_id,
        kind=_KINDS[message.outcome.kind] if what == "outcome" else _OTHERS[what],
        at=at,
        credential=message.credential_id,
        use=message.outcome.use_id,
        call_digest=message.call_digest,
        reason=message.refused.reason,
        presented_by=message.refused.presented_by,
        reference=message.outcome.reference,
        rolled_back_by=message.outcome.rolled_back_by,
        count=message.dropped.count,
    )


def _answer(call: Call, report: Report, answer: ReportAnswer) -> outcome_pb2.ReportAnswer:
    if isinstance(answer, Refusal):
        status = status_of(answer, request=call.context.request)
        return outcome_pb2.ReportAnswer(report_id=report.id, refusal=status)
    return outcome_pb2.ReportAnswer(report_id=report.id, recorded=outcome_pb2.Recorded(position=answer))
