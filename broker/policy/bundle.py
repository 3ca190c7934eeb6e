"""Policy as written becomes policy as compiled, or a list of everything that is wrong with it.

A bundle is a set of files: schema.cedarschema, *.cedar, entities.toml, golden.toml. README.md may stand beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cedarpy

from broker.intent import canonical_json
from broker.intent import digest as digest_of
from broker.policy.approver_groups import check_approvers
from broker.policy.checks import check_rule, check_sets, check_types
from broker.policy.compiled import CompiledPolicy, agent_entity, probe_entities
from broker.policy.depth import check_depth
from broker.policy.entities import ENTITIES_FILE, Register, read_register
from broker.policy.golden import GOLDEN_FILE, Case, check_cases, read_cases
from broker.policy.limit_checks import check_history, check_limits
from broker.policy.problem import BundleProblem, Findings, Problem
from broker.policy.rules import Rule, policy_set, read_rules
from broker.policy.schema import SCHEMA_FILE, Action, read_actions, read_schema
from broker.policy.task_checks import check_task_types

__all__ = ["BundleProblem", "CompiledPolicy", "Draft", "Problem", "bundle_digest", "compile_bundle", "read_bundle"]

README: Final = "README.md"
MAX_BYTES: Final = 4 * 1024 * 1024
_REQUIRED: Final = (SCHEMA_FILE, ENTITIES_FILE, GOLDEN_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A bundle that is sound in itself; whether it does what its author expects, the cases tell."""

    policy: CompiledPolicy
    cases: tuple[Case, ...]


def compile_bundle(files: Mapping[str, bytes]) -> CompiledPolicy:
    """Compile a bundle and run its golden cases.

    Args:
        files: the bundle's files by name.

    Raises:
        BundleProblem: the bundle cannot be used; names every problem found, with its file and the way out.

    """
    draft, found = read_bundle(files), Findings()
    check_cases(draft.policy, draft.cases, found)
    found.stop_if_any()
    return draft.policy


def read_bundle(files: Mapping[str, bytes]) -> Draft:
    """Read and check a bundle without running its golden cases.

    Raises:
        BundleProblem: the bundle is not sound.

    """
    found = Findings()
    _check_names(files, found)
    check_depth(files, found)
    found.stop_if_any()  # what is too large or too deep is not even parsed
    register = read_register(files.get(ENTITIES_FILE, b""), found)
    cases = read_cases(files[GOLDEN_FILE], found) if GOLDEN_FILE in files else ()
    rules = read_rules(files, found)
    schema = read_schema(files[SCHEMA_FILE], found) if SCHEMA_FILE in files else None
    if schema is None or not register.tenants:
        # What rests on these would only repeat that they are not there.
        found.add(ENTITIES_FILE if schema else SCHEMA_FILE, "nothing else can be checked before this file is right")
        found.stop_if_any()
        raise AssertionError("unreachable: a problem was just added")
    actions = read_actions(schema, register, found)
    check_types(files, rules.values(), schema, found)
    for rule in rules.values():
        check_rule(rule, actions, register, found)
    check_sets(register, actions, found)
    check_task_types(register, actions, found)
    check_approvers(register, rules.values(), found)
    check_limits(rules.values(), actions, schema, found)
    check_history(register, actions, cases, found)
    _check_entities(register, actions, schema, found)
    found.stop_if_any()
    return Draft(policy=_compiled(files, register, actions, rules, schema), cases=cases)


def bundle_digest(files: Mapping[str, bytes]) -> str:
    """Return the digest of a bundle: over the RFC 8785 form of its files' names and the digests of their bytes."""
    listing = {name: digest_of(content) for name, content in files.items() if name != README}
    return digest_of(canonical_json({"v": 1, "files": listing}))


def _check_names(files: Mapping[str, bytes], found: Findings) -> None:
    for name in _REQUIRED:
        if name not in files:
            found.add(name, "is missing; docs/policy-decision-model.md says what stands in it")
    if not any(name.endswith(".cedar") for name in files):
        found.add("", "there is no *.cedar file; write at least one policy")
    for name in sorted(files):
        if name not in (*_REQUIRED, README) and not name.endswith(".cedar"):
            # A misspelled ending must not silently drop a forbid.
            found.add(name, f"does not belong to a bundle of {', '.join(_REQUIRED)} and *.cedar; rename or remove it")
    if sum(map(len, files.values())) > MAX_BYTES:
        found.add("", f"the files are larger than {MAX_BYTES} bytes together; split the bundle")


def _check_entities(register: Register, actions: Mapping[str, Action], schema: cedarpy.Schema, found: Findings) -> None:
    """Hold one entity of every kind against the schema, so that no decision fails on its shape."""
    for entity in probe_entities(register, actions):
        try:
            cedarpy.Entities.from_json_str(canonical_json([entity]).decode(), schema)
        except ValueError as problem:
            kind = entity["uid"]["type"]
            parents = ", ".join(sorted({parent["type"] for parent in entity["parents"]}))
            sentence = f"an entity of type {kind} does not fit: {problem}"
            found.add(SCHEMA_FILE, f"{sentence}; write `entity {kind} in [{parents}];`, without required attributes")


def _compiled(
    files: Mapping[str, bytes],
    register: Register,
    actions: Mapping[str, Action],
    rules: Mapping[str, Rule],
    schema: cedarpy.Schema,
) -> CompiledPolicy:
    bases = {
        (agent.spiffe_id, tenant): cedarpy.Entities.from_json_str(
            canonical_json([agent_entity(agent, (tenant,))]).decode(), schema
        )
        for agent in register.agents.values()
        for tenant in agent.tenants
    }
    return CompiledPolicy(
        digest=bundle_digest(files),
        register=register,
        actions=actions,
        rules=rules,
        engine=policy_set(rules.values()),
        schema=schema,
        bases=bases,
    )
