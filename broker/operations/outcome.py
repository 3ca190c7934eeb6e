"""Report: what a service says became of the credentials that are for it; each report an event, each counted once.

A credential that is for another service is as unknown as one that there is not. What a service may still report on is
remembered some days longer than it lives (decision 0015); a report about what is forgotten is refused, and so is none
counted twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from broker.audit.event import (
    Decided,
    Entry,
    Event,
    OutcomeReported,
    ReportsDropped,
    RequestRefused,
    UsageAccepted,
    UsageRefused,
)
from broker.errors import Reason, Refusal
from broker.operations.attempt import Attempt, Visit, tenant_of
from broker.operations.outcome_calls import ReportAnswer, ReportCall, Reported
from broker.operations.record import commit, ranges_by_audience
from broker.outcome import Report, ReportKind
from broker.policy.decision import Target, TargetKind
from broker.store.interface import (
    AddReport,
    Committed,
    Effects,
    GiveBack,
    Guard,
    Item,
    OutcomeFits,
    Reportable,
    ReportUnused,
    Write,
)

REPORT: Final = "broker.outcome.report"


@dataclass(slots=True, kw_only=True)
class _Underway:
    """A report on its way to its answer."""

    report: Report
    about: Reportable | None = None
    answer: ReportAnswer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOutcomes:
    """Takes reports of a service."""

    attempt: Attempt

    def __call__(self, call: ReportCall) -> Reported:
        """Return one answer a report, in order; what was counted is durable by then."""
        return self.attempt(call.context, "report_outcomes", lambda visit: self._report(visit, call))

    def _report(self, visit: Visit, call: ReportCall) -> Reported:
        service = str(visit.principal.spiffe_id)
        decided = self.attempt.allowed(visit, REPORT, Target(kind=TargetKind.SERVICE, id=service))
        underway = [_Underway(report=report) for report in call.reports]
        self._commit(visit, decided, underway)
        return Reported(answers=tuple(_answered(each) for each in underway))

    def _commit(self, visit: Visit, decided: Decided, group: Sequence[_Underway]) -> None:
        """Count what can be counted, in one transaction; what was counted before is answered as it was."""
        for each in group:
            self._look_up(visit, each)
        open_ = [each for each in group if each.answer is None]
        items = [self._item(visit, decided, each) for each in open_]
        refused = [self._refused(visit, each) for each in group if isinstance(each.answer, Refusal)]
        committed = commit(self.attempt.recorder.store, [*items, *refused]) if items or refused else ()
        for each, answer in zip(open_, committed, strict=False):
            if isinstance(answer, Committed):
                each.answer = answer.position
            else:
                each.answer = Refusal(answer.reason)

    def _look_up(self, visit: Visit, each: _Underway) -> None:
        store, report, service = self.attempt.recorder.store, each.report, str(visit.principal.spiffe_id)
        earlier = store.report(service, report.id)
        if earlier is not None:
            again = earlier.digest == report.digest()
            each.answer = earlier.position if again else Refusal(Reason.REPORT_ID_REUSED)
        elif report.kind is not ReportKind.DROPPED:
            each.about = store.reportable(report.credential)
            if each.about is None or each.about.audience != service:
                each.answer = Refusal(Reason.CREDENTIAL_UNKNOWN)

    def _item(self, visit: Visit, decided: Decided, each: _Underway) -> Item:
        service, report = str(visit.principal.spiffe_id), each.report
        guards: list[Guard] = [ReportUnused(service=service, report=report.id)]
        writes: list[Write] = [AddReport(service=service, report=report, at=visit.now)]
        if report.kind.is_outcome:
            guards.append(OutcomeFits(service=service, credential=report.credential, use=report.use, kind=report.kind))
        if report.kind is ReportKind.FAILED:
            # With what was charged the credential ends, if it lives: what was given back must not be used again.
            writes.append(GiveBack(credential=report.credential, at=visit.now, unused=True))

        def accepted(revoked: Effects) -> Entry:
            return self.attempt.recorder.entry(_event(visit, decided, each, revoked))

        return Item(
            guards=tuple(guards),
            writes=tuple(writes),
            accepted=accepted,
            refused=lambda refusal: self._refusal(visit, refusal),
        )

    def _refused(self, visit: Visit, each: _Underway) -> Item:
        refusal = each.answer
        assert isinstance(refusal, Refusal)  # noqa: S101
        entry = self._refusal(visit, refusal)
        return Item(accepted=(lambda _: entry) if entry else None)

    def _refusal(self, visit: Visit, refusal: Refusal) -> Entry | None:
        event = RequestRefused(
            at=visit.now,
            caller=visit.caller,
            operation="report_outcomes",
            reason=refusal.reason.name,
            detail=refusal.detail,
            tenant=tenant_of(self.attempt.policy, visit.principal),
        )
        return self.attempt.recorder.refusal(event)


def _answered(each: _Underway) -> ReportAnswer:
    return Refusal(Reason.INTERNAL) if each.answer is None else each.answer


def _event(visit: Visit, decided: Decided, each: _Underway, revoked: Effects) -> Event:
    report, about = each.report, each.about
    if about is None:
        return ReportsDropped(at=visit.now, caller=visit.caller, decided=decided, report=report.id, count=report.count)
    match report.kind:
        case ReportKind.ACCEPTED:
            return _accepted(visit, decided, report, about)
        case ReportKind.REFUSED:
            return _turned_away(visit, decided, report, about)
        case _:
            return _outcome(visit, decided, report, about, revoked)


def _accepted(visit: Visit, decided: Decided, report: Report, about: Reportable) -> UsageAccepted:
    return UsageAccepted(
        at=visit.now,
        caller=visit.caller,
        decided=decided,
        tenant=about.tenant,
        task=about.task,
        agent=about.agent,
        transaction=about.transaction_id,
        credential=about.credential_id,
        use=report.id,
        used_at=report.at,
        call_digest=report.call_digest,
    )


def _turned_away(visit: Visit, decided: Decided, report: Report, about: Reportable) -> UsageRefused:
    return UsageRefused(
        at=visit.now,
        caller=visit.caller,
        decided=decided,
        tenant=about.tenant,
        task=about.task,
        agent=about.agent,
        transaction=about.transaction_id,
        credential=about.credential_id,
        report=report.id,
        used_at=report.at,
        reason=report.reason,
        presented_by=report.presented_by,
        call_digest=report.call_digest,
    )


def _outcome(visit: Visit, decided: Decided, report: Report, about: Reportable, revoked: Effects) -> OutcomeReported:
    return OutcomeReported(
        at=visit.now,
        caller=visit.caller,
        decided=decided,
        tenant=about.tenant,
        task=about.task,
        agent=about.agent,
        transaction=about.transaction_id,
        credential=about.credential_id,
        use=report.use,
        report=report.id,
        used_at=report.at,
        outcome=report.kind.value,
        reference=report.reference,
        rolled_back_by=report.rolled_back_by,
        call_digest=report.call_digest,
        revoked=len(revoked) or None,
        status_indexes=ranges_by_audience(revoked),
    )
