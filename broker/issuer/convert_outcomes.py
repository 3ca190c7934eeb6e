"""What services report ⇄ messages of the port, and what led agents to their intents."""

from collections.abc import Mapping
from typing import Final

from broker.issuer.convert import (
    MAX_ID,
    MAX_NAME,
    MAX_SPIFFE_ID,
    Malformed,
    bounded,
    decode_context,
    decode_refusal,
    encode_context,
    encode_refusal,
    from_microseconds,
    to_microseconds,
)
from broker.issuer.port import Report, ReportAnswer, ReportCall, Reported, ReportKind, Trail
from broker.issuer.v1 import port_pb2 as v1
from broker.issuer.wire import MAX_CALLS_A_FRAME

_KINDS: Final[Mapping[ReportKind, v1.ReportKind.ValueType]] = {
    ReportKind.ACCEPTED: v1.REPORT_KIND_ACCEPTED,
    ReportKind.REFUSED: v1.REPORT_KIND_REFUSED,
    ReportKind.DONE: v1.REPORT_KIND_DONE,
    ReportKind.FAILED: v1.REPORT_KIND_FAILED,
    ReportKind.ROLLED_BACK: v1.REPORT_KIND_ROLLED_BACK,
    ReportKind.UNKNOWN: v1.REPORT_KIND_UNKNOWN,
    ReportKind.DROPPED: v1.REPORT_KIND_DROPPED,
}
_KINDS_BACK: Final = {message: kind for kind, message in _KINDS.items()}


def encode_trail(trail: Trail) -> v1.Trail | None:
    """Return the message of what led to an intent; None when nothing was said."""
    if not trail.to_json():
        return None
    return v1.Trail(
        prompt_reference=trail.prompt_reference,
        prompt_digest=trail.prompt_digest,
        tool_call_reference=trail.tool_call_reference,
        tool_call_digest=trail.tool_call_digest,
    )


def decode_trail(message: v1.Trail) -> Trail:
    """Return what led to an intent.

    Raises:
        Refusal: REQUEST_INVALID.

    """
    return Trail(
        prompt_reference=message.prompt_reference,
        prompt_digest=message.prompt_digest,
        tool_call_reference=message.tool_call_reference,
        tool_call_digest=message.tool_call_digest,
    )


def encode_report_call(call: ReportCall) -> v1.ReportCall:
    """Return the message of reports."""
    return v1.ReportCall(context=encode_context(call.context), reports=map(_encode_report, call.reports))


def _encode_report(report: Report) -> v1.Report:
    return v1.Report(
        id=report.id,
        kind=_KINDS[report.kind],
        at_us=to_microseconds(report.at),
        credential=report.credential,
        use=report.use,
        call_digest=report.call_digest,
        reason=report.reason,
        presented_by=report.presented_by,
        reference=report.reference,
        rolled_back_by=report.rolled_back_by,
        count=report.count,
    )


def decode_report_call(message: v1.ReportCall) -> ReportCall:
    """Return reports."""
    if not 0 < len(message.reports) <= MAX_CALLS_A_FRAME:
        raise Malformed("reports")
    return ReportCall(
        context=decode_context(message.context), reports=tuple(_decode_report(each) for each in message.reports)
    )


def _decode_report(message: v1.Report) -> Report:
    return Report(
        id=message.id,
        kind=_KINDS_BACK[message.kind],
        at=from_microseconds(message.at_us),
        credential=bounded(message.credential, MAX_ID, "credential"),
        use=message.use,
        call_digest=message.call_digest,
        reason=bounded(message.reason, MAX_NAME, "reason"),
        presented_by=bounded(message.presented_by, MAX_SPIFFE_ID, "presented_by"),
        reference=message.reference,
        rolled_back_by=message.rolled_back_by,
        count=message.count,
    )


def encode_reported(reported: Reported) -> v1.Reported:
    """Return the message of one answer a report."""
    return v1.Reported(answers=map(_encode_answer, reported.answers))


def _encode_answer(answer: ReportAnswer) -> v1.ReportAnswer:
    if isinstance(answer, int):
        return v1.ReportAnswer(position=answer)
    return v1.ReportAnswer(refusal=encode_refusal(answer))


def decode_reported(message: v1.Reported) -> Reported:
    """Return one answer a report."""
    return Reported(answers=tuple(map(_decode_answer, message.answers)))


def _decode_answer(message: v1.ReportAnswer) -> ReportAnswer:
    match message.WhichOneof("answer"):
        case "position":
            return message.position
        case "refusal":
            return decode_refusal(message.refusal)
        case None:
            raise Malformed("answer")
