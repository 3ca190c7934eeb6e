"""What is left of a rule once everything that is known of a question has been filled in, by Cedar's partial evaluation.

A residual says what could hold, never what may be done: who lists paths has each one decided as well.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import cedarpy
from cedarpy import pst

from broker.policy.cedar_text import clause_expression, conjuncts, text_of
from broker.policy.compiled import CompiledPolicy, Entity, uid
from broker.policy.entities import Agent
from broker.policy.rules import Rule, policy_set

_CONTEXT: Final = "context"
_FAILED: Final = re.compile(r"evaluating policy `([^`]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """What is left of one rule.

    Attributes:
        always: it applies whatever the rest is.
        never: it cannot apply.
        fails: it cannot be evaluated, so that every answer is no.
        conditions: what must all hold otherwise, as Cedar text.

    """

    always: bool = False
    never: bool = False
    fails: bool = False
    conditions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it as one Cedar condition."""
        if not self.conditions:
            return "true" if self.always else "false"
        several = len(self.conditions) > 1
        return " && ".join(f"({one})" if several and "||" in one else one for one in self.conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a question; everything else is left open.

    Attributes:
        agent: who asks.
        tenant: for which tenant.
        action: what would be done.
        resource: what is touched; None leaves it open.
        context: the members that are known; None leaves the whole context open.

    """

    agent: Agent
    tenant: str
    action: str
    resource: Entity | None = None
    context: Mapping[str, Any] | None = None


def open_member(name: str) -> dict[str, Any]:
    """Return what stands in a context for a member that is left open."""
    return {"__extn": {"fn": "unknown", "arg": f"{_CONTEXT}.{name}"}}


def narrowed(policy: CompiledPolicy, rules: Iterable[Rule]) -> CompiledPolicy:
    """Return the policy with these of its rules only."""
    chosen = {rule.id: rule for rule in rules}
    return replace(policy, rules=chosen, engine=policy_set(chosen.values()))


def possible(policy: CompiledPolicy, known: Known) -> tuple[Rule, ...]:
    """Return the rules that can still apply, or fail; cheaper than to say under which conditions."""
    diagnostics = _ask(policy, known).diagnostics
    ids = {*diagnostics.nontrivial_residuals, *diagnostics.reasons, *_failed(diagnostics.errors)}
    return tuple(rule for rule in policy.rules.values() if rule.id in ids)


def residuals(policy: CompiledPolicy, known: Known) -> dict[str, Residual]:
    """Return what is left of each rule, by id."""
    result = _ask(policy, known)
    failed = _failed(result.diagnostics.errors)
    return {
        rule_id: Residual(fails=True) if rule_id in failed else _residual(result.residuals[rule_id])
        for rule_id in policy.rules
    }


def _ask(policy: CompiledPolicy, known: Known) -> cedarpy.PartialAuthzResult:
    """Evaluate as far as it goes.

    No schema goes with the question: the rules were type-checked with it when the bundle was loaded, and the engine
    would refuse a context that holds something open.
    """
    entities = policy.bases[known.agent.spiffe_id, known.tenant]
    request: dict[str, Any] = {
        "principal": _name(uid("Agent", known.agent.spiffe_id)),
        "action": _name(uid("Action", known.action)),
    }
    if known.resource is not None:
        entities = entities.with_added_json_str(json.dumps([known.resource]))
        request["resource"] = _name(known.resource["uid"])
    if known.context is not None:
        request["context"] = dict(known.context)
    return cedarpy.is_authorized_partial(request, policy.engine, entities)


def _failed(errors: Iterable[str]) -> frozenset[str]:
    """Return the rules that fail to evaluate whatever the rest is."""
    return frozenset(found[1] for error in errors if (found := _FAILED.search(error)))


def _residual(written: Mapping[str, Any]) -> Residual:
    if all(condition["body"] == {"Value": False} for condition in written["conditions"]):
        return Residual(never=True)
    parts = [part for clause in _parsed(written).clauses for part in conjuncts(clause_expression(clause))]
    if pst.BoolLit(value=False) in parts:
        return Residual(never=True)
    return Residual(always=not parts, conditions=tuple(dict.fromkeys(map(text_of, parts))))


def _parsed(written: Mapping[str, Any]) -> pst.Template:
    """Let the engine parse its own residual, with the names back in the places that were left open."""
    document = {"staticPolicies": {"residual": _closed(written)}, "templates": {}, "templateLinks": []}
    text = cedarpy.policies_from_json_str(json.dumps(document))
    (template,) = cedarpy.policies_to_pst(text).static_policies.values()
    return template


def _closed(value: Any) -> Any:  # noqa: ANN401  # JSON of the engine's own making
    match value:
        case {"unknown": [{"Value": str(name)}]}:
            first, *members = name.split(".")
            closed: dict[str, Any] = {"Var": first}
            for member in members:
                closed = {".": {"left": closed, "attr": member}}
            return closed
        case dict():
            return {key: _closed(member) for key, member in value.items()}
        case list():
            return [_closed(member) for member in value]
        case _:
            return value


def _name(entity: Mapping[str, str]) -> str:
    """Return an entity's name as Cedar syntax, for the one interface that takes nothing else."""
    return text_of(pst.EntityLit(pst.EntityUid(pst.EntityType(entity["type"]), entity["id"])))
