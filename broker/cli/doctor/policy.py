"""Checks of the policy bundle."""

import stat
from collections.abc import Sequence
from typing import Final

from broker.cli.doctor.finding import Check, Finding, ok, problem, warning
from broker.cli.doctor.places import quoted
from broker.cli.doctor.setup import Setup
from broker.operations.stoppers import LIFT, stoppers_of
from broker.policy.bundle import BundleProblem
from broker.policy.compiled import CompiledPolicy
from broker.policy.decision import ActionClass, Allowed, ManageQuestion, Target, TargetKind
from broker.policy.manage import decide_manage
from broker.policy.paths import LOGIN

_SHOWN: Final = 3
REDEEM: Final = "broker.redeem"
REPORT: Final = "broker.outcome.report"


def policy_directory(setup: Setup) -> Finding:
    """The bundle's directory is there, and nobody else writes the policy."""
    directory = setup.settings.policy.dir
    if not directory.is_dir():
        return problem(
            f"{directory} is not there, or is no directory",
            why="Without policy every request is refused.",
            fix="Set [policy] dir to the bundle's directory; `broker init DIR` writes a first one.",
        )
    for path in (directory, *sorted(directory.iterdir())):
        if path.stat().st_mode & stat.S_IWOTH:
            return problem(
                f"anybody may write {path}",
                why="Whoever writes the policy decides who gets which credential.",
                fix=f"chmod -R o-w {quoted(directory)}",
            )
    return ok(f"{directory} is there; only its owner and group may write it")


def policy_loads(setup: Setup) -> Finding:
    """The bundle compiles and answers its golden cases as expected."""
    policy = setup.policy
    if isinstance(policy, BundleProblem):
        named = "; ".join(str(each) for each in policy.problems[:_SHOWN])
        more = len(policy.problems) - _SHOWN
        return problem(
            named + (f"; and {more} more" if more > 0 else ""),
            why="A broker that starts with it refuses everything; one that runs keeps the last good bundle.",
            fix=f"broker policy check {quoted(setup.settings.policy.dir)}",
        )
    register = policy.register
    return ok(f"{len(policy.rules)} policies, {len(register.agents)} agents, {len(register.services)} services")


def policy_owners(setup: Setup) -> Finding:
    """Somebody answers for every agent."""
    found = setup.compiled
    unowned = [agent.spiffe_id for agent in found.register.agents.values() if not agent.owned]
    if unowned:
        return warning(
            f"without a business owner and a security owner: {', '.join(unowned)}",
            why="Such an agent gets nothing at all.",
            fix=f"Fill in business_owner and security_owner in {setup.settings.policy.dir}/entities.toml.",
        )
    return ok("every agent has its two owners")


def policy_stoppers(setup: Setup) -> Finding:
    """Somebody may stop everything, and somebody else may let it go on."""
    found, entities = setup.compiled, f"{setup.settings.policy.dir}/entities.toml"
    stop = _persons(found, [each.spiffe_id for each in stoppers_of(found) if not each.tenant])
    lift = _persons(found, [each.spiffe_id for each in stoppers_of(found, LIFT) if not each.tenant])
    if not stop:
        return warning(
            "the bundle lets no operator stop everything",
            why="When something goes wrong, `broker stop everything` is refused to everybody.",
            fix="Permit broker.override.impose, .lift and .read to an operator with all_tenants = true, as "
            "`broker init` does.",
        )
    alone = sorted(who for who in stop if not lift - {who})
    if alone:
        return warning(
            f"what {', '.join(alone)} stops, nobody else may let go on",
            why="Who stopped something does not lift it: it would stay stopped.",
            fix=f"Add a second operator, of another person, to {entities}, and permit broker.override.lift to it.",
        )
    return ok(f"{len(stop)} persons may stop everything, {len(lift)} may let it go on")


def policy_spending(setup: Setup) -> Finding:
    """Services may spend what is good once, and say what came of it."""
    found = setup.compiled
    services = _given_once(found)
    for action, why in (
        (REDEEM, "What is good once, a service spends at the broker before it acts: it would refuse every such call."),
        (
            REPORT,
            "What became of such a credential would stay unknown, and what limits charged for it would stay charged.",
        ),
    ):
        if without := [each for each in services if not _may_itself(found, each, action)]:
            shown = ", ".join(without[:_SHOWN]) + (", ..." if len(without) > _SHOWN else "")
            return warning(
                f"credentials that are good once are given for {shown}, and no policy permits {action} there",
                why=why,
                fix=f"Permit {action} to services `when {{ resource == principal }}`, as `broker init` does.",
            )
    if not services:
        return ok("no policy gives what is good once")
    return ok(f"{len(services)} services may spend what is good once, and report on it")


def _given_once(policy: CompiledPolicy) -> list[str]:
    """Return the services that have something which a permit gives good once."""
    types: set[str] = set()
    for rule in policy.rules.values():
        named = rule.named_actions()
        for action in policy.actions.values():
            covered = named is None or not named.isdisjoint({action.name, action.action_class.value})
            once = rule.once or action.action_class is ActionClass.HIGH_IMPACT
            if rule.permits and covered and once and action.action_class is not ActionClass.MANAGE:
                types |= action.resources
    return sorted(
        service.spiffe_id
        for service in policy.register.services.values()
        if any(each.cedar_type in types for each in service.resource_types.values())
    )


def _may_itself(policy: CompiledPolicy, service: str, action: str) -> bool:
    return may(policy, service, action, Target(kind=TargetKind.SERVICE, id=service))


def may(policy: CompiledPolicy, principal: str, action: str, target: Target) -> bool:
    """Whether policy lets somebody do something with the broker."""
    question = ManageQuestion(principal=principal, login=LOGIN, action=action, target=target)
    return isinstance(decide_manage(policy, question), Allowed)


def _persons(policy: CompiledPolicy, operators: Sequence[str]) -> set[str]:
    """Return who these operators are; two of them may be one person."""
    return {person.name for person in map(policy.register.person_of, operators) if person}


def policy_domains(setup: Setup) -> Finding:
    """Somebody in the bundle is of the broker's own trust domain."""
    own = setup.own_id.trust_domain
    domains = trust_domains(setup.compiled)
    if domains and own not in domains:
        return problem(
            f"the bundle knows only {', '.join(sorted(domains))}; the broker is of {own}",
            why="Nobody of the broker's own trust domain gets anything; the bundle is often another deployment's.",
            fix=f"Put spiffe://{own}/... into {setup.settings.policy.dir}/entities.toml, or set [broker] spiffe_id.",
        )
    return ok(f"the bundle's trust domains: {', '.join(sorted(domains)) or 'none'}")


def trust_domains(policy: CompiledPolicy) -> frozenset[str]:
    """Return the trust domain of everybody whom a bundle knows."""
    register = policy.register
    known = (*register.agents, *register.services, *register.operators)
    return frozenset(spiffe_id.removeprefix("spiffe://").partition("/")[0] for spiffe_id in known)


CHECKS: Final = (
    Check(id="policy-directory", look=policy_directory, above=("config",)),
    Check(id="policy-loads", look=policy_loads, above=("policy-directory",)),
    Check(id="policy-owners", look=policy_owners, above=("policy-loads",)),
    Check(id="policy-stoppers", look=policy_stoppers, above=("policy-loads",)),
    Check(id="policy-spending", look=policy_spending, above=("policy-loads",)),
    Check(id="policy-domains", look=policy_domains, above=("policy-loads",)),
)
