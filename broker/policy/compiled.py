"""Policy as compiled: parsed once, asked many times, never changed.

Entities as Cedar sees them are made here. An agent is in one tenant at a time, the one that the question is about: an
agent that serves two business units never profits from a rule of the one while it works for the other.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

import cedarpy

from broker.errors import Reason, Refusal
from broker.intent import Json, Level
from broker.policy.decision import ActionClass, Target, TargetKind
from broker.policy.entities import Agent, Operator, Principal, Register, Service
from broker.policy.rules import Rule
from broker.policy.schema import RESOURCE_SET, TARGET_TYPES, Action

Uid: TypeAlias = dict[str, str]
Entity: TypeAlias = dict[str, Any]

_BROKER_FAILED: Final = (ValueError, TypeError, RecursionError)


class Verdict(Enum):
    """What Cedar says."""

    PERMITTED = "permitted"
    FORBIDDEN = "forbidden"
    SILENT = "nothing permits"
    UNFIT = "the request does not fit the schema"
    ERROR = "a policy failed to evaluate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Cedar's verdict, with the ids of the policies behind it."""

    verdict: Verdict
    policy_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledPolicy:
    """A whole bundle, checked, ready to decide.

    Attributes:
        digest: of the bundle's files.
        register: who and what there is.
        actions: by name; of class manage too.
        rules: by @id.
        engine: the rules as the engine has them, each under its @id.
        schema: as parsed.
        bases: for each agent and tenant, the entities that stand behind every question of theirs.

    """

    digest: str
    register: Register
    actions: Mapping[str, Action]
    rules: Mapping[str, Rule]
    engine: cedarpy.PolicySet
    schema: cedarpy.Schema
    bases: Mapping[tuple[str, str], cedarpy.Entities]

    @property
    def tenants(self) -> tuple[str, ...]:
        """The names of all tenants."""
        return self.register.tenants

    @property
    def policy_ids(self) -> tuple[str, ...]:
        """The ids of all policies."""
        return tuple(self.rules)

    def agent(self, spiffe_id: str) -> Agent | None:
        """Return the agent of that exact ID."""
        return self.register.agents.get(spiffe_id)

    def service(self, spiffe_id: str) -> Service | None:
        """Return the service of that exact ID."""
        return self.register.services.get(spiffe_id)

    def operator(self, spiffe_id: str) -> Operator | None:
        """Return the operator of that exact ID."""
        return self.register.operators.get(spiffe_id)

    def knows(self, kind: TargetKind, name: str) -> bool:
        """Whether the bundle declares it; tasks, credentials and the log are the store's."""
        match kind:
            case TargetKind.AGENT:
                return name in self.register.agents
            case TargetKind.SERVICE:
                return name in self.register.services
            case TargetKind.TENANT:
                return name in self.register.tenants
            case TargetKind.POLICY:
                return name in self.rules
            case TargetKind.TASK | TargetKind.CREDENTIAL | TargetKind.LOG:
                return False

    def ask_for_agent(
        self, agent: Agent, tenant: str, *, action: str, resource: Entity, context: Mapping[str, Json]
    ) -> Answer:
        """Ask Cedar about an intent.

        Args:
            agent: who asks.
            tenant: one of the agent's own.
            action: declared by the schema.
            resource: from `resource_entity`.
            context: exactly the members that the schema's check demands.

        """
        principal = uid("Agent", agent.spiffe_id)
        try:
            entities = self.bases[agent.spiffe_id, tenant].with_added_json_str(json.dumps([resource]))
            return self._ask(principal, action, resource["uid"], context, entities)
        except _BROKER_FAILED:
            return Answer(verdict=Verdict.UNFIT)

    def ask_to_manage(self, principal: Principal, *, action: str, target: Target, login: str) -> Answer:
        """Ask Cedar about a manage action."""
        asking, touched = principal_entity(principal), self.target_entity(target)
        entities = [asking] if asking["uid"] == touched["uid"] else [asking, touched]
        try:
            return self._ask(asking["uid"], action, touched["uid"], {"login": login}, entities)
        except _BROKER_FAILED:
            return Answer(verdict=Verdict.ERROR)

    def target_entity(self, target: Target) -> Entity:
        """Return the entity that a manage action is about; what the bundle knows comes from the bundle."""
        known: Principal | None = None
        match target.kind:
            case TargetKind.AGENT:
                known = self.agent(target.id)
            case TargetKind.SERVICE:
                known = self.service(target.id)
            case _:
                pass
        if known is not None:
            return principal_entity(known)
        parents = [uid("Tenant", target.tenant)] if target.tenant and target.kind is not TargetKind.TENANT else []
        return entity(uid(TARGET_TYPES[target.kind], target.id), parents)

    def _ask(
        self,
        principal: Uid,
        action: str,
        resource: Uid,
        context: Mapping[str, Json],
        entities: cedarpy.Entities | list[Entity],
    ) -> Answer:
        """Evaluate the whole set. An index over the rules' scopes would choose a part of it here."""
        request = {
            "principal": principal,
            "action": uid("Action", action),
            "resource": resource,
            "context": json.dumps(context),
        }
        result = cedarpy.is_authorized(request, self.engine, entities, self.schema)
        decision, diagnostics = result.decision, result.diagnostics
        if decision is cedarpy.Decision.NoDecision:
            return Answer(verdict=Verdict.UNFIT)
        policy_ids = tuple(sorted(diagnostics.reasons))
        if diagnostics.errors:
            # Cedar skips a policy that fails; if that was a forbid, the rest must not count.
            return Answer(verdict=Verdict.ERROR, policy_ids=policy_ids)
        if decision is cedarpy.Decision.Allow:
            return Answer(verdict=Verdict.PERMITTED, policy_ids=policy_ids)
        return Answer(verdict=Verdict.FORBIDDEN if policy_ids else Verdict.SILENT, policy_ids=policy_ids)


def refusal_of(policy: CompiledPolicy, answer: Answer) -> Refusal:
    """Return the refusal for an answer that is not a permit; a forbid speaks to the user through its @reason."""
    if answer.verdict is Verdict.FORBIDDEN:
        sentences = (policy.rules[policy_id].reason for policy_id in answer.policy_ids)
        sentence = next((sentence for sentence in sentences if sentence), "")
        return Refusal(Reason.POLICY_FORBIDDEN, policy_ids=answer.policy_ids, sentence=sentence)
    if answer.verdict is Verdict.SILENT:
        return Refusal(Reason.POLICY_NOT_PERMITTED)
    return Refusal(Reason.POLICY_ERROR, policy_ids=answer.policy_ids)


def uid(kind: str, name: str) -> Uid:
    """Return an entity's name as data: no character of it is ever read as syntax."""
    return {"type": kind, "id": name}


def entity(name: Uid, parents: list[Uid]) -> Entity:
    """Return an entity without attributes."""
    return {"uid": name, "attrs": {}, "parents": parents}


def resource_entity(cedar_type: str, tenant: str, name: str, sensitivity: Level) -> Entity:
    """Return the one resource of a question: <tenant>/<id>, in its tenant and its sensitivity."""
    parents = [uid("Tenant", tenant), uid("Sensitivity", sensitivity.name.lower())]
    return entity(uid(cedar_type, f"{tenant}/{name}"), parents)


def agent_entity(agent: Agent, tenants: tuple[str, ...]) -> Entity:
    """Return an agent as it stands in these tenants."""
    parents = [uid("Tenant", tenant) for tenant in tenants] + [uid("Role", role) for role in agent.roles]
    return entity(uid("Agent", agent.spiffe_id), parents)


def principal_entity(principal: Principal) -> Entity:
    """Return a principal as manage actions see it: in all its tenants and roles."""
    tenants = [uid("Tenant", tenant) for tenant in principal.tenants]
    match principal:
        case Agent():
            return agent_entity(principal, principal.tenants)
        case Service():
            return entity(uid("Service", principal.spiffe_id), tenants)
        case Operator():
            roles = [uid("Role", role) for role in principal.roles]
            return entity(uid("Operator", principal.spiffe_id), tenants + roles)


def probe_entities(register: Register, actions: Mapping[str, Action]) -> list[Entity]:
    """Return one entity of every kind that a decision can need, to be held against the schema before any is asked."""
    people: list[Principal] = [
        *register.agents.values(),
        *register.services.values(),
        *register.operators.values(),
    ]
    tenant = register.tenants[0] if register.tenants else "none"
    used = {kind for action in actions.values() for kind in action.resources}
    resources = [
        resource_entity(kind, tenant, "probe", Level.LOW)
        for kind in sorted(used & (register.cedar_types | {RESOURCE_SET}))
    ]
    manage = {
        kind for action in actions.values() if action.action_class is ActionClass.MANAGE for kind in action.resources
    }
    targets = [
        entity(uid(kind, "probe"), [uid("Tenant", tenant)]) for kind in sorted(manage & {"Task", "Credential", "Log"})
    ]
    return [*map(principal_entity, people), *resources, *targets]
