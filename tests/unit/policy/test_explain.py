"""Explanations: what decided, what does not hold, which values pass, and ways out that are really open."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given, settings

from broker.errors import Reason
from broker.intent import Json, Level, Resource
from broker.policy.compiled import CompiledPolicy
from broker.policy.decide import Deny, Hold, Permit, Question, decide
from broker.policy.explain import Explanation, explain
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
    refund,
    replaced,
    without_cases,
)
from tests.unit.policy.odd import ODD, WIDE
from tests.unit.policy.test_paths import OVERFLOW, forbid, questions

POLICY: Final = compiled()
RICH: Final = compiled(ODD)
CUSTOMER: Final = Resource(type="customer", id="c-77")
LIST: Final[dict[str, Json]] = {"limit": 5}
UNOWNED: Final = without_cases(replaced("entities.toml", 'security_owner = "Retail Security"', 'security_owner = " "'))


def ways(explanation: Explanation) -> list[dict[str, object]]:
    return [{".".join(change.place): change.after for change in way.changes} for way in explanation.ways]


def multiple_wrongs() -> Question:
    asked = refund(9900)
    return replace(asked, intent=replace(asked.intent, purpose="fun", task=""))


# --- every refusal, the facts about it, and the way out -------------------------------------------------------------

REFUSED = {
    "principal": (
        question("spiffe://example.org/agent/suport-assistant"),
        Reason.PRINCIPAL_UNKNOWN,
        SUPPORT,
        {"principal": SUPPORT},
    ),
    "action": (question(action="order.reed"), Reason.ACTION_UNKNOWN, "order.read", {"action": "order.read"}),
    "audience": (question(audience=ORDERS + "/old"), Reason.AUDIENCE_UNKNOWN, ORDERS, {"audience": ORDERS}),
    "resource type": (
        question(resource=CUSTOMER),
        Reason.RESOURCE_TYPE_UNKNOWN,
        f"{ORDERS} has order",
        {"resource": Resource(type="order", id="c-77")},
    ),
    "an action for sets": (
        question(action="order.list", parameters=LIST),
        Reason.RESOURCE_TYPE_UNKNOWN,
        f"{ORDERS} has the set order/open-orders for retail",
        {"resource": Resource(type="order", set="open-orders")},
    ),
    "set": (
        question(action="order.list", resource=Resource(type="order", set="old"), parameters=LIST),
        Reason.RESOURCE_SET_UNKNOWN,
        f"{ORDERS} has the set order/open-orders for retail",
        {"resource": Resource(type="order", set="open-orders")},
    ),
    "purpose": (
        question(purpose="fun"),
        Reason.PURPOSE_REFUSED,
        "customer-support",
        {"purpose": "customer-support"},
    ),
    "tenant": (question(SHARED, tenant="old"), Reason.TENANT_REFUSED, "wholesale", {"tenant": "retail"}),
    "no tenant": (question(SHARED), Reason.TENANT_REQUIRED, "retail", {"tenant": "wholesale"}),
    "parameter of the wrong type": (
        refund("5"),
        Reason.PARAMETERS_REFUSED,
        "{ amount: Long, currency: String, note?: String }",
        {"parameters.amount": 1},
    ),
    "parameter too many": (
        refund(5, colour="red"),
        Reason.PARAMETERS_REFUSED,
        "{ amount: Long, currency: String, note?: String }",
        {"parameters.colour": None},
    ),
    "parameters missing": (
        question(action="order.refund", task=TASK),
        Reason.PARAMETERS_REFUSED,
        "{ amount: Long, currency: String, note?: String }",
        {"parameters.amount": 1, "parameters.currency": "EUR"},
    ),
    "scope": (
        refund(10, currency="USD"),
        Reason.SCOPE_EMPTY,
        "{ amount: Long, currency: String, note?: String }",
        {"parameters.currency": "EUR"},
    ),
    "forbidden": (refund(9900), Reason.POLICY_FORBIDDEN, None, {"parameters.amount": 5000}),
    "not permitted for this purpose": (
        question(WHOLESALE, purpose="stock-planning"),
        Reason.POLICY_NOT_PERMITTED,
        None,
        {"purpose": "customer-support"},
    ),
    "called risky": (
        question(action="order.cancel", task=TASK, risk=Level.HIGH),
        Reason.POLICY_FORBIDDEN,
        None,
        {"risk": None},
    ),
}


@pytest.mark.parametrize(("asked", "reason", "fact", "way"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_its_facts_and_the_way_out(
    asked: Question, reason: Reason, fact: str | None, way: dict[str, object]
) -> None:
    explanation = explain(POLICY, asked)
    assert isinstance(explanation.decision, Deny)
    assert explanation.decision.reason is reason
    if fact is not None:
        assert fact in [value for one in explanation.facts for value in one.values]
    assert way in ways(explanation)
    assert not explanation.bundle_change


def test_a_write_without_a_task() -> None:
    explanation = explain(POLICY, question(action="order.cancel"))
    (way,) = explanation.ways
    (change,) = way.changes
    assert (change.place, change.before, bool(change.after)) == (("task",), "", True)
    assert explanation.facts[0].values == ("write",)


def test_several_things_wrong_at_once() -> None:
    (way,) = explain(POLICY, multiple_wrongs()).ways
    assert {".".join(change.place) for change in way.changes} == {"purpose", "task", "parameters.amount"}


@settings(max_examples=150, deadline=None)
@given(questions())
def test_every_way_out_is_open(asked: Question) -> None:
    explanation = explain(RICH, asked)
    assert explanation.decision == decide(RICH, asked)
    for way in explanation.ways:
        assert isinstance(decide(RICH, way.question), Permit | Hold)
        assert way.changes
        assert way.question.intent.action == asked.intent.action
        assert way.question.principal == asked.principal
    assert not (explanation.ways and isinstance(explanation.decision, Permit | Hold))


# --- policies -------------------------------------------------------------------------------------------------------


def test_what_permitted() -> None:
    explanation = explain(POLICY, refund())
    first = explanation.considered[0]
    assert (first.rule.id, first.rule.file, first.decided, first.applies) == (
        "support-may-refund", "writes.cedar", True, True,
    )  # fmt: skip
    assert first.rule.line == EXAMPLE["writes.cedar"].decode().splitlines().index('@id("support-may-refund")') + 1
    assert [one.text for one in first.requirements] == [
        f'principal == Agent::"{SUPPORT}"',
        'action == Action::"order.refund"',
        "resource is Order",
        'context.purpose == "customer-support"',
    ]
    assert not explanation.ways


def test_what_forbade_and_which_condition_matched() -> None:
    explanation = explain(POLICY, refund(9900))
    found = {one.rule.id: one for one in explanation.considered}
    assert explanation.considered[0].rule.id == "no-refund-beyond-limit"
    assert found["no-refund-beyond-limit"].decided
    assert "context.parameters.amount > 5000" in [one.text for one in found["no-refund-beyond-limit"].requirements]
    # What would have permitted is told from what does not apply.
    assert found["support-may-refund"].applies
    assert not found["support-may-refund"].decided
    assert found["no-write-that-the-agent-calls-high-risk"].missing == ('context.risk == "high"',)


def test_the_nearest_permit_and_what_does_not_hold() -> None:
    asked = question(SHARED, "customer.read", CUSTOMER, tenant="wholesale", task=TASK)
    explanation = explain(POLICY, asked)
    (near,) = explanation.considered
    assert near.missing == ('resource is Customer in Tenant::"retail"',)
    assert explanation.elsewhere == 1, "the support assistant's own permit is none of this agent's business"
    assert ways(explanation) == [{"tenant": "retail"}]


def test_no_permit_can_ever_apply() -> None:
    explanation = explain(POLICY, replace(refund(), principal=WHOLESALE))
    assert "no policy permits this action to this agent" in explanation.bundle_change
    assert not explanation.ways
    assert "no policy permits" not in explain(POLICY, refund(9900)).bundle_change


def test_an_agent_without_an_owner() -> None:
    explanation = explain(compiled(UNOWNED), question())
    assert isinstance(explanation.decision, Deny)
    assert explanation.decision.reason is Reason.AGENT_WITHOUT_OWNER
    assert explanation.bundle_change == "give the agent its security_owner in entities.toml"
    (way,) = explanation.ways
    assert (way.changes, way.decision.policy_ids) == ((), ("order-readers-may-look-up-orders",))


def test_a_policy_that_cannot_be_evaluated_is_named() -> None:
    policy = compiled(without_cases(forbid(COURIER, "order.read", OVERFLOW)))
    explanation = explain(policy, question(COURIER, purpose="delivery"))
    assert isinstance(explanation.decision, Deny)
    assert explanation.decision.reason is Reason.POLICY_ERROR
    assert explanation.facts[0].values == ("odd",)
    assert not explanation.ways


def test_a_permit_that_does_not_count_is_said_to_apply_and_the_decision_to_be_no() -> None:
    policy: CompiledPolicy = compiled(WIDE)
    explanation = explain(policy, question(resource=CUSTOMER))
    assert isinstance(explanation.decision, Deny)
    assert explanation.decision.reason is Reason.POLICY_NOT_PERMITTED
    assert "do not name the agent" in explanation.decision.detail
    assert explanation.considered[0].rule.id == "odd-wide"
    assert explanation.considered[0].applies


def test_held_for_a_person() -> None:
    asked = question(action="customer.payout_change", resource=CUSTOMER, task=TASK, parameters={"account": "x"})
    explanation = explain(POLICY, asked)
    assert isinstance(explanation.decision, Hold)
    assert explanation.considered[0].rule.id == "support-may-ask-for-a-payout-change"
    assert not explanation.ways


def test_nothing_in_a_question_makes_it_raise() -> None:
    for asked in (
        question(""),
        question(action="broker.revoke"),
        question(action="read"),
        question(action="order.list", resource=Resource(type="order", set="open-orders"), risk=Level.HIGH),
        question(resource=Resource(type="order", id='"; permit(principal, action, resource);')),
        refund({"__entity": {"type": "Agent", "id": SUPPORT}}),
        refund(["x"]),
        refund({"deep": {"er": [1, {"x": "y"}]}}),
        question(parameters={"x": [1]}),
    ):
        assert explain(POLICY, asked).decision == decide(POLICY, asked)


def test_a_resource_that_a_policy_forbids_by_name() -> None:
    """Another resource is a way out, and so is none that a policy names."""
    asked = question(action="order.cancel", resource=Resource(type="order", id="13"), task=TASK)
    found = ways(explain(RICH, asked))
    assert {"resource": Resource(type="order", id="any")} in found
    text = '@id("odd") forbid (principal, action == Action::"order.cancel", resource);'
    assert not explain(compiled(without_cases(added("odd.cedar", text))), asked).ways
