"""Witnesses: one question that shows a path to be real, or all cases that show it not to be."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Final

from broker.intent import Level, Resource
from broker.policy.candidates import values_for
from broker.policy.compiled import CompiledPolicy
from broker.policy.decision import Deny, Question
from broker.policy.imagined import asked, can_count
from broker.policy.nearest import Effort, Found, Place, Value, nearest, with_value
from broker.policy.residual import Known, narrowed, open_member, residuals
from broker.policy.rules import Rule
from broker.policy.shape import Members, repaired

_ASKED_AS_IT_IS: Final = Effort(changes=0, decisions=1)
_SEARCH: Final = Effort(changes=4, decisions=1500)
_RAISED: Final = (None, Level.MODERATE, Level.HIGH)
# What makes a row; a witness leaves it as it is.
_ROW: Final = frozenset({"principal", "action", "audience", "tenant"})
# What has no finite number of values.
_UNBOUNDED: Final = ("parameters", "on_behalf_of", "task")


class Witnesses:
    """Finds witnesses, among the examples first."""

    def __init__(self, policy: CompiledPolicy, examples: Iterable[Question]) -> None:
        self._policy = policy
        self._examples: dict[tuple[str, ...], list[Question]] = {}
        for example in examples:
            agent = policy.agent(example.principal)
            tenants = (example.tenant,) if example.tenant else agent.tenants if agent else ()
            for tenant in tenants:
                pinned = replace(example, tenant=tenant)
                self._examples.setdefault(_row(pinned), []).append(pinned)

    def find(self, question: Question, rules: Iterable[Rule], shape: Members | None) -> Found | None:
        """Return a question of the same row that is permitted or held; None when the search found none.

        Args:
            question: of the row; it passes every check before Cedar.
            rules: those that could apply.
            shape: of the parameters, when it is known.

        """
        rules = tuple(rules)
        examples = self._examples.get(_row(question), [])
        for example in examples:
            for found in nearest(self._policy, example, {}, _ASKED_AS_IT_IS):
                return found
        start = with_value(question, ("parameters",), repaired(shape, {})) if shape else None
        start = start or question
        for first in (start, self._filled(start, rules, shape), *examples):
            values = values_for(self._policy, first, rules, shape)
            within = {place: _within_row(question, place, options) for place, options in values.items()}
            for found in nearest(self._policy, first, within, _SEARCH):
                return found
        return None

    def applying(self, question: Question, rules: Iterable[Rule]) -> frozenset[str]:
        """Return the rules that can apply in some case of what is finite: resource, purpose and levels.

        Only what cannot be counted is left open, so that nothing is claimed which every decision would refuse. A permit
        has to count, and no forbid to apply for certain, in the same case.
        """
        rules = tuple(rules)
        narrow, found = narrowed(self._policy, rules), set[str]()
        for case in self._cases(question, rules):
            heard = asked(self._policy, case)
            if isinstance(heard, Deny) or len(found) == len(rules):
                continue
            context = {**heard.context, **{name: open_member(name) for name in _UNBOUNDED}}
            known = Known(
                agent=heard.agent, tenant=heard.tenant, action=heard.action, resource=heard.resource, context=context
            )
            left = residuals(narrow, known)
            can = [rule for rule in rules if not left[rule.id].never and not left[rule.id].fails]
            settled = any(one.fails for one in left.values()) or any(left[r.id].always for r in can if not r.permits)
            found |= {rule.id for rule in can if not rule.permits}
            if not settled:
                found |= {rule.id for rule in can if rule.permits and can_count(self._policy, rule, case)}
        return frozenset(found)

    def _filled(self, question: Question, rules: Iterable[Rule], shape: Members | None) -> Question:
        """Return the question with every parameter given, as permits compare it: a better start where several count."""
        values = values_for(self._policy, question, [rule for rule in rules if rule.permits], shape)
        for place, options in values.items():
            if place[0] == "parameters" and len(place) > 1 and options:
                question = with_value(question, place, options[0]) or question
        return question

    def _cases(self, question: Question, rules: Iterable[Rule]) -> Iterator[Question]:
        intent, agent = question.intent, self._policy.register.agents[question.principal]
        options = values_for(self._policy, question, rules, None)["resource",]
        resources = [intent.resource, *_within_row(question, ("resource",), options)]
        for resource, purpose, sensitivity, risk in product(resources, agent.purposes, _RAISED, _RAISED):
            if isinstance(resource, Resource):
                changed = replace(intent, resource=resource, purpose=purpose, sensitivity=sensitivity, risk=risk)
                yield replace(question, intent=changed)


def _row(question: Question) -> tuple[str, ...]:
    intent = question.intent
    where = (intent.audience, intent.resource.type, intent.resource.set)
    return (question.principal, question.tenant, intent.action, *where)


def _within_row(question: Question, place: Place, options: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return the values that leave a question in its row."""
    if place[0] in _ROW:
        return ()
    if place != ("resource",):
        return options
    row = question.intent.resource
    same = (option for option in options if isinstance(option, Resource))
    return tuple(option for option in same if (option.type, option.set) == (row.type, row.set))
