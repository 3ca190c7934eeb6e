"""MAY THEY: policy and a question become a decision. Nothing in a question makes this raise.

The order is the order of the checks in `decide`; the first that fails is the answer (docs/policy-decision-model.md).
"""

from dataclasses import dataclass, replace
from typing import Final, assert_never

from broker.errors import Reason, Refusal
from broker.intent import Intent, Json, Level
from broker.policy.compiled import Answer, CompiledPolicy, Entity, Verdict, refusal_of, resource_entity
from broker.policy.decision import (
    ActionClass,
    Allowed,
    Decision,
    Deny,
    Hold,
    ManageDecision,
    ManageQuestion,
    Permit,
    Question,
    Target,
    TargetKind,
    Terms,
    denied,
)
from broker.policy.entities import Agent, ResourceSet, Service
from broker.policy.history import check_task_of_watched, held_to
from broker.policy.limit import charges_of
from broker.policy.manage import decide_manage
from broker.policy.resource_types import ResourceType
from broker.policy.rules import Rule
from broker.policy.schema import RESOURCE_SET, Action
from broker.policy.step_up import StepUp
from broker.policy.within import check_within
from broker.scope import Scope

__all__ = [
    "ActionClass",
    "Allowed",
    "Decision",
    "Deny",
    "Hold",
    "ManageDecision",
    "ManageQuestion",
    "Permit",
    "Question",
    "Target",
    "TargetKind",
    "Terms",
    "decide",
    "decide_manage",
    "resolve_tenant",
]

_RESERVED: Final = "__"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Levels:
    """The sensitivity and risk that count: the bundle's, or the caller's where it is higher."""

    sensitivity: Level
    risk: Level

    @property
    def low(self) -> bool:
        return self.sensitivity is Level.LOW and self.risk is Level.LOW


def decide(policy: CompiledPolicy, question: Question) -> Decision:
    """Decide whether an agent may have a credential for its intent, and on which terms."""
    intent = question.intent
    try:
        # 1. who asks, and does somebody answer for it
        agent = _agent(policy, question.principal)
        # 2. do the words of the intent exist: action, audience, resource type, set, purpose
        action = _action(policy, intent.action)
        service = _service(policy, agent, intent.audience)
        resource_type = _resource_type(service, action, intent)
        declared = _declared_set(policy, agent, intent)
        levels = _levels(action, resource_type, declared, intent)
        _check_set(action, levels, declared)
        _check_purpose(agent, intent)
        # 3. for which tenant
        tenant = resolve_tenant(agent, question.tenant)
        _check_tenant(service, declared, tenant)
        # 4. within which piece of work
        _check_task(action, intent)
        check_task_of_watched(policy.register, intent)
        check_within(policy, question, service, resource_type, tenant)
        # 5. what the policies say
        _check_parameters(intent)
        answer = policy.ask_for_agent(
            agent,
            tenant,
            action=action.name,
            resource=_entity(resource_type, intent, tenant, levels),
            context=_context(question, levels),
        )
        rules = _permitting(policy, answer, action, levels)
        # 6. on which terms: the tightest of all that permit, and what was granted before
        terms = _terms(rules, intent, tenant, action)
        apart_from, steps = held_to(policy.register, intent.action, question.history)
        terms = replace(terms, apart_from=apart_from, steps=steps)
    except Refusal as refusal:
        return denied(refusal, policy.digest)
    policy_ids = tuple(rule.id for rule in rules)
    # 7. what a person must approve waits for it: all that any of the policies requires, or a sequence
    requirements = _requirements(rules, terms)
    if requirements or action.action_class is ActionClass.HIGH_IMPACT:
        return Hold(terms=terms, requirements=requirements, policy_ids=policy_ids, bundle_digest=policy.digest)
    return Permit(terms=terms, policy_ids=policy_ids, bundle_digest=policy.digest)


def resolve_tenant(agent: Agent, tenant: str) -> str:
    """Return the tenant that an agent works for: the one named, if it is its own, or else its only one.

    Raises:
        Refusal: TENANT_REFUSED, TENANT_REQUIRED.

    """
    if tenant:
        if tenant not in agent.tenants:
            raise Refusal(Reason.TENANT_REFUSED)
        return tenant
    if len(agent.tenants) != 1:
        raise Refusal(Reason.TENANT_REQUIRED)
    return agent.tenants[0]


def _agent(policy: CompiledPolicy, spiffe_id: str) -> Agent:
    agent = policy.agent(spiffe_id)
    if agent is None:
        raise Refusal(Reason.PRINCIPAL_UNKNOWN, "not an agent of the bundle")
    if not agent.owned:
        raise Refusal(Reason.AGENT_WITHOUT_OWNER)
    return agent


def _action(policy: CompiledPolicy, name: str) -> Action:
    action = policy.actions.get(name)
    if action is None or action.action_class is ActionClass.MANAGE:
        raise Refusal(Reason.ACTION_UNKNOWN)
    return action


def _service(policy: CompiledPolicy, agent: Agent, spiffe_id: str) -> Service:
    """One that serves other tenants only is to this agent as none: a refusal of its own would tell that it exists."""
    service = policy.service(spiffe_id)
    if service is None or set(service.tenants).isdisjoint(agent.tenants):
        raise Refusal(Reason.AUDIENCE_UNKNOWN)
    return service


def _resource_type(service: Service, action: Action, intent: Intent) -> ResourceType:
    resource_type = service.resource_types.get(intent.resource.type)
    if resource_type is None:
        raise Refusal(Reason.RESOURCE_TYPE_UNKNOWN)
    if intent.resource.id and resource_type.cedar_type not in action.resources:
        raise Refusal(Reason.RESOURCE_TYPE_UNKNOWN, "the action does not apply to this resource type")
    return resource_type


def _declared_set(policy: CompiledPolicy, agent: Agent, intent: Intent) -> ResourceSet | None:
    """Return the set that is asked for, if any: declared for this service and type, and for a tenant of this agent."""
    if not intent.resource.set:
        return None
    declared = policy.register.sets.get(intent.resource.set)
    if (
        declared is None
        or (declared.service, declared.resource_type) != (intent.audience, intent.resource.type)
        or set(declared.tenants).isdisjoint(agent.tenants)
    ):
        raise Refusal(Reason.RESOURCE_SET_UNKNOWN)
    return declared


def _levels(action: Action, resource_type: ResourceType, declared: ResourceSet | None, intent: Intent) -> _Levels:
    return _Levels(
        sensitivity=max(
            resource_type.sensitivity,
            declared.sensitivity if declared else Level.LOW,
            intent.sensitivity or Level.LOW,
        ),
        risk=max(action.risk, intent.risk or Level.LOW),
    )


def _check_set(action: Action, levels: _Levels, declared: ResourceSet | None) -> None:
    """A set is declared for this action, and gives low-sensitivity reads only."""
    if declared is None:
        return
    if action.action_class is not ActionClass.READ or not levels.low:
        raise Refusal(Reason.RESOURCE_SET_REFUSED)
    if action.name not in declared.actions or RESOURCE_SET not in action.resources:
        raise Refusal(Reason.RESOURCE_SET_REFUSED, "the set is not declared for this action")


def _check_tenant(service: Service, declared: ResourceSet | None, tenant: str) -> None:
    """The service, and the set if there is one, must be this tenant's too."""
    if tenant not in service.tenants:
        raise Refusal(Reason.TENANT_REFUSED, "the audience does not serve this tenant")
    if declared is not None and tenant not in declared.tenants:
        raise Refusal(Reason.RESOURCE_SET_UNKNOWN, "not declared for this tenant")


def _check_purpose(agent: Agent, intent: Intent) -> None:
    if intent.purpose not in agent.purposes:
        raise Refusal(Reason.PURPOSE_REFUSED)


def _check_task(action: Action, intent: Intent) -> None:
    if action.action_class is not ActionClass.READ and not intent.task:
        raise Refusal(Reason.TASK_REQUIRED)


def _check_parameters(intent: Intent) -> None:
    """Refuse what Cedar's JSON would read as something else than the text it is; types are Cedar's business."""
    if _has_reserved_member(intent.parameters):
        raise Refusal(Reason.PARAMETERS_REFUSED, f"no member's name begins with {_RESERVED}")


def _has_reserved_member(value: Json) -> bool:
    """Whether a member's name is one that Cedar's JSON reads as an entity or an extension value."""
    match value:
        case dict():
            return any(
                str(name).startswith(_RESERVED) or _has_reserved_member(member) for name, member in value.items()
            )
        case list() | tuple():
            return any(map(_has_reserved_member, value))
        case _:
            return False


def _entity(resource_type: ResourceType, intent: Intent, tenant: str, levels: _Levels) -> Entity:
    if intent.resource.set:
        return resource_entity(RESOURCE_SET, tenant, intent.resource.set, levels.sensitivity)
    return resource_entity(resource_type.cedar_type, tenant, intent.resource.id, levels.sensitivity)


def _context(question: Question, levels: _Levels) -> dict[str, Json]:
    """Return what policies see beside principal, action and resource: no clock, no counter."""
    intent = question.intent
    return {
        "purpose": intent.purpose,
        "audience": intent.audience,
        "parameters": intent.parameters,
        "on_behalf_of": intent.on_behalf_of,
        "task": intent.task,
        "login": question.login,
        "sensitivity": levels.sensitivity.name.lower(),
        "risk": levels.risk.name.lower(),
    }


def _permitting(policy: CompiledPolicy, answer: Answer, action: Action, levels: _Levels) -> tuple[Rule, ...]:
    """Return the rules that permit; a rule that names no agent counts for low-risk reads only."""
    match answer.verdict:
        case Verdict.PERMITTED:
            pass
        case Verdict.FORBIDDEN | Verdict.SILENT | Verdict.ERROR:
            raise refusal_of(policy, answer)
        case Verdict.UNFIT:
            # Loading has shown that everything but the parameters fits: they are all that a caller shapes.
            raise Refusal(Reason.PARAMETERS_REFUSED)
        case _:
            assert_never(answer.verdict)
    rules = tuple(policy.rules[policy_id] for policy_id in answer.policy_ids)
    if action.action_class is ActionClass.READ and levels.low:
        return rules
    named = tuple(rule for rule in rules if rule.names_agent)
    if not named:
        detail = "permits that do not name the agent give low-risk reads only"
        raise Refusal(Reason.POLICY_NOT_PERMITTED, detail, policy_ids=answer.policy_ids)
    return named


def _terms(rules: tuple[Rule, ...], intent: Intent, tenant: str, action: Action) -> Terms:
    scope: Scope | None = Scope.of(intent)
    for rule in rules:
        scope = scope.narrow(rule.limits) if scope else None
    lifetimes = [rule.max_lifetime for rule in rules if rule.max_lifetime is not None]
    if scope is None or len(lifetimes) != len(rules):
        raise Refusal(Reason.SCOPE_EMPTY, policy_ids=tuple(rule.id for rule in rules if rule.limits))
    once = action.action_class is ActionClass.HIGH_IMPACT or any(rule.once for rule in rules)
    return Terms(
        scope=scope,
        max_lifetime=min(lifetimes),
        tenant=tenant,
        action_class=action.action_class,
        use="once" if once else "many",
        charges=charges_of((limit for rule in rules for limit in rule.totals), intent),
    )


def _requirements(rules: tuple[Rule, ...], terms: Terms) -> tuple[StepUp, ...]:
    stated = [rule.step_up for rule in rules] + [step.sequence.step_up for step in terms.steps if step.completes]
    return tuple(dict.fromkeys(required for required in stated if required is not None))
