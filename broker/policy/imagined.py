"""`decide` asked about what is not: the one order of checks, overheard, with another engine or another answer.

Explaining a decision and listing what can be permitted must not hold a second copy of the rules. Whatever they need to
know about the checks before Cedar, the question that Cedar is given and what becomes of its answer, they learn by
letting `decide` itself run on a policy that listens.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Final

from cedarpy import pst

from broker.errors import Reason
from broker.intent import Json
from broker.policy.compiled import Answer, CompiledPolicy, Entity, Verdict
from broker.policy.decide import decide
from broker.policy.decision import Deny, Question
from broker.policy.entities import Agent
from broker.policy.history import History
from broker.policy.rules import Rule, policy_set

_ANY: Final = pst.ScopeAny()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What `decide` asks Cedar, once every check before it has passed."""

    agent: Agent
    tenant: str
    action: str
    resource: Entity
    context: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listening(CompiledPolicy):
    """A policy that notes what Cedar would be asked and gives the answer that it was made with."""

    answer: Answer
    heard: list[Asked]

    def ask_for_agent(
        self, agent: Agent, tenant: str, *, action: str, resource: Entity, context: Mapping[str, Json]
    ) -> Answer:
        """Note the question."""
        self.heard.append(Asked(agent=agent, tenant=tenant, action=action, resource=resource, context=context))
        return self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that must hold for a rule to apply: a constraint of its scope, or a condition."""

    rule_id: str
    scope: str
    source: pst.Template


def asked(policy: CompiledPolicy, question: Question) -> Asked | Deny:
    """Return what Cedar would be asked, or the refusal of a check that comes before."""
    listening = _listening(policy, Answer(verdict=Verdict.SILENT))
    decision = decide(listening, question)
    if listening.heard:
        return listening.heard[0]
    assert isinstance(decision, Deny), "silence permits nothing"  # noqa: S101  # a defect, not an input
    return decision


def can_count(policy: CompiledPolicy, rule: Rule, question: Question) -> bool:
    """Whether a permit would be counted if it applied: one that names no agent gives low-risk reads only."""
    answer = Answer(verdict=Verdict.PERMITTED, policy_ids=(rule.id,))
    decision = decide(_listening(policy, answer), question)
    return not (isinstance(decision, Deny) and decision.reason is Reason.POLICY_NOT_PERMITTED)


def holding(policy: CompiledPolicy, question: Question, parts: Iterable[Part]) -> tuple[bool, ...]:
    """Return of each part whether it holds for a question: each is asked as a permit of its own.

    A part that cannot be evaluated, or a question that a check before Cedar refuses, does not hold.
    """
    sources = {f"part{number}": part.source for number, part in enumerate(parts)}
    rules = {name: _as_permit(name, source) for name, source in sources.items()}
    # What was granted before is a check behind Cedar; it would refuse every part alike.
    alone = replace(question, history=History())
    decision = decide(replace(policy, rules=rules, engine=policy_set(rules.values())), alone)
    return tuple(name in decision.policy_ids for name in sources)


def part(rule_id: str, scope: str, source: pst.Template, *conditions: pst.Expr) -> Part:
    """Return a part: one constraint ("principal", "action", "resource") of a rule's scope, or the conditions given.

    Args:
        rule_id: whose part it is.
        scope: the constraint's name, or empty for conditions.
        source: the rule as parsed.
        conditions: what must be true.

    """
    template = pst.Template(
        id=rule_id,
        effect="permit",
        principal=source.principal if scope == "principal" else _ANY,
        action=source.action if scope == "action" else _ANY,
        resource=source.resource if scope == "resource" else _ANY,
        clauses=tuple(pst.When(condition) for condition in conditions),
        annotations=pst.FrozenMap(),
    )
    return Part(rule_id=rule_id, scope=scope, source=template)


def _listening(policy: CompiledPolicy, answer: Answer) -> _Listening:
    same = {field.name: getattr(policy, field.name) for field in fields(CompiledPolicy)}
    return _Listening(**same, answer=answer, heard=[])


def _as_permit(name: str, source: pst.Template) -> Rule:
    """Return a rule that counts whenever it applies."""
    return Rule(
        id=name,
        file="",
        line=None,
        permits=True,
        names_agent=True,
        annotations=frozenset(),
        max_lifetime=timedelta(minutes=1),
        once=False,
        limits={},
        step_up=None,
        totals=(),
        reason="",
        source=source,
    )
