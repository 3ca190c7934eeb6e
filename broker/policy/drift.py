"""Drift: how often a task may be refused what lies outside it before somebody hears of it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from broker.policy.durations import MAXIMUM, duration_from
from broker.policy.table import Table

MOST_REFUSALS: Final = 100
_THEN: Final = ("report", "suspend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What counts as drift of a task, and what follows.

    Attributes:
        refusals: so many, of what lies outside the task,
        within: in so long a time.
        suspends: nothing is given in it any more, until it is resumed; otherwise it is reported only.

    """

    refusals: int
    within: timedelta
    suspends: bool


def read_drift(table: Table) -> Drift | None:
    """Read the `drift` of a task type; None when it has none, or what is there is wrong, which is noted."""
    if not table.has("drift"):
        return None
    value = table.value("drift")
    if isinstance(value, dict) and value.keys() == {"refusals", "within", "then"}:
        refusals, within, then = value["refusals"], duration_from(str(value["within"])), value["then"]
        if type(refusals) is int and 0 < refusals <= MOST_REFUSALS and within and within <= MAXIMUM and then in _THEN:
            return Drift(refusals=refusals, within=within, suspends=then == "suspend")
    table.problem(
        f'drift is such as {{ refusals = 3, within = "PT10M", then = "suspend" }}: 1 to {MOST_REFUSALS} refusals, '
        f'within at most {MAXIMUM // timedelta(hours=1)} hours, then "report" or "suspend"'
    )
    return None
