"""Check of groups that are asked: policy lets somebody of each see what it is asked, and answer."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from broker.cli.doctor.finding import Check, Finding, ok, warning
from broker.cli.doctor.policy import may
from broker.cli.doctor.setup import Setup
from broker.operations.approval_views import DECIDE, READ
from broker.operations.drifted import RESUME
from broker.policy.compiled import CompiledPolicy
from broker.policy.decision import Target, TargetKind
from broker.policy.entities import Register
from broker.policy.persons import Person, everybody
from broker.policy.step_up import StepUpKind

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A group that is asked something: what, how many have to answer, of which tenants, and whether a task waits."""

    group: str
    what: str
    tenants: tuple[str, ...]
    quorum: int = 1
    drifted: bool = False


def groups(setup: Setup) -> Finding:
    """Of each group that is asked, enough members see it and may answer."""
    policy = setup.compiled
    asked = tuple(_asked(policy))
    for each in asked:
        if (lacking := _lacking(policy, each)) is not None:
            return _warning(setup, each, lacking)
    count = len({each.group for each in asked})
    return ok(f"groups that are asked, and may answer: {count}" if count else "no policy and no task type asks a group")


def _asked(policy: CompiledPolicy) -> Iterator[_Asked]:
    register = policy.register
    for kind in register.task_types.values():
        for group in _path(register, kind.drift.escalate_to if kind.drift else ""):
            what = f"what drifts of task type {kind.name}"
            for tenant in kind.tenants:
                yield _Asked(group=group, what=f"{what} in {tenant}", tenants=(tenant,), drifted=True)
    held = [(f"policy {rule.id}", rule.step_up) for rule in policy.rules.values()]
    held += [(f"sequence {sequence.name}", sequence.step_up) for sequence in register.sequences.values()]
    for name, step_up in held:
        if step_up is None or step_up.kind is not StepUpKind.GROUP:
            continue
        for group in _path(register, step_up.group):
            # Of whose tasks a policy holds something is not known here; a group that may answer in one is not idle.
            quorum = step_up.quorum if group == step_up.group else 1
            yield _Asked(group=group, what=f"what {name} holds", tenants=register.tenants, quorum=quorum)


def _path(register: Register, group: str) -> Iterator[str]:
    """Yield a group and those that it escalates to; the bundle has no circles."""
    while group:
        yield group
        following = register.approver_groups.get(group)
        group = following.escalate_to if following else ""


def _lacking(policy: CompiledPolicy, asked: _Asked) -> tuple[str, ...] | None:
    """Return the actions that nobody of a group may do, where too few may answer; None where enough may."""
    members = _members(policy.register, asked.group)
    for tenant in asked.tenants:
        if sum(_answers(policy, each, tenant, drifted=asked.drifted) for each in members) >= asked.quorum:
            return None
    pairs = [(each, tenant) for each in members for tenant in asked.tenants]
    return tuple(
        action for action in (READ, DECIDE) if not any(_may(policy, each, tenant, (action,)) for each, tenant in pairs)
    )


def _answers(policy: CompiledPolicy, person: Person, tenant: str, *, drifted: bool) -> bool:
    # Who may resume tasks as an operator sees those that drifted, and needs to be of no group.
    resumes = drifted and _through(policy, person.spiffe_ids, tenant, (RESUME,)) and person.speaks_for(tenant)
    return resumes or _may(policy, person, tenant, (READ, DECIDE))


def _may(policy: CompiledPolicy, person: Person, tenant: str, actions: tuple[str, ...]) -> bool:
    """Whether a person may do all of this to tasks of a tenant, by an SVID of theirs or by a token over another's."""
    register = policy.register
    over = person.spiffe_ids
    if person.identities:
        declared = register.persons.values()
        others = {name for each in declared if each != person for name in each.spiffe_ids}
        over = (*over, *register.services, *(name for name in register.operators if name not in others))
    return person.speaks_for(tenant) and _through(policy, over, tenant, actions)


def _through(policy: CompiledPolicy, over: Iterable[str], tenant: str, actions: tuple[str, ...]) -> bool:
    target = Target(kind=TargetKind.TASK, id="", tenant=tenant)
    return any(all(may(policy, name, action, target) for action in actions) for name in over)


def _members(register: Register, group: str) -> list[Person]:
    return [person for person in everybody(register) if group in person.groups]


def _warning(setup: Setup, asked: _Asked, lacking: tuple[str, ...]) -> Finding:
    names = sorted(each.name for each in _members(setup.compiled.register, asked.group))
    who = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    actions = " and ".join(lacking or (READ, DECIDE))
    few = "no policy lets any of them" if asked.quorum == 1 else f"policy lets fewer than {asked.quorum} of them"
    left = "A suspended task would stay so until it ends" if asked.drifted else "Such a request would expire unanswered"
    return warning(
        f"group {asked.group} ({who}) is asked about {asked.what}, and {few} do {actions}",
        why=f"{left}: `broker approvals` shows it to nobody of the group, or takes no answer.",
        fix=f'Permit {READ} and {DECIDE} on Task to Role::"{asked.group}", or to the tool through which they sign in.',
    )


CHECKS: Final = (Check(id="groups", look=groups, above=("policy-loads",)),)
