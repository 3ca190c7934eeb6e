"""How a drifted task looks to whoever is told of it: as lines, one line, or an object. Nothing an agent wrote hides."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from shlex import quote
from typing import Any, Final

from broker.cli.approval_shown import Line, lasting, plain, shown_time
from broker.client import DriftedTask
from broker.visible import shortened, visible

_SHORT: Final = 80


def drifted_lines(drifted: DriftedTask, now: datetime) -> Iterator[Line]:
    """Yield all of a drifted task, a name and a text each; what can be done comes last.

    Args:
        drifted: as the broker shows it.
        now: UTC.

    """
    task, agent = visible(drifted.task), visible(drifted.agent)
    yield "drifted", f"{task}, {_what(drifted)}, {lasting(now - drifted.drifted_at)} ago{_again(drifted)}"
    yield "now", _stands(drifted)
    yield "agent", f"{agent} for tenant {visible(drifted.tenant)}"
    yield "its owners", f"{visible(drifted.business_owner)}; {visible(drifted.security_owner)}"
    person = f", for {visible(drifted.person)}" if drifted.person else ""
    yield (
        "its task",
        (
            f"of type {visible(drifted.task_type)}, purpose {visible(drifted.purpose)}, begun "
            f"{shown_time(drifted.begun_at)}, ends {shown_time(drifted.deadline)}{person}"
        ),
    )
    yield "refused", ", ".join(map(visible, drifted.actions))
    yield "because", ", ".join(map(visible, drifted.reasons))
    yield "told", " or ".join(map(visible, (drifted.group, *drifted.escalated_to)))
    if drifted.state == "open":
        # To be copied into a shell: a door that was captured writes no command there.
        task, agent = quote(task), quote(agent)
        yield "look", f"broker audit trace {task}"
        yield "let it go on", f'broker task resume {task} --reason "..."'
        yield "end it", f'broker revoke task {task} --reason "..."'
        yield "stop the agent", f'broker stop agent {agent} --reason "..."'


def drifted_row(drifted: DriftedTask) -> tuple[str, ...]:
    """Return what is said of a drifted task on one line."""
    actions = shortened(", ".join(drifted.actions), _SHORT)
    return visible(drifted.task), visible(drifted.agent), f"{_what(drifted)}: {actions}", _stands(drifted)


def drifted_members(drifted: DriftedTask) -> dict[str, Any]:
    """Return what a program reads, as `members` does of an approval; `kind` tells one from the other."""
    return {"kind": "drifted_task", **{name: plain(value) for name, value in asdict(drifted).items()}}


def _what(drifted: DriftedTask) -> str:
    return f"{drifted.refusals} refusals within {lasting(drifted.within)}"


def _again(drifted: DriftedTask) -> str:
    return f", and {drifted.times - 1} more since {shown_time(drifted.since)}" if drifted.times > 1 else ""


def _stands(drifted: DriftedTask) -> str:
    if drifted.state != "open":
        return visible(drifted.state)
    return "suspended: nothing is given in it" if drifted.suspended else "it goes on"
