"""Drift: how often a task may be refused what lies outside it before somebody hears of it, and who that is."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from broker.errors import Refusal
from broker.intent import require_name
from broker.policy.durations import MAXIMUM, duration_from
from broker.policy.persons import everybody
from broker.policy.table import Table

if TYPE_CHECKING:
    from broker.policy.entities import Register
    from broker.policy.task_types import TaskType

MOST_REFUSALS: Final = 100
_THEN: Final = ("report", "suspend")
_KEYS: Final = {"refusals", "within", "then"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What counts as drift of a task, and what follows.

    Attributes:
        refusals: so many, of what lies outside the task,
        within: in so long a time.
        suspends: nothing is given in it any more, until it is resumed; otherwise it is reported only.
        escalate_to: the group whose members are told, and may resume it; empty: nobody in particular is.

    """

    refusals: int
    within: timedelta
    suspends: bool
    escalate_to: str = ""


def read_drift(table: Table) -> Drift | None:
    """Read the `drift` of a task type; None when it has none, or what is there is wrong, which is noted."""
    if not table.has("drift"):
        return None
    value = table.value("drift")
    if isinstance(value, dict) and value.keys() - {"escalate_to"} == _KEYS:
        refusals, within, then = value["refusals"], duration_from(str(value["within"])), value["then"]
        if type(refusals) is int and 0 < refusals <= MOST_REFUSALS and within and within <= MAXIMUM and then in _THEN:
            suspends = then == "suspend"
            group = _group(table, value.get("escalate_to"), suspends=suspends)
            return Drift(refusals=refusals, within=within, suspends=suspends, escalate_to=group)
    table.problem(
        'drift is such as { refusals = 3, within = "PT10M", then = "suspend", escalate_to = "desk" }: 1 to '
        f'{MOST_REFUSALS} refusals, within at most {MAXIMUM // timedelta(hours=1)} hours, then "report" or '
        '"suspend"'
    )
    return None


def _group(table: Table, value: object, *, suspends: bool) -> str:
    if value is None and suspends:
        table.problem(
            'drift: then = "suspend" needs escalate_to = "GROUP": those who are told, and let the task go on or end it'
        )
    if value is None:
        return ""
    try:
        return require_name(value if isinstance(value, str) else "", "escalate_to")
    except Refusal:
        table.problem(f"drift: escalate_to is the name of a group, not {value!r}")
        return ""


def drift_problems(kind: "TaskType", register: "Register") -> Iterator[str]:
    """Yield why nobody would be told of a task of this type."""
    group = kind.drift.escalate_to if kind.drift else ""
    if not group:
        return
    members = [person for person in everybody(register) if group in person.groups]
    if not members:
        yield (
            f"drift: escalate_to names {group!r}, which nobody of this file is in; put a [[person]] into it, give an"
            " [[operator]] that role, or correct the name"
        )
        return
    for tenant in kind.tenants:
        if not any(person.speaks_for(tenant) for person in members):
            yield f"drift: nobody in {group!r} speaks for tenant {tenant!r}; name a group in which somebody does"
