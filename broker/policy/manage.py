"""Who may do what to the broker itself: the same bundle, the same engine, no credential.

Tenancy is held here as well as in policies: nobody reaches further than its own tenants, whatever a rule says.
"""

from typing import Final

from broker.errors import Reason, Refusal
from broker.policy.compiled import CompiledPolicy, Verdict, refusal_of
from broker.policy.decision import (
    ActionClass,
    Allowed,
    ManageDecision,
    ManageQuestion,
    Target,
    TargetKind,
    denied,
)
from broker.policy.entities import Agent, Operator, Principal, Service
from broker.policy.schema import TARGET_TYPES, Action

# The same for what is another tenant's and for what is nobody's: the difference would tell what exists.
_OUT_OF_REACH: Final = "the target is not, or not only, of the caller's tenants"
# What they give is public among those who may ask at all; no tenant owns it.
_OF_NO_TENANT: Final = frozenset({"broker.keys.read", "broker.checkpoint.read"})


def decide_manage(policy: CompiledPolicy, question: ManageQuestion) -> ManageDecision:
    """Decide whether a principal may do this to the broker. Nothing in a question makes this raise."""
    try:
        principal = _principal(policy, question.principal)
        action = _action(policy, question.action)
        _check_reach(policy, principal, question)
        _check_applies(action, principal, question.target)
        answer = policy.ask_to_manage(principal, action=action.name, target=question.target, login=question.login)
        if answer.verdict is not Verdict.PERMITTED:
            raise refusal_of(policy, answer)
    except Refusal as refusal:
        return denied(refusal, policy.digest)
    return Allowed(policy_ids=answer.policy_ids, bundle_digest=policy.digest)


def _principal(policy: CompiledPolicy, spiffe_id: str) -> Principal:
    principal = policy.register.principal(spiffe_id)
    if principal is None:
        raise Refusal(Reason.PRINCIPAL_UNKNOWN)
    if isinstance(principal, Agent) and not principal.owned:
        raise Refusal(Reason.AGENT_WITHOUT_OWNER)
    return principal


def _action(policy: CompiledPolicy, name: str) -> Action:
    action = policy.actions.get(name)
    if action is None or action.action_class is not ActionClass.MANAGE:
        raise Refusal(Reason.ACTION_UNKNOWN)
    return action


def _check_applies(action: Action, principal: Principal, target: Target) -> None:
    """Refuse what the schema lets no principal of this kind do to a target of that kind."""
    if type(principal).__name__ not in action.principals or TARGET_TYPES[target.kind] not in action.resources:
        raise Refusal(Reason.POLICY_NOT_PERMITTED, "the action does not apply to this target")


def _check_reach(policy: CompiledPolicy, principal: Principal, question: ManageQuestion) -> None:
    """Refuse what lies outside the principal's tenants, and for agents and services everyone but themselves."""
    target = question.target
    if isinstance(principal, Operator) and principal.all_tenants:
        return
    if target.tenant and target.tenant not in principal.tenants:
        raise Refusal(Reason.TENANT_REFUSED, _OUT_OF_REACH)
    if question.action in _OF_NO_TENANT or _is_itself(principal, target) or _is_front_end(policy, principal, question):
        return
    reach = _tenants_of(policy, target)
    if not reach or not reach <= set(principal.tenants):
        raise Refusal(Reason.TENANT_REFUSED, _OUT_OF_REACH)
    if not isinstance(principal, Operator) and target.kind in {TargetKind.AGENT, TargetKind.SERVICE}:
        raise Refusal(Reason.POLICY_NOT_PERMITTED, "agents and services ask about themselves only")


def _is_itself(principal: Principal, target: Target) -> bool:
    match principal:
        case Agent():
            kind = TargetKind.AGENT
        case Service():
            kind = TargetKind.SERVICE
        case Operator():
            return False
    return target.kind is kind and target.id == principal.spiffe_id


def _is_front_end(policy: CompiledPolicy, principal: Principal, question: ManageQuestion) -> bool:
    """Whether a task type lets this service begin tasks of the agent, in the tenant that the task is for."""
    target = question.target
    return (
        question.action == "broker.task.begin"
        and isinstance(principal, Service)
        and target.kind is TargetKind.AGENT
        and any(
            principal.spiffe_id in kind.begun_by and target.id in kind.agents and target.tenant in kind.tenants
            for kind in policy.register.task_types.values()
        )
    )


def _tenants_of(policy: CompiledPolicy, target: Target) -> set[str]:
    """Return every tenant that the target belongs to; none for what belongs to all."""
    own = {target.tenant} if target.tenant else set()
    match target.kind:
        case TargetKind.AGENT:
            agent = policy.agent(target.id)
            return own | set(agent.tenants if agent else ())
        case TargetKind.SERVICE:
            service = policy.service(target.id)
            return own | set(service.tenants if service else ())
        case TargetKind.TENANT:
            return {target.id}
        case TargetKind.POLICY | TargetKind.TASK | TargetKind.CREDENTIAL | TargetKind.LOG:
            return own
