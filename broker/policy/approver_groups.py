"""Approver groups: who is asked when a group leaves a request unanswered; and that every group has enough members."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from broker.policy.durations import MAXIMUM, duration_from
from broker.policy.problem import Findings
from broker.policy.step_up import StepUp, StepUpKind
from broker.policy.table import Table

if TYPE_CHECKING:
    from broker.policy.entities import Register
    from broker.policy.rules import Rule

_FILE = "entities.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproverGroup:
    """Where a request goes that a group does not answer.

    Attributes:
        name: of the group.
        line: where it stands; None when it cannot be told.
        escalate_to: the group that may then approve as well.
        escalate_after: how long after the request, or after the step before.

    """

    name: str
    line: int | None
    escalate_to: str
    escalate_after: timedelta


def read_approver_group(table: Table) -> ApproverGroup:
    """Read one [[approver_group]]; what is wrong is noted."""
    after = duration_from(table.text("escalate_after"))
    if after is None or after > MAXIMUM:
        table.problem('escalate_after is a duration such as "PT10M", at most PT24H')
    group = ApproverGroup(
        name=table.name("name"),
        line=table.line,
        escalate_to=table.name("escalate_to"),
        escalate_after=after or MAXIMUM,
    )
    table.done()
    return group


def escalations(groups: Mapping[str, ApproverGroup], group: str, since: datetime) -> Iterator[tuple[datetime, str]]:
    """Yield when which further group may answer what a group was asked since then, in order."""
    at, following = since, groups.get(group)
    while following is not None:
        at += following.escalate_after
        yield at, following.escalate_to
        following = groups.get(following.escalate_to)


def check_approvers(register: "Register", rules: Iterable["Rule"], found: Findings) -> None:
    """Note every group that could never answer, and every path that leads nowhere or in a circle."""
    for sequence in register.sequences.values():
        if sequence.step_up is not None and (sentence := _unmeetable(register, sequence.step_up)):
            found.add(_FILE, f"sequence {sequence.name}: {sentence}", line=sequence.line)
    for rule in rules:
        if rule.step_up is not None and (sentence := _unmeetable(register, rule.step_up)):
            found.add(rule.file, f"policy {rule.id}: {sentence}", line=rule.line)
    for group in register.approver_groups.values():
        for sentence in _path_problems(register, group):
            found.add(_FILE, f"approver_group {group.name}: {sentence}", line=group.line)


def _unmeetable(register: "Register", required: StepUp) -> str:
    if required.kind is not StepUpKind.GROUP:
        return ""
    members = len(register.members_of(required.group))
    if members >= required.quorum:
        return ""
    return (
        f"its step_up wants {required.quorum} of group {required.group!r}, which has {members} in entities.toml;"
        " put a [[person]] into it, give an [[operator]] that role, or lower the quorum"
    )


def _path_problems(register: "Register", group: ApproverGroup) -> Iterator[str]:
    if not register.members_of(group.escalate_to):
        yield f"escalate_to names {group.escalate_to!r}, which nobody of this file is in; correct the name"
    seen, at = {group.name}, group
    while (following := register.approver_groups.get(at.escalate_to)) is not None:
        if following.name in seen:
            yield f"the path comes back to {following.name!r}; let it end somewhere"
            return
        seen.add(following.name)
        at = following
