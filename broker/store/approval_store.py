"""What a store answers about approvals; a part of `Store`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from broker.approval import Approval
from broker.credential.revocation import Rule
from broker.intent import Intent
from broker.override import Stop
from broker.store.approval_items import ApprovalView


class ApprovalStore(Protocol):
    """The part of a store that knows approvals. Every method may raise StoreUnavailable."""

    @property
    def approval_changes(self) -> int:
        """Rises with each group that may have changed approvals, or drifted tasks. A hint."""

    def approval(self, approval_id: str) -> Approval | None:
        """Return an approval that is still remembered."""

    def approvals_for(self, agent: str, intent: Intent) -> Sequence[Approval]:
        """Return what an agent asked for this very intent, the newest first; of many, the newest."""

    def bypass_for(self, agent: str, intent: Intent, now: datetime) -> Approval | None:
        """Return the approval whose bypass lets an intent pass: the same kind, in the same task."""

    def approvals_due(self, now: datetime) -> Sequence[Approval]:
        """Return approvals that are over by themselves, or that the next group may answer as well; some of many."""

    def approvals_after(self, number: int, view: ApprovalView, limit: int) -> Sequence[tuple[int, Approval]]:
        """Return the approvals that a view shows beyond a number, the oldest first, each with its own."""

    def approvals_changed(
        self, start: int, stop: int, view: ApprovalView, limit: int
    ) -> Sequence[tuple[int, Approval]]:
        """Return the approvals whose last change stands in [start, stop) of the log, in order, each with its place."""

    def approvals_under(self, under: Rule | Stop, now: datetime) -> Sequence[str]:
        """Return the ids of the approvals that are open under a rule or a stop."""

    def approval_counts(self, agent: str) -> tuple[int, int]:
        """Return how many of an agent's held requests were approved, and how many denied, of those remembered."""
