"""Bundles: a list of problems or a policy, never anything else; what loads says what its files say.

The first byte chooses a file of a small bundle, the rest takes its place. The oracles: Python's TOML reader for who
there is, the digest computed here, and for what is decided that nothing is ever wider than what was asked.
"""

import hashlib
import tomllib
from base64 import urlsafe_b64encode
from typing import Final

from broker.intent import Intent, Resource
from broker.policy.bundle import BundleProblem, CompiledPolicy, compile_bundle
from broker.policy.decide import decide
from broker.policy.decision import ActionClass, Deny, Hold, Permit, Question
from broker.policy.rules import Rule
from tests.fuzz.oracle_json import canonical

AGENT: Final = "spiffe://a.b/a"
SERVICE: Final = "spiffe://a.b/s"
_CONTEXT: Final = (
    "{audience: String, login: String, on_behalf_of: String, purpose: String, risk: String, sensitivity: String, "
    "task: String, parameters: {n: Long}}"
)
_FILES: Final = {
    "a.cedar": f"""@id("r") @max_lifetime("PT5M") @scope("{{\\"n\\": {{\\"max\\": 9}}}}")
permit(principal == Agent::"{AGENT}", action == Action::"o.read", resource is O in Tenant::"t")
when {{ context.parameters.n > 0 && context.purpose == "p" }};
@id("f") @reason("No.")
forbid(principal, action, resource) when {{ context.parameters.n == 7 }};
""",
    "entities.toml": f"""[[tenant]]
name = "t"
[[agent]]
spiffe_id = "{AGENT}"
business_owner = "B"
security_owner = "S"
tenants = ["t"]
roles = []
purposes = ["p"]
[[service]]
spiffe_id = "{SERVICE}"
tenants = ["t"]
[[service.resource_type]]
name = "o"
cedar_type = "O"
sensitivity = "low"
""",
    "golden.toml": f"""[[case]]
name = "yes"
principal = "{AGENT}"
action = "o.read"
resource_type = "o"
resource_id = "1"
purpose = "p"
audience = "{SERVICE}"
parameters = {{ n = 1 }}
expect = "permit"
[[case]]
name = "no"
principal = "{AGENT}"
action = "o.read"
resource_type = "o"
resource_id = "1"
purpose = "p"
audience = "{SERVICE}"
parameters = {{ n = 7 }}
expect = "deny"
reason = "POLICY_FORBIDDEN"
""",
    "schema.cedarschema": f"""entity Tenant; entity Role; entity Sensitivity;
entity Agent in [Tenant, Role];
entity Service in [Tenant];
entity O in [Tenant, Sensitivity];
action "read", "write", "high-impact", "manage";
action "o.read" in ["read"] appliesTo {{ principal: [Agent], resource: [O], context: {_CONTEXT} }};
""",
}
NAMES: Final = tuple(sorted(_FILES))


def _seed(name: str, old: str = "", new: str = "") -> bytes:
    assert old in _FILES[name], old
    return bytes([NAMES.index(name)]) + _FILES[name].replace(old, new, 1).encode()


SEEDS: Final = (
    *(_seed(name) for name in NAMES),
    *(bytes([number]) for number in range(len(NAMES))),
    _seed("a.cedar", "permit(", "forbid("),
    _seed("a.cedar", '@max_lifetime("PT5M")', ""),
    _seed("a.cedar", "PT5M", "PT25H"),
    _seed("a.cedar", '@id("f")', '@id("r")'),
    _seed("a.cedar", "context.purpose", "context.nothing"),
    _seed("a.cedar", "max", "most"),
    _seed("a.cedar", "resource is O in", "resource in"),
    _seed("entities.toml", '"S"', '""'),
    _seed("entities.toml", SERVICE, AGENT),
    _seed("entities.toml", '"low"', '"high"'),
    _seed("entities.toml", "purposes", "porpoises"),
    _seed("golden.toml", '"deny"', '"permit"'),
    _seed("golden.toml", "n = 7", "n = 7.0"),
    _seed("schema.cedarschema", "n: Long", "n?: Long"),
    _seed("schema.cedarschema", '["read"]', '["write"]'),
    _seed("schema.cedarschema", '"o.read"', '"broker.read"'),
)


def one(data: bytes) -> None:
    """Load one bundle."""
    if not data:
        return
    files = {name: text.encode() for name, text in _FILES.items()}
    files[NAMES[data[0] % len(NAMES)]] = data[1:]
    try:
        policy = compile_bundle(files)
    except BundleProblem as problem:
        assert problem.problems
        assert str(problem)
        return
    _says_what_its_files_say(policy, files)
    _decides(policy)


def _says_what_its_files_say(policy: CompiledPolicy, files: dict[str, bytes]) -> None:
    listing = {name: _digest(content) for name, content in files.items()}
    assert policy.digest == _digest(canonical({"v": 1, "files": listing}).encode())
    document = tomllib.loads(files["entities.toml"].decode())
    named = [entry["spiffe_id"] for kind in ("agent", "service", "operator") for entry in document.get(kind, [])]
    register = policy.register
    assert sorted(named) == sorted([*register.agents, *register.services, *register.operators])
    assert len(set(named)) == len(named)
    assert list(register.tenants) == [entry["name"] for entry in document["tenant"]]
    assert all(set(agent.tenants) <= set(register.tenants) for agent in register.agents.values())
    for rule in policy.rules.values():
        assert rule.id.encode() in files["a.cedar"]
        _has_an_end(rule, policy)


def _has_an_end(rule: Rule, policy: CompiledPolicy) -> None:
    """A permit of a credential says until when, and of one class of actions."""
    if not rule.permits:
        return
    classes = {policy.actions[name].action_class for name in rule.named_actions() or () if name in policy.actions}
    assert classes != {ActionClass.MANAGE} or rule.max_lifetime is None
    assert len(classes) <= 1
    if classes and ActionClass.MANAGE not in classes:
        assert rule.max_lifetime is not None


def _decides(policy: CompiledPolicy) -> None:
    for number in (0, 1, 7, 10, -1):
        intent = Intent(
            action="o.read",
            resource=Resource(type="o", id="1"),
            purpose="p",
            audience=SERVICE,
            parameters={"n": number},
        )
        match decide(policy, Question(principal=AGENT, login="x509", intent=intent)):
            case Permit(terms=terms) | Hold(terms=terms):
                assert terms.scope.actions == {"o.read"}
                assert terms.scope.resource == intent.resource
                assert terms.scope.covers("o.read", intent.resource, {"n": number})
                assert not terms.scope.covers("o.read", intent.resource, {"n": number + 1})
            case Deny(reason=reason):
                assert reason.name


def _digest(content: bytes) -> str:
    return "sha-256:" + urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


compile_bundle({name: text.encode() for name, text in _FILES.items()})  # the control: as it stands it loads
