"""What a store answers about tasks that drift; a part of `Store`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from broker.drifted import Drifted
from broker.store.outcome_items import Outside


class DriftStore(Protocol):
    """The part of a store that knows tasks that drift. Every method may raise StoreUnavailable."""

    def drift(self, task_id: str) -> Sequence[Outside]:
        """Return what was refused lately because it lies outside a task, the newest last."""

    def drifted(self, task_id: str) -> Drifted | None:
        """Return that a task drifted; None when it never did, or is forgotten."""

    def drifted_due(self, now: datetime) -> Sequence[Drifted]:
        """Return open ones that the next group is to be told of; some of many."""

    def drifted_after(self, number: int, tenants: Sequence[str] | None, limit: int) -> Sequence[tuple[int, Drifted]]:
        """Return open ones of these tenants (None: of all) beyond a number, the oldest first, each with its own."""

    def drifted_changed(
        self, start: int, stop: int, tenants: Sequence[str] | None, limit: int
    ) -> Sequence[tuple[int, Drifted]]:
        """Return those whose last change stands in [start, stop) of the log, in order, each with its place."""
