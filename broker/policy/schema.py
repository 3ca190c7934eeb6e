"""Schema: what the bundle's Cedar schema says about actions, asked of Cedar itself.

cedarpy does not hand out the schema as data, and this file does not parse it. It asks the engine instead: the action
entities carry the classes (an action's parents), and the type checker, given a policy that can only be valid if a fact
holds, says whether it does.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final

import cedarpy

from broker.errors import Refusal
from broker.intent import Level, require_name
from broker.policy.decision import ActionClass, TargetKind
from broker.policy.entities import Register
from broker.policy.problem import Findings
from broker.policy.rules import error_line

SCHEMA_FILE: Final = "schema.cedarschema"
RESOURCE_SET: Final = "ResourceSet"
# What can be decided about the broker itself; a schema that declares another broker.* action has a misspelling.
MANAGE_ACTIONS: Final = frozenset(
    {
        "broker.approval.confirm",
        "broker.approval.decide",
        "broker.approval.read",
        "broker.audit.read",
        "broker.audit.read_personal",
        "broker.checkpoint.read",
        "broker.keys.list",
        "broker.keys.read",
        "broker.keys.rotate",
        "broker.lift_revocation",
        "broker.override.impose",
        "broker.override.lift",
        "broker.outcome.report",
        "broker.override.read",
        "broker.redeem",
        "broker.revocations.follow",
        "broker.revoke",
        "broker.task.begin",
        "broker.task.end",
        "broker.task.resume",
    }
)
CONTEXT: Final = ("audience", "login", "on_behalf_of", "purpose", "risk", "sensitivity", "task")
MANAGE_CONTEXT: Final = ("login",)
PRINCIPAL_TYPES: Final = ("Agent", "Service", "Operator")
TARGET_TYPES: Final = {kind: kind.value.capitalize() for kind in TargetKind}
_DEFAULT_RISK: Final = {
    ActionClass.READ: Level.LOW,
    ActionClass.WRITE: Level.MODERATE,
    ActionClass.HIGH_IMPACT: Level.HIGH,
    ActionClass.MANAGE: Level.HIGH,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action of the schema.

    Attributes:
        name: as intents name it.
        action_class: from its one parent.
        risk: from entities.toml, or the default of its class.
        principals: Cedar types that may ask for it.
        resources: Cedar types that it applies to.

    """

    name: str
    action_class: ActionClass
    risk: Level
    principals: frozenset[str]
    resources: frozenset[str]


def read_schema(content: bytes, found: Findings) -> cedarpy.Schema | None:
    """Parse the schema; None, and a note, when it is not one."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        found.add(SCHEMA_FILE, "is not UTF-8; save it as UTF-8")
        return None
    try:
        return _parsed(text)
    except ValueError as problem:
        syntax = "error parsing schema" in str(problem)
        line = error_line(text, cedarpy.Schema.from_str) if syntax else None
        found.add(SCHEMA_FILE, f"is not a Cedar schema: {problem}; correct it there", line=line)
        return None


@lru_cache(maxsize=2)
def _parsed(text: str) -> cedarpy.Schema:
    """Parse a schema; one that did not change from bundle to bundle stays the same object, for `_holds`."""
    return cedarpy.Schema.from_str(text)


def read_actions(schema: cedarpy.Schema, register: Register, found: Findings) -> dict[str, Action]:
    """Return the actions with their classes; an unclassed or misplaced one is a problem."""
    parents = _action_parents(schema, found)
    classes = {kind.value for kind in ActionClass}
    for name in sorted(classes & parents.keys()):
        if parents[name]:
            found.add(SCHEMA_FILE, f"class {name!r} has a parent; no class implies another, so take it away")
    actions: dict[str, Action] = {}
    for name in sorted(parents.keys() - classes):
        kind = _class_of(name, parents[name], found)
        if kind is not None:
            actions[name] = _action(schema, register, name, kind, found)
    for name in sorted(register.risks.keys() - actions.keys()):
        found.add("entities.toml", f"action {name!r} is not in the schema; declare it there or correct the name")
    return actions


def _action_parents(schema: cedarpy.Schema, found: Findings) -> dict[str, frozenset[str]]:
    """Return every action entity with all its ancestors: an entity store made with a schema holds them."""
    parents: dict[str, frozenset[str]] = {}
    for entity in json.loads(str(cedarpy.Entities.from_json_str("[]", schema))):
        uid = entity["uid"]
        if uid["type"] != "Action":
            found.add(SCHEMA_FILE, f"{uid['type']}: actions stand outside every namespace; take the namespace away")
            continue
        parents[uid["id"]] = frozenset(parent["id"] for parent in entity["parents"])
    return parents


def _class_of(name: str, parents: frozenset[str], found: Findings) -> ActionClass | None:
    """Return the class that an action's one parent names."""
    try:
        require_name(name, "action")
    except Refusal:
        found.add(SCHEMA_FILE, f"action {name!r}: names match [a-z0-9][a-z0-9._/-]* and are at most 128 long")
        return None
    classes = {kind.value: kind for kind in ActionClass}
    kind = classes.get(next(iter(parents))) if len(parents) == 1 else None
    if kind is None:
        fix = f'write `action "{name}" in ["read"]`, or "write", "high-impact" or, for broker.* alone, "manage"'
        found.add(SCHEMA_FILE, f"action {name!r} must have exactly one class as its only parent; {fix}")
        return None
    if (kind is ActionClass.MANAGE) != name.startswith("broker."):
        found.add(SCHEMA_FILE, f"action {name!r}: class manage is for broker.* actions, and they have no other")
        return None
    if kind is ActionClass.MANAGE and name not in MANAGE_ACTIONS:
        found.add(SCHEMA_FILE, f"the broker has no action {name!r}; it has {', '.join(sorted(MANAGE_ACTIONS))}")
        return None
    return kind


def _action(schema: cedarpy.Schema, register: Register, name: str, kind: ActionClass, found: Findings) -> Action:
    """Ask the type checker what the action applies to, and whether its context is the broker's."""
    manage = kind is ActionClass.MANAGE
    types = TARGET_TYPES.values() if manage else (*sorted(register.cedar_types), RESOURCE_SET)
    pairs = [pair for pair in product(PRINCIPAL_TYPES if manage else ("Agent",), types) if _holds(schema, name, pair)]
    if not pairs:
        what = "the broker's principals and targets" if manage else "principal Agent and a cedar_type of entities.toml"
        found.add(SCHEMA_FILE, f"action {name!r} applies to nothing that can be asked; give it {what}")
    elif not all(_holds(schema, name, pair, _context(kind)) for pair in pairs):
        found.add(SCHEMA_FILE, f"action {name!r}: its context must be {_context_type(kind)}")
    return Action(
        name=name,
        action_class=kind,
        risk=register.risks.get(name, _DEFAULT_RISK[kind]),
        principals=frozenset(principal for principal, _ in pairs),
        resources=frozenset(resource for _, resource in pairs),
    )


@lru_cache(maxsize=4096)
def _holds(schema: cedarpy.Schema, action: str, types: tuple[str, str], condition: str = "true") -> bool:
    """Whether a policy with this scope and condition passes the type checker; hundreds are asked of each bundle."""
    principal, resource = types
    scope = f'principal is {principal}, action == Action::"{action}", resource is {resource}'
    return bool(cedarpy.validate_policies(f"permit({scope}) when {{ {condition} }};", schema))


def _context(kind: ActionClass) -> str:
    """Return a condition that is well-typed only if the context has exactly the broker's members."""
    names = MANAGE_CONTEXT if kind is ActionClass.MANAGE else CONTEXT
    members = [f'{name}: ""' for name in names]
    if kind is ActionClass.MANAGE:
        return f"context == {{{', '.join(members)}}}"
    # Equality wants one type on both sides; `has` wants a record.
    return f"context == {{{', '.join([*members, 'parameters: context.parameters'])}}} || context.parameters has x"


def _context_type(kind: ActionClass) -> str:
    names = MANAGE_CONTEXT if kind is ActionClass.MANAGE else CONTEXT
    members = [f"{name}: String" for name in names]
    if kind is not ActionClass.MANAGE:
        members.append("parameters: {...}")
    return f"{{ {', '.join(members)} }}"


def known_names(register: Register) -> dict[str, frozenset[str]]:
    """Return, for each Cedar type whose entities the bundle lists, the ids that a policy may name."""
    return {
        "Agent": frozenset(register.agents),
        "Service": frozenset(register.services),
        "Operator": frozenset(register.operators),
        "Tenant": frozenset(register.tenants),
        "Role": register.roles,
        "Sensitivity": frozenset(level.name.lower() for level in Level),
        RESOURCE_SET: frozenset(
            f"{tenant}/{entry.name}" for entry in register.sets.values() for tenant in entry.tenants
        ),
    }
