"""GetApproval, ListApprovals, and the pages of a stream of approvals: each is authorised anew, for its reader alone.

The token of a page and the cursor of a stream are sealed as those of the log are: nobody makes one, or takes another's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker.approval import OPEN, ApprovalState
from broker.audit.cursor import Place, seal, unseal
from broker.intent import canonical_json, digest
from broker.operations.approval_calls import (
    ApprovalCall,
    ApprovalList,
    ApprovalPage,
    ApprovalPageCall,
    ListApprovalsCall,
    ShownApproval,
)
from broker.operations.approval_views import Reader, Views
from broker.operations.attempt import Visit
from broker.operations.drift_calls import ShownDrifted
from broker.operations.drifted import DRIFTED_A_PAGE, DriftViews
from broker.operations.subscribe import page_of, resume

APPROVALS_A_PAGE: Final = 50
# How many are looked at for one page: most of a tenant's may be for others.
SCANNED_A_PAGE: Final = 500
CHANGES_A_PAGE: Final = 200
_NEVER: Final = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class GetApproval:
    """One approval."""

    views: Views

    def __call__(self, call: ApprovalCall) -> ShownApproval:
        """Return it as it is now."""
        return self.views.attempt(call.context, "get_approval", lambda visit: self._get(visit, call))

    def _get(self, visit: Visit, call: ApprovalCall) -> ShownApproval:
        reader = self.views.reader(visit, call.context)
        return self.views.show(reader, self.views.find(reader, call.approval))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListApprovals:
    """The caller's approvals, the oldest first."""

    views: Views

    def __call__(self, call: ListApprovalsCall) -> ApprovalList:
        """Return a page of them; it may be short, or empty, and not the last."""
        return self.views.attempt(call.context, "list_approvals", lambda visit: self._list(visit, call))

    def _list(self, visit: Visit, call: ListApprovalsCall) -> ApprovalList:
        reader, store = self.views.reader(visit, call.context), self.views.attempt.recorder.store
        states = call.states or (ApprovalState.PENDING,)
        view = digest(canonical_json({"states": sorted(each.value for each in states)}))
        place = Place(log=store.log_id, stream="approvals", reader=reader.name, view=view)
        number = _after(place, call.page_token, store.cursor_key) if call.page_token else 0
        found = store.approvals_after(number, replace(reader.view, states=_written(states)), SCANNED_A_PAGE)
        size = min(call.page_size, APPROVALS_A_PAGE) if call.page_size > 0 else APPROVALS_A_PAGE
        shown: list[ShownApproval] = []
        for scanned, (_, approval) in enumerate(found, start=1):
            asked = self.views.asked(approval)
            fits = approval.state_at(visit.now) in states
            if fits and self.views.sees(reader, asked) and self.views.is_for(reader, asked):
                shown.append(self.views.show(reader, asked))
            if len(shown) == size and scanned < len(found):
                return self._more(place, shown, found[scanned - 1][0])
        if len(found) < SCANNED_A_PAGE:
            return ApprovalList(approvals=tuple(shown))
        return self._more(place, shown, found[-1][0])

    def _more(self, place: Place, shown: Sequence[ShownApproval], number: int) -> ApprovalList:
        key = self.views.attempt.recorder.store.cursor_key
        return ApprovalList(approvals=tuple(shown), next_page_token=seal(place, number, "", key))


def _written(states: Sequence[ApprovalState]) -> tuple[ApprovalState, ...]:
    """Return the states as which these can be written: what is over may not have been written so yet."""
    late = OPEN if ApprovalState.EXPIRED in states else ()
    return (*states, *late)


def _after(place: Place, token: str, key: bytes) -> int:
    return unseal(token, place, key, _NEVER, lambda _: "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadApprovals:
    """The caller's approvals, and the drifted tasks that the caller is told of, as they change."""

    views: Views
    drift: DriftViews

    def __call__(self, call: ApprovalPageCall) -> ApprovalPage:
        """Return the next page."""
        return self.views.attempt(call.context, "watch_approvals", lambda visit: self._read(visit, call))

    def _read(self, visit: Visit, call: ApprovalPageCall) -> ApprovalPage:
        attempt, store = self.views.attempt, self.views.attempt.recorder.store
        reader = self.views.reader(visit, call.context)
        place = Place(log=store.log_id, stream="approvals", reader=reader.name, view=digest(b"changes"))
        size = store.size()
        start = resume(store, place, call.cursor, size) if call.cursor else size
        found = store.approvals_changed(start, size, reader.view, CHANGES_A_PAGE)
        stop = size if len(found) < CHANGES_A_PAGE else found[-1][0] + 1
        if stop != size:  # many may have changed in one place, as when all of a tenant's were taken back
            found = store.approvals_changed(start, stop, reader.view, _NEVER)
        drifted, stop = self._drifted(reader, start, stop)
        found = [(at, approval) for at, approval in found if at < stop]
        asked = [self.views.asked(approval) for _, approval in found]
        return ApprovalPage(
            page=page_of(attempt, visit, place, start, stop, size),
            approvals=tuple(
                self.views.show(reader, each, details=False)
                for each in asked
                if self.views.sees(reader, each) and self.views.is_for(reader, each)
            ),
            drifted=drifted,
        )

    def _drifted(self, reader: Reader, start: int, stop: int) -> tuple[tuple[ShownDrifted, ...], int]:
        """Return the drifted tasks that changed in the range, and where a page that holds no more of them stops."""
        if reader.approver is None or reader.is_customer:
            return (), stop
        store = self.views.attempt.recorder.store
        found = store.drifted_changed(start, stop, reader.view.tenants, DRIFTED_A_PAGE)
        if len(found) == DRIFTED_A_PAGE:  # no event changes two of them
            stop = found[-1][0] + 1
        shown = (self.drift.shown(reader, each) for _, each in found)
        return tuple(each for each in shown if each is not None), stop
