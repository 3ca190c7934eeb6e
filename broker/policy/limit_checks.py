"""What limits, separate duties and sequences must agree on with schema and rules before a bundle may decide."""

from collections.abc import Iterable, Mapping

import cedarpy

from broker.policy.decision import ActionClass
from broker.policy.entities import ENTITIES_FILE, Register
from broker.policy.golden import GOLDEN_FILE, Case
from broker.policy.problem import Findings
from broker.policy.rules import Rule
from broker.policy.schema import Action
from broker.policy.shape import Scalar, parameters_of

_INTEGER = Scalar(name="Long")


def check_limits(rules: Iterable[Rule], actions: Mapping[str, Action], schema: cedarpy.Schema, found: Findings) -> None:
    """Hold what limits add up against the schema: a parameter that is there, and an integer."""
    for rule in rules:
        for parameter in sorted({limit.parameter for limit in rule.totals if limit.parameter}):
            for action in _actions_of(rule, actions):
                shapes = [parameters_of(schema, action.name, kind) for kind in sorted(action.resources)]
                if not any(shape is None or shape.types.get(parameter) == _INTEGER for shape in shapes):
                    sentence = f"@limit adds up {parameter!r}, which is no Long parameter of {action.name}"
                    found.add(rule.file, f"policy {rule.id}: {sentence}; correct one of the two", line=rule.line)


def _actions_of(rule: Rule, actions: Mapping[str, Action]) -> list[Action]:
    named = rule.named_actions() or frozenset()
    return [one for one in actions.values() if one.name in named or one.action_class.value in named]


def check_history(register: Register, actions: Mapping[str, Action], cases: Iterable[Case], found: Findings) -> None:
    """Every action that separate duties, sequences and cases name is one that a credential can be for."""
    named = [("separate_duties", each.name, each.line, each.actions) for each in register.duties.values()]
    named += [("sequence", each.name, each.line, each.actions) for each in register.sequences.values()]
    for kind, name, line, theirs in named:
        for action in theirs:
            if action not in actions or actions[action].action_class is ActionClass.MANAGE:
                sentence = f"{action!r} is not an action of the schema that a credential can be for; correct the name"
                found.add(ENTITIES_FILE, f"{kind} {name}: {sentence}", line=line)
    for case in cases:
        for action in sorted(set(case.after) - actions.keys()):
            found.add(GOLDEN_FILE, f"case {case.name!r}: after names {action!r}, which is no action", line=case.line)
