"""What rules, schema and register must agree on before a bundle may decide anything."""

from collections.abc import Iterable, Mapping
from typing import Final

import cedarpy
from cedarpy import pst

from broker.intent import Level
from broker.policy.decision import ActionClass
from broker.policy.entities import ENTITIES_FILE, Register
from broker.policy.problem import Findings
from broker.policy.rules import TERMS, Rule
from broker.policy.schema import Action, known_names

_CLASSES: Final = {kind.value: kind for kind in ActionClass}


def check_types(files: Mapping[str, bytes], rules: Iterable[Rule], schema: cedarpy.Schema, found: Findings) -> None:
    """Run Cedar's type checker over every file."""
    lines = {rule.id: rule.line for rule in rules}
    for file in sorted(name for name in files if name.endswith(".cedar")):
        result = cedarpy.validate_policies(files[file].decode(errors="replace"), schema)
        for error in result.errors:
            policy_id = result.id_annotations_by_policy_id.get(error.policy_id, "")
            sentence = f"policy {policy_id}: {error.error}; the schema says what there is"
            found.add(file, sentence, line=lines.get(policy_id))


def check_rule(rule: Rule, actions: Mapping[str, Action], register: Register, found: Findings) -> None:
    """Hold one rule to its terms, its class and the entities that exist."""
    _check_entities(rule, register, found)
    if not rule.permits:
        for name in sorted(rule.annotations & TERMS):
            _note(rule, found, f"@{name} has no meaning on a forbid; remove it")
        return
    classes = _classes_of(rule, actions)
    if len(classes) != 1:
        _note(
            rule,
            found,
            "a permit names its actions, all of one class (action == ..., or action in [...]): "
            "write is never implied by read; write one permit for each class",
        )
        return
    (kind,) = classes
    _check_terms(rule, kind, found)
    if kind is not ActionClass.MANAGE and not rule.names_agent:
        _check_breadth(rule, kind, actions, register, found)


def check_sets(register: Register, actions: Mapping[str, Action], found: Findings) -> None:
    """A set is for reads that the schema declares."""
    for entry in register.sets.values():
        for name in entry.actions:
            action = actions.get(name)
            if action is None or action.action_class is not ActionClass.READ or action.risk > Level.LOW:
                found.add(ENTITIES_FILE, f"set {entry.name}: {name!r} is not a low-risk read of the schema; remove it")


def _note(rule: Rule, found: Findings, sentence: str) -> None:
    found.add(rule.file, f"policy {rule.id}: {sentence}", line=rule.line)


def _classes_of(rule: Rule, actions: Mapping[str, Action]) -> set[ActionClass]:
    """Return the classes of the actions that a rule names; unknown ones are the type checker's business."""
    named = rule.named_actions() or frozenset()
    known = {actions[name].action_class for name in named if name in actions}
    return known | {_CLASSES[name] for name in named if name in _CLASSES}


def _check_terms(rule: Rule, kind: ActionClass, found: Findings) -> None:
    if kind is ActionClass.MANAGE:
        for name in sorted(rule.annotations & TERMS):
            _note(rule, found, f"@{name} has no meaning here: a manage action gives no credential; remove it")
        return
    if "max_lifetime" not in rule.annotations:
        _note(rule, found, 'has no @max_lifetime; write for example @max_lifetime("PT5M")')
    if kind is ActionClass.HIGH_IMPACT and "step_up" not in rule.annotations:
        _note(
            rule,
            found,
            "is for a high-impact action and has no @step_up; say who approves it, for example "
            r'@step_up("{\"kind\": \"group\", \"group\": \"approvers\"}")',
        )
    if rule.once and kind is ActionClass.READ:
        _note(rule, found, "@once has no meaning on reads, which are checked where they are done; remove it")


def _check_breadth(
    rule: Rule, kind: ActionClass, actions: Mapping[str, Action], register: Register, found: Findings
) -> None:
    """A permit that does not name its agent gives low-risk reads only; what only a request shows is decided then."""
    risks = [actions[name].risk for name in rule.named_actions() or () if name in actions]
    levels = [
        entry.sensitivity
        for service in register.services.values()
        for entry in service.resource_types.values()
        if entry.cedar_type == _resource_type(rule.source.resource)
    ]
    if (
        kind is not ActionClass.READ
        or max(risks, default=Level.LOW) > Level.LOW
        or min(levels, default=Level.LOW) > Level.LOW
    ):
        _note(
            rule,
            found,
            "roles, tenants and conditions give low-risk reads of low-sensitivity resources only; "
            'for anything else name the agent: principal == Agent::"spiffe://..."',
        )


def _resource_type(constraint: pst.PrincipalOrResourceConstraint) -> str:
    match constraint:
        case (
            pst.ScopeIs(entity_type=kind)
            | pst.ScopeIsIn(entity_type=kind)
            | pst.ScopeEq(entity=pst.EntityUid(type=kind))
        ):
            return str(kind)
        case _:
            return ""


def _check_entities(rule: Rule, register: Register, found: Findings) -> None:
    """An entity that does not exist matches nothing: a permit would be useless, a forbid without effect."""
    known = known_names(register)
    for uid in sorted(pst.entity_uids(rule.source), key=str):
        kind = str(uid.type)
        if kind in known and uid.id not in known[kind]:
            _note(rule, found, f"names {uid}, which {ENTITIES_FILE} does not declare; add it or correct the name")
        if kind in register.cedar_types and uid.id.split("/", 1)[0] not in register.tenants:
            _note(rule, found, f'names {uid}; a resource is called {kind}::"<tenant>/<id>"')
