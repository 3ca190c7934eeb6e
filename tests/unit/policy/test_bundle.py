"""A bundle that is not sound does not load, and says everything that is wrong, where, and what puts it right."""

# ruff: noqa: E501  # a row of an attack table, and a policy, stand on one line

import base64
import hashlib
import json
from collections.abc import Callable, Mapping

import pytest

from broker.policy.bundle import BundleProblem, bundle_digest, compile_bundle
from tests.unit.policy.bundles import EXAMPLE, SUPPORT, added, compiled, replaced, without_cases

Files = Mapping[str, bytes]
ENTITIES, SCHEMA, GOLDEN = "entities.toml", "schema.cedarschema", "golden.toml"
PERMIT = '@id("extra") @max_lifetime("PT1M") permit (principal == Agent::"{agent}", action == {action}, resource);'


def extra(text: str) -> Callable[[], Files]:
    return lambda: added("extra.cedar", text)


def permit(agent: str = SUPPORT, action: str = 'Action::"order.read"') -> str:
    return PERMIT.format(agent=agent, action=action)


def edit(file: str, old: str, new: str) -> Callable[[], Files]:
    return lambda: replaced(file, old, new)


def drop(file: str) -> Callable[[], Files]:
    return lambda: {name: content for name, content in EXAMPLE.items() if name != file}


ACTION = 'action "odd" in ["read"] appliesTo {{ principal: [Agent], resource: [Order], context: {context} }};'
MEMBERS = (
    "purpose: String, audience: String, on_behalf_of: String, task: String, login: String, sensitivity: String, "
    "risk: String"
)

ROWS = {
    # files
    "no schema": (drop(SCHEMA), SCHEMA, "is missing"),
    "no entities": (drop(ENTITIES), ENTITIES, "is missing"),
    "no golden cases": (drop(GOLDEN), GOLDEN, "is missing"),
    "misspelled ending": (lambda: added("extra.ceder", permit()), "extra.ceder", "rename or remove"),
    "subdirectory": (lambda: {**EXAMPLE, "more/": b""}, "more/", "does not belong"),
    "empty policy file": (lambda: {**EXAMPLE, "writes.cedar": b""}, "writes.cedar", "is empty"),
    "only a comment": (extra("// later"), "extra.cedar", "holds no policy"),
    "not utf-8": (lambda: {**EXAMPLE, "writes.cedar": b"\xff"}, "writes.cedar", "UTF-8"),
    "schema not utf-8": (lambda: {**EXAMPLE, SCHEMA: b"\xff"}, SCHEMA, "UTF-8"),
    # policies
    "bad syntax": (extra("\n\npermit (principal action);"), "extra.cedar:4", "is not Cedar"),
    "half a policy": (extra("permit (principal,"), "extra.cedar:2", "is not Cedar"),
    "no id": (extra(permit().replace('@id("extra") ', "")), "extra.cedar", "has no @id"),
    "empty id": (extra(permit().replace('"extra"', '""')), "extra.cedar", "has no @id"),
    "id that is no name": (extra(permit().replace("extra", "Extra Rule")), "extra.cedar:2", "must match"),
    "id twice, two files": (extra(permit().replace("extra", "support-may-refund")), "", "is taken"),
    "id twice, one file": (extra(permit() + "\n" + permit()), "extra.cedar:2", "is taken"),
    "unknown annotation": (extra("@step_down " + permit()), "extra.cedar:2", "unknown annotation @step_down"),
    "no lifetime": (extra(permit().replace('@max_lifetime("PT1M")', "")), "extra.cedar", "has no @max_lifetime"),
    "lifetime of nothing": (extra(permit().replace("PT1M", "PT0S")), "extra.cedar", "@max_lifetime is a duration"),
    "lifetime without unit": (extra(permit().replace("PT1M", "PT")), "extra.cedar", "@max_lifetime is a duration"),
    "lifetime of days": (extra(permit().replace("PT1M", "P1D")), "extra.cedar", "@max_lifetime is a duration"),
    "lifetime too long": (extra(permit().replace("PT1M", "PT24H1S")), "extra.cedar", "at most PT24H"),
    "scope not json": (extra('@scope("{") ' + permit()), "extra.cedar", "@scope"),
    "scope duplicate key": (extra('@scope("{\\"a\\":[1],\\"a\\":[2]}") ' + permit()), "extra.cedar", "twice"),
    "scope unknown bound": (extra('@scope("{\\"a\\":{\\"most\\":1}}") ' + permit()), "extra.cedar", "@scope"),
    "scope float": (extra('@scope("{\\"a\\":{\\"max\\":1.5}}") ' + permit()), "extra.cedar", "integers"),
    "scope empty": (extra('@scope("{}") ' + permit()), "extra.cedar", "@scope is empty"),
    "scope bare": (extra("@scope " + permit()), "extra.cedar", "@scope"),
    "reason bare": (extra("@reason " + permit()), "extra.cedar", "@reason"),
    "reason with a line break": (extra('@reason("a\\nb") ' + permit()), "extra.cedar", "@reason"),
    "term on a forbid": (
        extra('@id("x") @max_lifetime("PT1M") forbid (principal, action, resource);'),
        "extra.cedar",
        "no meaning on a forbid",
    ),
    "once with a value": (
        extra('@once("false") ' + permit(action='Action::"order.cancel"')),
        "extra.cedar:2",
        "@once takes no value",
    ),
    "once on a read": (extra("@once " + permit()), "extra.cedar:2", "@once has no meaning on reads"),
    "once on a forbid": (
        extra('@id("x") @once forbid (principal, action, resource);'),
        "extra.cedar",
        "@once has no meaning on a forbid",
    ),
    "once on a manage action": (
        extra('@id("x") @once permit (principal is Agent, action == Action::"broker.keys.read", resource is Log);'),
        "extra.cedar",
        "@once has no meaning here",
    ),
    "template": (extra(permit().replace(f'== Agent::"{SUPPORT}"', "== ?principal")), "extra.cedar", "template"),
    "type error": (extra(permit()[:-1] + " when { context.purpose > 3 };"), "extra.cedar:2", "policy extra"),
    "attribute that does not exist": (extra(permit()[:-1] + ' when { context.tll == "" };'), "extra.cedar", "tll"),
    "action that does not exist": (extra(permit(action='Action::"order.raed"')), "extra.cedar", "order.raed"),
    "optional attribute unguarded": (
        extra(permit(action='Action::"order.refund"')[:-1] + ' when { context.parameters.note == "" };'),
        "extra.cedar",
        "optional",
    ),
    # classes
    "permit without action": (extra(permit().replace('action == Action::"order.read"', "action")), "", "of one class"),
    "permit over two classes": (
        extra(permit().replace('== Action::"order.read"', 'in [Action::"order.read", Action::"order.refund"]')),
        "extra.cedar:2",
        "never implied by read",
    ),
    "write for a role": (
        extra(permit(action='Action::"order.cancel"').replace(f'== Agent::"{SUPPORT}"', 'in Role::"order-reader"')),
        "extra.cedar",
        "name the agent",
    ),
    "write for a tenant": (
        extra(permit(action='Action::"order.cancel"').replace(f'== Agent::"{SUPPORT}"', 'in Tenant::"retail"')),
        "extra.cedar",
        "name the agent",
    ),
    "write for anybody": (
        extra(permit(action='Action::"order.cancel"').replace(f'== Agent::"{SUPPORT}"', "is Agent")),
        "extra.cedar",
        "name the agent",
    ),
    "the class of writes for a role": (
        extra(permit(action='Action::"write"').replace("action ==", "action in").replace(f'== Agent::"{SUPPORT}"', 'in Role::"order-reader"')),
        "extra.cedar",
        "name the agent",
    ),
    "risky read for a role": (
        extra(permit(action='Action::"customer.read"').replace(f'== Agent::"{SUPPORT}"', 'in Role::"order-reader"')),
        "extra.cedar",
        "name the agent",
    ),
    "sensitive read for a role": (
        lambda: replaced(
            ENTITIES,
            '[[action]]\nname = "customer.read"\nrisk = "moderate"\n',
            "",
            added(
                "extra.cedar",
                permit(action='Action::"customer.read"')
                .replace(f'== Agent::"{SUPPORT}"', 'in Role::"order-reader"')
                .replace("resource)", "resource is Customer)"),
            ),
        ),
        "extra.cedar",
        "name the agent",
    ),
    "manage with a lifetime": (
        extra(permit(action='Action::"broker.task.begin"')),
        "extra.cedar",
        "gives no credential",
    ),
    # entities that policies name
    "forbid on a misspelled agent": (
        extra('@id("x") forbid (principal == Agent::"spiffe://example.org/agent/suport", action, resource);'),
        "extra.cedar:2",
        "does not declare",
    ),
    "forbid on an unknown role": (
        extra('@id("x") forbid (principal in Role::"order-raeder", action, resource);'),
        "extra.cedar",
        "does not declare",
    ),
    "unknown tenant in a condition": (
        extra('@id("x") forbid (principal, action, resource is Order) when { resource in Tenant::"retial" };'),
        "extra.cedar",
        "does not declare",
    ),
    "resource without its tenant": (
        extra('@id("x") forbid (principal, action, resource == Order::"1234");'),
        "extra.cedar",
        "<tenant>/<id>",
    ),
    # schema
    "schema syntax": (edit(SCHEMA, "entity Policy;", "entity Policy"), SCHEMA, "is not a Cedar schema"),
    "unclassed action": (lambda: added(SCHEMA, ACTION.replace(' in ["read"]', "").format(context=f"{{{MEMBERS}, parameters: {{}}}}")), SCHEMA, "exactly one class"),
    "two classes": (edit(SCHEMA, 'action "order.cancel" in ["write"]', 'action "order.cancel" in ["write", "read"]'), SCHEMA, "exactly one class"),
    "class under a class": (
        edit(
            SCHEMA,
            'action "read", "write", "high-impact", "manage";',
            'action "read", "high-impact", "manage"; action "write" in ["read"];',
        ),
        SCHEMA,
        "no class implies another",
    ),
    "action under an action": (edit(SCHEMA, 'action "order.cancel" in ["write"]', 'action "order.cancel" in ["order.refund"]'), SCHEMA, "exactly one class"),
    "manage outside broker": (edit(SCHEMA, 'action "order.cancel" in ["write"]', 'action "order.cancel" in ["manage"]'), SCHEMA, "broker.* actions"),
    "broker action as a read": (edit(SCHEMA, '"broker.task.begin" in ["manage"]', '"broker.task.begin" in ["read"]'), SCHEMA, "broker.* actions"),
    "broker action misspelled": (edit(SCHEMA, '"broker.task.begin"', '"broker.task.start"'), SCHEMA, "has no action"),
    "action with a capital": (lambda: added(SCHEMA, ACTION.replace("odd", "Odd").format(context=f"{{{MEMBERS}, parameters: {{}}}}")), SCHEMA, "names match"),
    "context lacks a member": (lambda: added(SCHEMA, ACTION.format(context="{purpose: String, parameters: {}}")), SCHEMA, "its context must be"),
    "context has one more": (lambda: added(SCHEMA, ACTION.format(context=f"{{{MEMBERS}, more: String, parameters: {{}}}}")), SCHEMA, "its context must be"),
    "context member optional": (lambda: added(SCHEMA, ACTION.format(context=f"{{{MEMBERS.replace('task:', 'task?:')}, parameters: {{}}}}")), SCHEMA, "its context must be"),
    "context member of another type": (lambda: added(SCHEMA, ACTION.format(context=f"{{{MEMBERS.replace('risk: String', 'risk: Long')}, parameters: {{}}}}")), SCHEMA, "its context must be"),
    "parameters are no record": (lambda: added(SCHEMA, ACTION.format(context=f"{{{MEMBERS}, parameters: String}}")), SCHEMA, "its context must be"),
    "applies to nothing known": (lambda: added(SCHEMA, ACTION.replace("[Order]", "[Policy]").format(context=f"{{{MEMBERS}, parameters: {{}}}}")), SCHEMA, "applies to nothing"),
    "manage context": (edit(SCHEMA, "type Manage = { login: String };", "type Manage = { login: String, more: String };"), SCHEMA, "its context must be"),
    "resource with a required attribute": (edit(SCHEMA, "entity Order in [Tenant, Sensitivity];", "entity Order in [Tenant, Sensitivity] { total: Long };"), SCHEMA, "without required attributes"),
    "resource outside its tenant": (edit(SCHEMA, "entity Order in [Tenant, Sensitivity];", "entity Order in [Sensitivity];"), SCHEMA, "entity Order in [Sensitivity, Tenant]"),
    # entities.toml
    "not toml": (edit(ENTITIES, 'name = "retail"', 'name = "retail'), ENTITIES + ":7", "is not TOML"),
    "unknown kind of entry": (lambda: added(ENTITIES, '[[robot]]\nname = "x"'), ENTITIES, "unknown entry 'robot'"),
    "unknown key": (edit(ENTITIES, "purposes =", "purpose ="), ENTITIES + ":18", "unknown key 'purpose'"),
    "owner line removed": (edit(ENTITIES, 'security_owner = "Retail Security"\n', ""), ENTITIES + ":18", "security_owner is missing"),
    "spiffe id twice": (lambda: added(ENTITIES, f'[[operator]]\nspiffe_id = "{SUPPORT}"\nroles = ["security"]\nall_tenants = true'), ENTITIES, "twice"),
    "bare trust domain": (edit(ENTITIES, SUPPORT, "spiffe://example.org"), ENTITIES, "SPIFFE ID with a path"),
    "dot segments": (edit(ENTITIES, SUPPORT, "spiffe://example.org/agent/../x"), ENTITIES, "SPIFFE ID with a path"),
    "wildcard in an id": (edit(ENTITIES, SUPPORT, "spiffe://example.org/agent/*"), ENTITIES, "SPIFFE ID with a path"),
    "tenant with a slash": (edit(ENTITIES, 'name = "retail"', 'name = "retail/eu"'), ENTITIES, "no '/'"),
    "tenant twice": (edit(ENTITIES, 'name = "wholesale"', 'name = "retail"'), ENTITIES, "twice"),
    "tenant undeclared": (edit(ENTITIES, 'tenants = ["retail"]', 'tenants = ["retial"]'), ENTITIES, "not declared"),
    "no tenant": (edit(ENTITIES, 'tenants = ["retail"]', "tenants = []"), ENTITIES, "at least 1"),
    "role as text": (edit(ENTITIES, 'roles = ["order-reader"]', 'roles = "order-reader"'), ENTITIES, "list of names"),
    "unknown level": (edit(ENTITIES, 'sensitivity = "low"', 'sensitivity = "none"'), ENTITIES, "one of low"),
    "built-in cedar type": (edit(ENTITIES, 'cedar_type = "Order"', 'cedar_type = "Tenant"'), ENTITIES, "of your own"),
    "cedar type with syntax": (edit(ENTITIES, 'cedar_type = "Order"', 'cedar_type = "Order, action"'), ENTITIES, "of your own"),
    "set of a sensitive type": (edit(ENTITIES, 'resource_type = "order"', 'resource_type = "customer"'), ENTITIES, "low-sensitivity"),
    "set that is sensitive": (edit(ENTITIES, 'actions = ["order.list"]\nsensitivity = "low"', 'actions = ["order.list"]\nsensitivity = "moderate"'), ENTITIES, "low-sensitivity"),
    "set for a tenant that the service does not serve": (
        edit(ENTITIES, 'orders"\ntenants = ["retail", "wholesale"]', 'orders"\ntenants = ["wholesale"]'),
        ENTITIES,
        "does not serve all",
    ),
    "set for a write": (edit(ENTITIES, 'actions = ["order.list"]', 'actions = ["order.cancel"]'), ENTITIES, "not a low-risk read"),
    "set of an unknown service": (edit(ENTITIES, 'service = "spiffe://example.org/service/orders"', 'service = "spiffe://example.org/service/other"'), ENTITIES, "must name"),
    "operator without reach": (edit(ENTITIES, "\nall_tenants = true", ""), ENTITIES, "all_tenants"),
    "risk of an unknown action": (edit(ENTITIES, 'name = "customer.read"', 'name = "customer.raed"'), ENTITIES, "not in the schema"),
    # golden.toml
    "no case": (lambda: {**EXAMPLE, GOLDEN: b"# later"}, GOLDEN, "holds no case"),
    "no deny": (lambda: {**EXAMPLE, GOLDEN: without_cases(EXAMPLE)[GOLDEN].split(b'[[case]]\nname = "nobody"')[0]}, GOLDEN, 'no case expects "deny"'),
    "case fails": (edit(GOLDEN, "amount = 5001", "amount = 4999"), GOLDEN + ":71", "gets permit"),
    "case by other policies": (
        edit(GOLDEN, 'policies = ["support-may-refund"]', 'policies = ["support-may-cancel-an-order"]'),
        GOLDEN,
        "gets permit by support-may-refund",
    ),
    "case unknown key": (edit(GOLDEN, "task = true", "tasks = true"), GOLDEN, "unknown key 'tasks'"),
    "case unknown reason": (edit(GOLDEN, '"SCOPE_EMPTY"', '"SCOPE_NARROW"'), GOLDEN, "stable reason"),
    "case with a float": (edit(GOLDEN, "amount = 5000", "amount = 50.5"), GOLDEN, "cannot be asked"),
    "case with a date": (edit(GOLDEN, "amount = 5000", "amount = 2026-01-01"), GOLDEN, "parameters consist of"),
    "case name twice": (edit(GOLDEN, '"and nothing else"', '"support looks up an order"'), GOLDEN, "rename one"),
}  # fmt: skip


def problems(files: Files) -> list[str]:
    with pytest.raises(BundleProblem) as caught:
        compile_bundle(files)
    return [str(problem) for problem in caught.value.problems]


def test_the_example_loads() -> None:
    policy = compiled()
    written = b"".join(content for name, content in EXAMPLE.items() if name.endswith(".cedar"))
    assert len(policy.policy_ids) == written.count(b"\n@id(")
    assert policy.tenants == ("retail", "wholesale")
    compiled(without_cases(added("extra.cedar", permit())))  # the control of the rows that change this policy
    good = ACTION.format(context=f"{{{MEMBERS}, parameters: {{}}}}")
    compiled(added("schema.cedarschema", good))  # and of those that change this action


@pytest.mark.parametrize(("change", "place", "sentence"), ROWS.values(), ids=ROWS.keys())
def test_it_does_not_load(change: Callable[[], Files], place: str, sentence: str) -> None:
    found = problems(change())
    assert any(problem.startswith(place) and sentence in problem for problem in found), found


def test_everything_is_said_at_once() -> None:
    files = replaced("entities.toml", "purposes =", "purpose =", added("a.cedar", "permit ("))
    files = replaced("golden.toml", "task = true", "tasks = true", files)
    files = added("schema.cedarschema", 'action "odd" appliesTo { principal: [Agent], resource: [Order] };', files)
    places = {problem.split(":")[0] for problem in problems(files)}
    assert {"a.cedar", "entities.toml", "golden.toml", "schema.cedarschema"} <= places


def test_the_digest_can_be_computed_without_us() -> None:
    def sha256(content: bytes) -> str:
        return "sha-256:" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")

    listing = {name: sha256(content) for name, content in EXAMPLE.items()}
    canonical = json.dumps({"files": listing, "v": 1}, sort_keys=True, separators=(",", ":"))
    assert compiled().digest == sha256(canonical.encode())


def test_every_byte_counts_and_the_readme_does_not() -> None:
    digest = bundle_digest(EXAMPLE)
    assert bundle_digest(added("reads.cedar", "")) != digest
    assert bundle_digest({**EXAMPLE, "README.md": b"words"}) == digest
    names = sorted(EXAMPLE)
    swapped = {**EXAMPLE, names[0]: EXAMPLE[names[1]], names[1]: EXAMPLE[names[0]]}
    assert bundle_digest(swapped) != digest
