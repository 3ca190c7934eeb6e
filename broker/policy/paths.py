"""Who can get to what: each agent, action and service that policy can permit, with the condition that is left.

Cedar's partial evaluation leaves resource and context open and says what remains of each rule; then one concrete
question a row is decided, by `decide` itself, to show that the row is real. A row without such a question says so.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Final

from cedarpy import pst

from broker.intent import Intent, Resource
from broker.policy.candidates import LIVE_TASK, literals_of, unnamed_id
from broker.policy.cedar_text import text_of
from broker.policy.compiled import CompiledPolicy
from broker.policy.decide import decide
from broker.policy.decision import ActionClass, Deny, Hold, Question
from broker.policy.entities import Agent, Service
from broker.policy.history import told
from broker.policy.imagined import Asked, asked
from broker.policy.limit import Limit
from broker.policy.nearest import Found
from broker.policy.residual import Known, Residual, narrowed, open_member, possible, residuals
from broker.policy.resource_types import ResourceType
from broker.policy.rules import Rule
from broker.policy.schema import RESOURCE_SET, Action
from broker.policy.shape import parameters_of
from broker.policy.within import variants
from broker.policy.witness import Witnesses
from broker.scope import Constraint

ALWAYS: Final = "true"
LOGIN: Final = "x509"
# What stands fast for a row; the rest of the context is the caller's to say.
_FIXED: Final = frozenset({"audience", "login"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One policy that can have a say in a row.

    Attributes:
        policy_id: its id.
        text: what must hold for it to apply, in Cedar; "true" when it always applies.
        max_lifetime: of a permit.
        limits: of a permit, from its @scope.
        totals: of a permit, from its @limit.
        reason: of a forbid, from its @reason.

    """

    policy_id: str
    text: str
    max_lifetime: timedelta | None
    limits: Mapping[str, Constraint]
    totals: tuple[Limit, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One agent, for one tenant, can be permitted one action on one kind of resource of one service.

    Attributes:
        agent: its SPIFFE ID.
        tenant: for which it works.
        action: what it does.
        action_class: of the action.
        service: the SPIFFE ID of the audience.
        resource_type: as intents call it.
        resource_set: a declared set, or empty for single resources.
        permits: at least one of these must apply.
        forbids: and none of these.
        max_lifetime: no credential of this row lives longer.
        witness: a question that is permitted or held when decided; None when none was found.
        held: the witness waits for a person's approval.
        history: what separate duties and sequences ask of the action, a line each.

    """

    agent: str
    tenant: str
    action: str
    action_class: ActionClass
    service: str
    resource_type: str
    resource_set: str
    permits: tuple[Condition, ...]
    forbids: tuple[Condition, ...]
    max_lifetime: timedelta
    witness: Question | None
    held: bool
    history: tuple[str, ...]

    @property
    def confirmed(self) -> bool:
        """Whether a decision has shown that this row is real."""
        return self.witness is not None


def paths(
    policy: CompiledPolicy,
    examples: Iterable[Question] = (),
    *,
    agents: Container[str] | None = None,
    tenants: Container[str] | None = None,
) -> Iterator[Path]:
    """Yield every path, by agent, tenant, action, service and resource.

    Args:
        policy: the bundle.
        examples: questions to try first as witnesses, such as those of the golden cases.
        agents: these only; None for all.
        tenants: these only; None for all.

    """
    finder = _Finder(policy, examples)
    for agent in policy.register.agents.values():
        if agents is not None and agent.spiffe_id not in agents:
            continue
        for tenant in agent.tenants:
            if tenants is None or tenant in tenants:
                yield from finder.of_agent(agent, tenant)


class _Finder:
    """Finds paths; keeps what several rows need."""

    def __init__(self, policy: CompiledPolicy, examples: Iterable[Question]) -> None:
        # Rows are found as if there were no task types, and then held to them: what is searched stays small.
        self._bundle = policy
        self._policy = policy = replace(policy, register=replace(policy.register, task_types={}))
        self._unnamed = unnamed_id(literals_of(policy.rules.values()))
        self._witnesses = Witnesses(policy, examples)
        self._shape = cache(lambda action, kind: parameters_of(policy.schema, action, kind))
        # An index: no question is put to rules whose scope names other actions, or another agent.
        self._by_agent: dict[str, list[Rule]] = {}
        for rule in policy.rules.values():
            self._by_agent.setdefault(_named_agent(rule), []).append(rule)

    def of_agent(self, agent: Agent, tenant: str) -> Iterator[Path]:
        """Yield the paths of one agent in one tenant."""
        about_agent = [*self._by_agent.get("", ()), *self._by_agent.get(agent.spiffe_id, ())]
        for name, action in self._policy.actions.items():
            about = [rule for rule in about_agent if _can_be_about(rule, action)]
            if action.action_class is ActionClass.MANAGE or not any(rule.permits for rule in about):
                continue
            rules = possible(narrowed(self._policy, about), Known(agent=agent, tenant=tenant, action=name))
            if not any(rule.permits for rule in rules):
                continue
            for service in self._policy.register.services.values():
                for kind in service.resource_types.values():
                    for resource in self._resources(service, kind):
                        path = self._path(_question(agent, tenant, name, service, resource), kind, rules)
                        if path is not None:
                            yield path

    def _resources(self, service: Service, kind: ResourceType) -> Iterator[Resource]:
        yield Resource(type=kind.name, id=self._unnamed)
        for entry in self._policy.register.sets.values():
            if (entry.service, entry.resource_type) == (service.spiffe_id, kind.name):
                yield Resource(type=kind.name, set=entry.name)

    def _path(self, question: Question, kind: ResourceType, rules: tuple[Rule, ...]) -> Path | None:
        """Return the row that a question stands for; None when no question of the row can be permitted."""
        heard = asked(self._policy, question)
        if isinstance(heard, Deny) or not self._in_tasks(question):
            return None
        left = self._left(heard, rules)
        # The search below would come to the same end, after many decisions.
        if any(one.fails for one in left.values()) or any(left[rule.id].always for rule in rules if not rule.permits):
            return None
        rules = tuple(rule for rule in rules if not left[rule.id].never)
        if not any(rule.permits for rule in rules):
            return None
        shape = self._shape(question.intent.action, RESOURCE_SET if question.intent.resource.set else kind.cedar_type)
        found = self._held_to_types(self._witnesses.find(question, rules, shape))
        rules = self._living(question, heard, rules, found)
        return self._row(question, rules, left, found) if any(rule.permits for rule in rules) else None

    def _in_tasks(self, question: Question) -> tuple[Question, ...]:
        return tuple(variants(self._bundle, question)) if self._bundle.register.task_types else (question,)

    def _held_to_types(self, found: Found | None) -> Found | None:
        """Return what was found as the bundle itself decides it, in some task; None when it lies outside of all."""
        if found is None:
            return None
        for question in self._in_tasks(found.question):
            decision = decide(self._bundle, question)
            if not isinstance(decision, Deny):
                return replace(found, question=question, decision=decision)
        return None

    def _living(
        self, question: Question, heard: Asked, rules: tuple[Rule, ...], found: Found | None
    ) -> tuple[Rule, ...]:
        """Return the rules without those that apply in no case of the row, unless a decision has shown that all do."""
        proven = found.decision.policy_ids if found else ()
        if all(rule.id in proven or not (rule.permits or _looks_at(rule, heard)) for rule in rules):
            return rules
        live = self._witnesses.applying(question, rules)
        return tuple(rule for rule in rules if rule.id in live or rule.id in proven)

    def _row(
        self, question: Question, rules: tuple[Rule, ...], left: Mapping[str, Residual], found: Found | None
    ) -> Path:
        intent = question.intent
        return Path(
            agent=question.principal,
            tenant=question.tenant,
            action=intent.action,
            action_class=self._policy.actions[intent.action].action_class,
            service=intent.audience,
            resource_type=intent.resource.type,
            resource_set=intent.resource.set,
            permits=tuple(_condition(rule, left[rule.id]) for rule in rules if rule.permits),
            forbids=tuple(_condition(rule, left[rule.id]) for rule in rules if not rule.permits),
            max_lifetime=_longest(rules, left),
            witness=found.question if found else None,
            held=found is not None and isinstance(found.decision, Hold),
            history=tuple(told(self._bundle.register, intent.action)),
        )

    def _left(self, heard: Asked, rules: tuple[Rule, ...]) -> dict[str, Residual]:
        """Return what is left of each rule: of the resource too, where a rule looks at more than type and tenant."""
        context = {name: value if name in _FIXED else open_member(name) for name, value in heard.context.items()}
        known = Known(agent=heard.agent, tenant=heard.tenant, action=heard.action, context=context)
        left = residuals(narrowed(self._policy, rules), replace(known, resource=heard.resource))
        # The resource of the question stands for every one of the row: what names it would be about this one alone.
        name = text_of(pst.StringLit(heard.resource["uid"]["id"]))
        looking = [rule for rule in rules if _looks_at(rule, heard) or name in left[rule.id].text]
        return left | residuals(narrowed(self._policy, looking), known) if looking else left


def _question(agent: Agent, tenant: str, action: str, service: Service, resource: Resource) -> Question:
    """Return a question of this row that passes every check before Cedar, if any does."""
    intent = Intent(
        action=action, resource=resource, purpose=agent.purposes[0], audience=service.spiffe_id, task=LIVE_TASK
    )
    return Question(principal=agent.spiffe_id, login=LOGIN, intent=intent, tenant=tenant)


def _named_agent(rule: Rule) -> str:
    """Return the one agent that a rule's scope names; empty when it leaves room for several."""
    match rule.source.principal:
        case pst.ScopeEq(entity=pst.EntityUid(id=name)) if rule.names_agent:
            return name
        case _:
            return ""


def _can_be_about(rule: Rule, action: Action) -> bool:
    """Whether a rule's scope leaves room for an action: it names it, its class (which has no parent), or no action."""
    named = rule.named_actions()
    return named is None or not named.isdisjoint({action.name, action.action_class.value})


def _looks_at(rule: Rule, heard: Asked) -> bool:
    """Whether a rule tells single resources of a row apart: by a name, by sensitivity, or by comparing."""
    kind = heard.resource["uid"]["type"]
    if kind == RESOURCE_SET:
        return False
    named = {str(entity.type) for entity in pst.entity_uids(rule.source)}
    return bool(named & {kind, "Sensitivity"})


def _condition(rule: Rule, left: Residual) -> Condition:
    return Condition(
        policy_id=rule.id,
        text=left.text,
        max_lifetime=rule.max_lifetime,
        limits=rule.limits,
        totals=rule.totals,
        reason=rule.reason,
    )


def _longest(rules: tuple[Rule, ...], left: Mapping[str, Residual]) -> timedelta:
    """Return a bound that every credential of a row keeps.

    A permit that always applies tightens every one of them, if it names the agent: one that does not stops counting
    when the caller raises a level.
    """
    permits = [rule for rule in rules if rule.permits and rule.max_lifetime is not None]
    always = [rule.max_lifetime for rule in permits if rule.names_agent and left[rule.id].always]
    return min(filter(None, always)) if always else max(filter(None, (rule.max_lifetime for rule in permits)))
