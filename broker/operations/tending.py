"""Tending: what comes to held requests by itself: an approval is over, or goes on to the next group."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from broker.approval import Approval, ApprovalState
from broker.audit.approval_events import ApprovalEscalated, ApprovalExpired
from broker.errors import Refusal
from broker.operations.approvals import changing
from broker.operations.attempt import ActivePolicy, Clock
from broker.operations.record import Recorder, commit
from broker.operations.requirements import Asked
from broker.store.approval_items import ApprovalOpen, ChangeApproval
from broker.store.interface import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class TendApprovals:
    """Closes what was not answered or not used in time, and takes what was left unanswered to the next group."""

    recorder: Recorder
    policy: ActivePolicy
    clock: Clock

    def __call__(self) -> int:
        """Return how many approvals changed.

        Raises:
            Refusal: AUDIT_UNAVAILABLE; they stay due, and nothing passes by one that is over meanwhile.

        """
        now, store = self.clock(), self.recorder.store
        items = [item for approval in store.approvals_due(now) for item in self._items(approval, now)]
        if items:
            commit(store, items)
        return len(items)

    def _items(self, approval: Approval, now: datetime) -> Iterator[Item]:
        of = {"tenant": approval.tenant, "task": approval.intent.task, "agent": approval.agent, "approval": approval.id}
        if approval.state_at(now) is ApprovalState.EXPIRED:
            expired = replace(approval, state=ApprovalState.EXPIRED, escalate_at=None)
            event = ApprovalExpired(at=now, was=approval.state.value, **of)
            yield changing(self.recorder, approval, expired, event)
            return
        try:
            register = self.policy().register
        except Refusal:  # who follows whom is not known just now
            return
        task = self.recorder.store.task(approval.intent.task) if approval.intent.task else None
        following = Asked(register=register, approval=approval, task=task).next_escalation()
        if following is None or following[0] > now:
            after = replace(approval, escalate_at=following[0] if following else None)
            unchanged = ApprovalOpen(approval=approval.id, revision=approval.revision)
            yield Item(guards=(unchanged,), writes=(ChangeApproval(approval=after),))
            return
        escalated = replace(approval, escalated=(*approval.escalated, following[1]))
        then = Asked(register=register, approval=escalated, task=task).next_escalation()
        after = replace(escalated, escalate_at=then[0] if then else None)
        yield changing(self.recorder, approval, after, ApprovalEscalated(at=now, group=following[1], **of))
