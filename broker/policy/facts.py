"""What a bundle says about the check that refused a question: the values that this check would let through."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from broker.errors import Reason
from broker.policy.compiled import CompiledPolicy
from broker.policy.decision import ActionClass, Decision, Deny, Question
from broker.policy.history import told
from broker.policy.imagined import Asked, asked
from broker.policy.residual import Known, residuals
from broker.policy.shape import Members

_CLOSE: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that the bundle says about what was refused: values that a check would let through."""

    what: str
    values: tuple[str, ...]


def facts_about(
    policy: CompiledPolicy, question: Question, decision: Decision, shape: Members | None
) -> Iterator[Fact]:
    """Yield what the bundle says about the check that refused; nothing when none did."""
    if not isinstance(decision, Deny):
        return
    match decision.reason:
        case Reason.PRINCIPAL_UNKNOWN | Reason.PURPOSE_REFUSED | Reason.TENANT_REQUIRED | Reason.TENANT_REFUSED:
            yield from _agent_facts(policy, question, decision.reason)
        case Reason.ACTION_UNKNOWN | Reason.TASK_REQUIRED:
            yield _action_fact(policy, question)
        case Reason.AUDIENCE_UNKNOWN:
            yield Fact(what="services of this agent's tenants", values=tuple(sorted(_services_of(policy, question))))
        case Reason.RESOURCE_TYPE_UNKNOWN | Reason.RESOURCE_SET_UNKNOWN | Reason.RESOURCE_SET_REFUSED:
            yield _resource_fact(policy, question)
        case Reason.PARAMETERS_REFUSED | Reason.SCOPE_EMPTY if shape:
            yield Fact(what="parameters of this action", values=(str(shape),))
        case Reason.LIMIT_REACHED | Reason.LIMIT_AMOUNT_REFUSED:
            rules = (policy.rules[policy_id] for policy_id in decision.policy_ids)
            yield Fact(what="limits", values=tuple(str(limit) for rule in rules for limit in rule.totals))
        case Reason.DUTY_SEPARATED | Reason.SEQUENCE_REFUSED:
            yield Fact(what="what was granted before", values=tuple(told(policy.register, question.intent.action)))
        case Reason.POLICY_ERROR:
            yield Fact(what="policies that cannot be evaluated", values=tuple(_failing(policy, question)))
        case _:
            return


def _agent_facts(policy: CompiledPolicy, question: Question, reason: Reason) -> Iterator[Fact]:
    agent, service = policy.agent(question.principal), policy.service(question.intent.audience)
    if agent is None:
        close = get_close_matches(question.principal, list(policy.register.agents), _CLOSE)
        yield Fact(what="agents of nearly that name", values=tuple(close))
    elif reason is Reason.PURPOSE_REFUSED:
        yield Fact(what="purposes of this agent", values=agent.purposes)
    else:
        yield Fact(what="tenants of this agent", values=agent.tenants)
        if service:
            yield Fact(what="tenants that the audience serves", values=service.tenants)


def _services_of(policy: CompiledPolicy, question: Question) -> Iterator[str]:
    agent = policy.agent(question.principal)
    for service in policy.register.services.values():
        if agent is None or not set(service.tenants).isdisjoint(agent.tenants):
            yield service.spiffe_id


def _action_fact(policy: CompiledPolicy, question: Question) -> Fact:
    action = policy.actions.get(question.intent.action)
    if action is not None and action.action_class is not ActionClass.MANAGE:
        return Fact(what="class of this action", values=(action.action_class.value,))
    asked_for = (one.name for one in policy.actions.values() if one.action_class is not ActionClass.MANAGE)
    return Fact(what="actions of the schema", values=tuple(sorted(asked_for)))


def _resource_fact(policy: CompiledPolicy, question: Question) -> Fact:
    action, register = policy.actions[question.intent.action], policy.register
    declaring = [
        f"{service.spiffe_id} has {kind.name}"
        for service in register.services.values()
        for kind in service.resource_types.values()
        if kind.cedar_type in action.resources
    ]
    sets = [
        f"{one.service} has the set {one.resource_type}/{one.name} for {', '.join(one.tenants)}"
        for one in register.sets.values()
        if action.name in one.actions
    ]
    return Fact(what="what this action applies to", values=(*declaring, *sets))


def _failing(policy: CompiledPolicy, question: Question) -> Iterator[str]:
    heard = asked(policy, question)
    if isinstance(heard, Asked):
        known = Known(
            agent=heard.agent,
            tenant=heard.tenant,
            action=heard.action,
            resource=heard.resource,
            context=heard.context,
        )
        yield from (rule_id for rule_id, left in residuals(policy, known).items() if left.fails)
