"""Paths: every intent that is permitted has its row, every confirmed row has such an intent, conditions are exact."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

import cedarpy
import pytest
from cedarpy import pst
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import Refusal
from broker.intent import Intent, Json, Level, Resource
from broker.policy.bundle import read_bundle
from broker.policy.compiled import CompiledPolicy
from broker.policy.decide import Deny, Hold, Permit, Question, decide
from broker.policy.imagined import Part, asked, holding
from broker.policy.paths import Path, paths
from tests.unit.policy.bundles import (
    COURIER,
    EXAMPLE,
    ORDERS,
    SHARED,
    SUPPORT,
    TASK,
    WHOLESALE,
    added,
    compiled,
    question,
    replaced,
    without_cases,
)
from tests.unit.policy.odd import ODD, WIDE

POLICY: Final = compiled()
RICH: Final = compiled(ODD)
AGENTS: Final = (SUPPORT, WHOLESALE, SHARED, COURIER)


def rows(policy: CompiledPolicy) -> dict[tuple[str, ...], Path]:
    found: dict[tuple[str, ...], Path] = {
        (row.agent, row.tenant, row.action, row.service, row.resource_type, row.resource_set): row
        for row in paths(policy)
    }
    assert len(found) == len(list(paths(policy))), "one row each"
    return found


def row_of(policy: CompiledPolicy, agent: str, tenant: str, action: str, kind: str = "order") -> Path | None:
    return rows(policy).get((agent, tenant, action, ORDERS, kind, ""))


RICH_ROWS: Final = rows(RICH)


# --- the example ----------------------------------------------------------------------------------------------------


def test_the_example_row_by_row() -> None:
    found = rows(POLICY)
    short = {(agent.rpartition("/")[2], tenant, action, kind, name) for agent, tenant, action, _, kind, name in found}
    assert short == {
        ("support-assistant", "retail", "order.read", "order", ""),
        ("support-assistant", "retail", "order.list", "order", "open-orders"),
        ("support-assistant", "retail", "order.refund", "order", ""),
        ("support-assistant", "retail", "order.address_change", "order", ""),
        ("support-assistant", "retail", "order.refund_large", "order", ""),
        ("support-assistant", "retail", "order.cancel", "order", ""),
        ("support-assistant", "retail", "customer.read", "customer", ""),
        ("support-assistant", "retail", "customer.payout_change", "customer", ""),
        ("wholesale-assistant", "wholesale", "order.read", "order", ""),
        ("wholesale-assistant", "wholesale", "order.cancel", "order", ""),
        ("shared-assistant", "retail", "order.read", "order", ""),
        ("shared-assistant", "retail", "order.list", "order", "open-orders"),
        ("shared-assistant", "retail", "customer.read", "customer", ""),
        ("shared-assistant", "wholesale", "order.read", "order", ""),
        ("shared-assistant", "wholesale", "order.cancel", "order", ""),
        ("courier", "retail", "order.read", "order", ""),
    }
    assert all(row.confirmed for row in found.values())


def test_a_row_says_under_which_condition_and_on_which_terms() -> None:
    row = row_of(POLICY, SUPPORT, "retail", "order.refund")
    assert row is not None
    (permit,) = row.permits
    assert (permit.policy_id, permit.text) == ("support-may-refund", 'context.purpose == "customer-support"')
    assert {name: limit.to_json() for name, limit in permit.limits.items()} == {
        "amount": {"min": 1, "max": 5000},
        "currency": ["EUR"],
    }
    assert {(forbid.policy_id, forbid.text) for forbid in row.forbids} == {
        ("no-refund-beyond-limit", "context.parameters.amount > 5000"),
        ("no-write-that-the-agent-calls-high-risk", 'context.risk == "high"'),
    }
    assert (row.max_lifetime, row.held, row.action_class.value) == (timedelta(minutes=2), False, "write")
    held = row_of(POLICY, SUPPORT, "retail", "customer.payout_change", "customer")
    assert held is not None
    assert held.held
    assert held.confirmed


def test_golden_cases_are_tried_first() -> None:
    draft = read_bundle(EXAMPLE)
    examples = [case.question for case in draft.cases if isinstance(case.question, Question)]
    witnesses = [row.witness for row in paths(draft.policy, examples) if row.witness is not None]
    assert sum(any(one.intent == example.intent for example in examples) for one in witnesses) >= 10


def test_only_the_agents_and_tenants_asked_for() -> None:
    assert {row.agent for row in paths(POLICY, agents={SHARED})} == {SHARED}
    chosen = list(paths(POLICY, tenants={"wholesale"}))
    assert {(row.agent, row.tenant) for row in chosen} == {(SHARED, "wholesale"), (WHOLESALE, "wholesale")}
    assert not list(paths(POLICY, agents=set()))


# --- what is not claimed --------------------------------------------------------------------------------------------

CANCEL = (SUPPORT, "retail", "order.cancel", "order")
READ = (COURIER, "retail", "order.read", "order")
PAYOUT = (SHARED, "retail", "customer.payout_change", "customer")
LOOK = (WHOLESALE, "wholesale", "customer.read", "customer")
OVERFLOW = "9223372036854775807 + 1 == 3"


def forbid(agent: str, action: str, condition: str = "true") -> dict[str, bytes]:
    scope = f'principal == Agent::"{agent}", action == Action::"{action}", resource'
    return added("odd.cedar", f'@id("odd") forbid ({scope}) when {{ {condition} }};')


def permit(agent: str, action: str, condition: str = "true", resource: str = "resource") -> dict[str, bytes]:
    scope = f'principal == Agent::"{agent}", action == Action::"{action}", {resource}'
    held = r'@step_up("{\"kind\": \"user\"}")' if action == "customer.payout_change" else ""
    return added("odd.cedar", f'@id("odd") @max_lifetime("PT1M") {held} permit ({scope}) when {{ {condition} }};')


GONE = {
    "forbidden always": (CANCEL, forbid(SUPPORT, "order.cancel"), forbid(SUPPORT, "order.refund")),
    "forbidden by class": (
        CANCEL,
        added("odd.cedar", '@id("odd") forbid (principal, action in Action::"write", resource);'),
        added("odd.cedar", '@id("odd") forbid (principal, action in Action::"high-impact", resource);'),
    ),
    "forbidden in each purpose that the agent has": (
        CANCEL,
        forbid(SUPPORT, "order.cancel", 'context.purpose == "customer-support"'),
        forbid(SUPPORT, "order.cancel", 'context.purpose == "stock-planning"'),
    ),
    "forbidden in the agent's tenant": (
        CANCEL,
        forbid(SUPPORT, "order.cancel", 'principal in Tenant::"retail"'),
        forbid(SUPPORT, "order.cancel", 'principal in Tenant::"wholesale"'),
    ),
    "forbidden at this service": (
        CANCEL,
        forbid(SUPPORT, "order.cancel", f'context.audience == "{ORDERS}"'),
        forbid(SUPPORT, "order.cancel", f'context.audience == "{ORDERS}/other"'),
    ),
    "a policy that always fails": (
        READ,
        forbid(COURIER, "order.read", OVERFLOW),
        forbid(COURIER, "order.list", OVERFLOW),
    ),
    "an agent without an owner": (
        READ,
        replaced("entities.toml", 'business_owner = "Head of Logistics"', 'business_owner = ""'),
        EXAMPLE,
    ),
    "a resource of another tenant": (
        PAYOUT,
        permit(SHARED, "customer.payout_change", resource='resource == Customer::"wholesale/9"'),
        permit(SHARED, "customer.payout_change", resource='resource == Customer::"retail/9"'),
    ),
    "a purpose that the agent has not": (
        LOOK,
        permit(WHOLESALE, "customer.read", 'context.purpose == "delivery"'),
        permit(WHOLESALE, "customer.read", 'context.purpose == "stock-planning"'),
    ),
    "a level below the bundle's": (
        LOOK,
        permit(WHOLESALE, "customer.read", 'context.sensitivity == "low"'),
        permit(WHOLESALE, "customer.read", 'context.sensitivity == "high"'),
    ),
    "a sensitivity below the bundle's": (
        LOOK,
        permit(WHOLESALE, "customer.read", 'resource in Sensitivity::"low"'),
        permit(WHOLESALE, "customer.read", 'resource in Sensitivity::"moderate"'),
    ),
}


@pytest.mark.parametrize(("row", "without", "control"), GONE.values(), ids=GONE)
def test_a_row_that_every_decision_refuses_is_not_there(
    row: tuple[str, str, str, str], without: dict[str, bytes], control: dict[str, bytes]
) -> None:
    assert row_of(compiled(without_cases(without)), *row) is None
    found = row_of(compiled(without_cases(control)), *row)
    assert found is not None
    assert found.confirmed


def test_a_permit_that_can_never_count_is_not_claimed() -> None:
    policy = compiled(WIDE)
    assert row_of(policy, SUPPORT, "retail", "order.read", "customer") is None
    found = row_of(policy, SUPPORT, "retail", "order.read")
    assert found is not None
    assert {"odd-wide"} < {permit.policy_id for permit in found.permits}
    assert found.max_lifetime == timedelta(minutes=5)


def test_a_row_without_a_witness_says_so() -> None:
    policy = compiled(without_cases(permit(SHARED, "order.refund", "context.parameters.amount * 7 == 3")))
    row = row_of(policy, SHARED, "retail", "order.refund")
    assert row is not None
    assert not row.confirmed
    assert row.permits[0].text == "context.parameters.amount * 7 == 3"


@pytest.mark.parametrize(
    ("short", "bound"),
    [(f'principal == Agent::"{SHARED}"', 1), ('principal in Role::"order-reader"', 9)],
    ids=["names the agent", "stops counting when a level is raised"],
)
def test_a_permit_that_always_applies_bounds_the_lifetime(short: str, bound: int) -> None:
    policies = f"""
    @id("short") @max_lifetime("PT1M") permit ({short}, action == Action::"order.read", resource is Order);
    @id("long") @max_lifetime("PT9M")
    permit (principal == Agent::"{SHARED}", action == Action::"order.read", resource) when {{ context.task != "" }};
    """
    policy = compiled(without_cases(added("odd.cedar", policies)))
    row = row_of(policy, SHARED, "retail", "order.read")
    assert row is not None
    assert row.max_lifetime == timedelta(minutes=bound)
    decision = decide(policy, question(SHARED, tenant="retail", task=TASK, risk=Level.MODERATE))
    assert isinstance(decision, Permit)
    assert decision.terms.max_lifetime == timedelta(minutes=bound)


def test_what_stands_fast_for_a_row_is_no_condition_of_it() -> None:
    condition = f'context.audience == "{ORDERS}" && context.login == "x509" && context.task != ""'
    row = row_of(compiled(without_cases(permit(SHARED, "order.refund", condition))), SHARED, "retail", "order.refund")
    assert row is not None
    assert row.permits[0].text == 'context.task != ""'


def test_a_resource_that_is_compared_stays_open() -> None:
    """Otherwise the condition would name the made-up resource that stands for all."""
    schema = replaced("schema.cedarschema", "note?: String", "note?: String, other?: Order")
    condition = "context.parameters has other && context.parameters.other == resource"
    files = {**permit(SHARED, "order.refund", condition), "schema.cedarschema": schema["schema.cedarschema"]}
    policy = compiled(without_cases(files))
    row = row_of(policy, SHARED, "retail", "order.refund")
    assert row is not None
    assert row.permits[0].text == condition


def test_a_witness_stays_in_its_row() -> None:
    condition = 'context.parameters.amount * 7 == 3 || principal in Tenant::"wholesale"'
    policy = compiled(without_cases(permit(SHARED, "order.refund", condition)))
    retail, wholesale = (row_of(policy, SHARED, tenant, "order.refund") for tenant in ("retail", "wholesale"))
    assert retail is not None
    assert not retail.confirmed
    assert wholesale is not None
    assert wholesale.confirmed


def test_what_a_policy_says_of_one_resource_stays_in_the_condition() -> None:
    cancel = RICH_ROWS[SUPPORT, "retail", "order.cancel", ORDERS, "order", ""]
    assert {one.policy_id: one.text for one in cancel.permits}["odd-one-order"] == 'resource == Order::"retail/7"'
    assert {one.policy_id: one.text for one in cancel.forbids}["odd-forbid-one"] == 'resource == Order::"retail/13"'
    other = RICH_ROWS[SHARED, "wholesale", "order.cancel", ORDERS, "order", ""]
    assert "odd-forbid-one" not in {one.policy_id for one in other.forbids}, "an order of another tenant"


# --- against the decision itself ------------------------------------------------------------------------------------

TEXTS = ("", "nobody", "the owner", "r*ma", "a r*ma", "r*ma!", "rxma")


def parameters(action: str) -> st.SearchStrategy[dict[str, Json]]:
    optional: dict[str, st.SearchStrategy[Json]] = {}
    required: dict[str, st.SearchStrategy[Json]] = {}
    match action:
        case "order.refund":
            required["amount"] = st.sampled_from((0, 1, 107, 108, 900, 901, 5000, 5001))
            required["currency"] = st.sampled_from(("EUR", "CHF", "USD"))
            optional["note"] = st.sampled_from(TEXTS)
        case "customer.payout_change":
            required["account"] = st.sampled_from(("DE1", "FR1"))
        case "order.list":
            optional["limit"] = st.sampled_from((0, 1, 100, 101))
        case _:
            pass
    return st.fixed_dictionaries(required, optional=optional)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    action = draw(st.sampled_from(sorted(name for name in RICH.actions if not name.startswith("broker."))))
    singles = [Resource(type=kind, id=name) for kind in ("order", "customer") for name in ("7", "9", "13", "1234")]
    agent = draw(st.sampled_from(AGENTS))
    intent = Intent(
        action=action,
        resource=draw(st.sampled_from([*singles, Resource(type="order", set="open-orders")])),
        parameters=draw(parameters(action)),
        purpose=draw(st.sampled_from(RICH.register.agents[agent].purposes)),
        audience=ORDERS,
        task=draw(st.sampled_from((TASK, ""))),
        on_behalf_of=draw(st.sampled_from(TEXTS)),
        sensitivity=draw(st.sampled_from((None, *Level))),
        risk=draw(st.sampled_from((None, *Level))),
    )
    tenant = draw(st.sampled_from(RICH.register.agents[agent].tenants))
    return Question(principal=agent, login="x509", intent=intent, tenant=tenant)


def of(one: Question) -> Path | None:
    intent = one.intent
    where = (intent.audience, intent.resource.type, intent.resource.set)
    return RICH_ROWS.get((one.principal, one.tenant, intent.action, *where))


@settings(max_examples=600, deadline=None)
@given(questions())
def test_whatever_is_permitted_has_its_row(asked_for: Question) -> None:
    decision, row = decide(RICH, asked_for), of(asked_for)
    if isinstance(decision, Permit | Hold):
        assert row is not None
        assert set(decision.policy_ids) <= {one.policy_id for one in row.permits}
        assert decision.terms.max_lifetime <= row.max_lifetime
        assert isinstance(decision, Hold) == row.held
    elif row is not None and isinstance(decision, Deny):
        applied = {name for name in decision.policy_ids if not RICH.rules[name].permits}
        assert applied <= {one.policy_id for one in row.forbids}


@settings(max_examples=300, deadline=None)
@given(questions())
def test_a_printed_condition_holds_exactly_when_its_policy_applies(asked_for: Question) -> None:
    row = of(asked_for)
    if row is None or isinstance(asked(RICH, asked_for), Deny):
        return
    for one in (*row.permits, *row.forbids):
        source = replace(RICH.rules[one.policy_id].source, effect="permit", annotations=pst.FrozenMap())
        text = cedarpy.policies_to_pst(f"permit (principal, action, resource) when {{ {one.text} }};")
        (printed,) = text.static_policies.values()
        whole = Part(rule_id=one.policy_id, scope="", source=source)
        applies, holds = holding(RICH, asked_for, (whole, replace(whole, source=printed)))
        assert applies == holds, (one.policy_id, one.text)


def test_a_confirmed_row_has_a_witness_of_its_own_that_is_not_refused() -> None:
    for key, row in RICH_ROWS.items():
        assert row.witness is not None, key
        decision = decide(RICH, row.witness)
        assert isinstance(decision, Permit | Hold)
        assert of(row.witness) is row


def test_odd_policies_are_really_there() -> None:
    """The properties above say nothing unless these policies permit something."""
    permits = {one.policy_id for row in RICH_ROWS.values() for one in row.permits}
    assert {"odd-one-order", "odd-other-tenant", "odd-levels", "odd-optional"} <= permits


@pytest.mark.parametrize("name", ["Order", "ends with a /", "any", "any-other"])
def test_whatever_a_policy_calls_its_resources(name: str) -> None:
    """The resource that stands for all others must be none that a policy names."""
    files = without_cases(permit(SHARED, "order.refund", resource=f'resource == Order::"retail/{name}"'))
    try:
        row = row_of(compiled(files), SHARED, "retail", "order.refund")
    except Refusal:
        pytest.fail("a name made a refusal")
    assert row is not None
    assert row.permits[0].text == f'resource == Order::"retail/{name}"'
    but_one = permit(SHARED, "order.refund", f'resource != Order::"retail/{name}"')
    row = row_of(compiled(without_cases(but_one)), SHARED, "retail", "order.refund")
    assert row is not None
    assert row.confirmed
