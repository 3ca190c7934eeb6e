"""Why a decision came out as it did, and what would have to change: for one question, computed and decided again.

Nothing here decides. The decision is `decide`'s; whether a condition holds is asked of Cedar, through `decide`, one
condition at a time; a way out is shown only after the changed question has been decided and was not refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from broker.errors import Reason
from broker.policy.candidates import values_for
from broker.policy.cedar_text import clause_expression, conjuncts, scope_text, text_of
from broker.policy.compiled import CompiledPolicy
from broker.policy.decide import decide
from broker.policy.decision import ActionClass, Decision, Deny, Question
from broker.policy.facts import Fact, facts_about
from broker.policy.history import told
from broker.policy.imagined import Asked, Part, asked, holding, part
from broker.policy.nearest import Effort, Found, Place, nearest
from broker.policy.residual import Known, possible
from broker.policy.rules import Rule
from broker.policy.schema import RESOURCE_SET
from broker.policy.shape import Members, parameters_of

_SEARCH: Final = Effort(changes=3, decisions=3000)
_SHOWN: Final = 8
_SOMEBODY: Final = "somebody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One thing that must hold for a policy to apply, and whether it does."""

    text: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """One policy about this action, and how it looks at the question.

    Attributes:
        rule: the policy.
        requirements: of its scope and its conditions.
        decided: it stands behind the decision.
        applies: all its requirements hold.

    """

    rule: Rule
    requirements: tuple[Requirement, ...]
    decided: bool

    @property
    def applies(self) -> bool:
        """Whether everything that it requires holds."""
        return all(requirement.holds for requirement in self.requirements)

    @property
    def missing(self) -> tuple[str, ...]:
        """What does not hold."""
        return tuple(requirement.text for requirement in self.requirements if not requirement.holds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why, and what else.

    Attributes:
        question: as asked.
        decision: as decided.
        considered: the policies that Cedar was asked about; those behind the decision first, then the nearest. Empty
            when a check before Cedar refused.
        elsewhere: how many more policies are about this action, for other principals.
        facts: what the bundle says about the check that refused.
        bundle_change: what would have to change in the bundle before any question can pass; empty when nothing has to.
        ways: changed questions that are not refused, with the fewest changes; each was decided.
        history: what separate duties and sequences ask of the action, a line each.

    """

    question: Question
    decision: Decision
    considered: tuple[Considered, ...]
    elsewhere: int
    facts: tuple[Fact, ...]
    bundle_change: str
    ways: tuple[Found, ...]
    history: tuple[str, ...]


def explain(policy: CompiledPolicy, question: Question) -> Explanation:
    """Explain the decision on one question."""
    decision = decide(policy, question)
    heard = asked(policy, question)
    considered = _considered(policy, question, decision) if isinstance(heard, Asked) else ()
    about = tuple(one for one in considered if _concerns(one, "principal"))
    shape = _shape(policy, question)
    changed, sentence = _with_owner(policy, question, decision)
    hopeless = isinstance(decision, Deny) and _is_out_of_reach(policy, question)
    if hopeless:
        permit = "no policy permits this action to this agent, whatever else the intent says: write a permit"
        sentence = f"{sentence}; {permit}" if sentence else permit
    return Explanation(
        question=question,
        decision=decision,
        considered=about,
        elsewhere=len(considered) - len(about),
        facts=tuple(facts_about(policy, question, decision, shape)),
        bundle_change=sentence,
        ways=_ways(changed, question, shape) if isinstance(decision, Deny) and not hopeless else (),
        history=tuple(told(policy.register, question.intent.action)),
    )


def _considered(policy: CompiledPolicy, question: Question, decision: Decision) -> tuple[Considered, ...]:
    """Return the policies about this action; those that decided first, then by how little they miss."""
    parts = {rule.id: tuple(_parts(rule)) for rule in policy.rules.values()}
    flat = [one for several in parts.values() for one, _ in several]
    held = dict(zip(map(id, flat), holding(policy, question, flat), strict=True))
    found = [
        Considered(
            rule=policy.rules[rule_id],
            requirements=tuple(Requirement(text=text, holds=held[id(one)]) for one, text in several),
            decided=rule_id in decision.policy_ids,
        )
        for rule_id, several in parts.items()
    ]
    about = [one for one in found if _concerns(one, "action")]
    return tuple(sorted(about, key=lambda one: (not one.decided, not one.applies, len(one.missing), one.rule.id)))


def _concerns(one: Considered, scope: str) -> bool:
    """Whether the constraint of a rule's scope on the principal, or on the action, holds."""
    return all(requirement.holds for requirement in one.requirements if requirement.text.split(" ", 1)[0] == scope)


def _parts(rule: Rule) -> Iterator[tuple[Part, str]]:
    """Yield what a rule requires, each with its text."""
    source = rule.source
    for scope, constraint in (
        ("principal", source.principal),
        ("action", source.action),
        ("resource", source.resource),
    ):
        text = scope_text(scope, constraint)
        if text:
            yield part(rule.id, scope, source), text
    for clause in source.clauses:
        for condition in conjuncts(clause_expression(clause)):
            yield part(rule.id, "", source, condition), text_of(condition)


def _shape(policy: CompiledPolicy, question: Question) -> Members | None:
    action = policy.actions.get(question.intent.action)
    if action is None or action.action_class is ActionClass.MANAGE:
        return None
    return next(
        (found for kind in _kinds(policy, question) if (found := parameters_of(policy.schema, action.name, kind))), None
    )


def _kinds(policy: CompiledPolicy, question: Question) -> Iterator[str]:
    """Yield the Cedar types that the question could be about, the one asked for first."""
    intent, service = question.intent, policy.service(question.intent.audience)
    kind = service.resource_types.get(intent.resource.type) if service else None
    if intent.resource.set:
        yield RESOURCE_SET
    elif kind:
        yield kind.cedar_type
    yield from sorted(policy.actions[intent.action].resources)


def _ways(policy: CompiledPolicy, question: Question, shape: Members | None) -> tuple[Found, ...]:
    """Return the nearest questions that are not refused: for each part only the nearest number, but every name."""
    values = values_for(policy, question, policy.rules.values(), shape)
    found: dict[tuple[object, ...], Found] = {}
    for way in nearest(policy, question, values, _SEARCH):
        key = tuple((change.place, None if _is_open(change.place) else repr(change.after)) for change in way.changes)
        found.setdefault(key, way)
    return tuple(found.values())[:_SHOWN]


def _is_open(place: Place) -> bool:
    """Whether a place has so many values that one example is enough."""
    return place[0] in {"parameters", "on_behalf_of"}


def _is_out_of_reach(policy: CompiledPolicy, question: Question) -> bool:
    """Whether no permit can ever apply to this agent and this action, in any of its tenants."""
    agent, action = policy.agent(question.principal), policy.actions.get(question.intent.action)
    if agent is None or action is None or action.action_class is ActionClass.MANAGE:
        return False
    return not any(
        rule.permits
        for tenant in agent.tenants
        for rule in possible(policy, Known(agent=agent, tenant=tenant, action=action.name))
    )


def _with_owner(policy: CompiledPolicy, question: Question, decision: Decision) -> tuple[CompiledPolicy, str]:
    """Return the policy with an owner for an agent that has none, and what was changed for it."""
    if not isinstance(decision, Deny) or decision.reason is not Reason.AGENT_WITHOUT_OWNER:
        return policy, ""
    agent = policy.register.agents[question.principal]
    owned = replace(
        agent,
        business_owner=agent.business_owner.strip() or _SOMEBODY,
        security_owner=agent.security_owner.strip() or _SOMEBODY,
    )
    empty = [name for name in ("business_owner", "security_owner") if not getattr(agent, name).strip()]
    register = replace(policy.register, agents={**policy.register.agents, agent.spiffe_id: owned})
    return replace(policy, register=register), f"give the agent its {' and '.join(empty)} in entities.toml"
