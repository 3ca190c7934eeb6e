"""Limits in policy: how they are read, what a grant adds up under them, and what does not load."""

import json
import re
from typing import Any

import pytest

from broker.errors import Reason, Refusal
from broker.intent import MAX_INTEGER, Json
from broker.policy.bundle import BundleProblem
from broker.policy.decide import decide
from broker.policy.decision import Deny, Permit, Question
from broker.policy.limit import MAX_LIMITS, Limit, Per, limits_from
from tests.unit.policy.bundles import EXAMPLE, TASK, added, compiled, question, refund, replaced, without_cases

REFUND = '@id("support-may-refund")'


def written(*limits: dict[str, Json]) -> str:
    """Return an annotation that states these limits."""
    text = json.dumps(list(limits)).replace('"', r"\"")
    return f'@limit("{text}")'


# The example without limits and duties of its own.
PLAIN = {
    **EXAMPLE,
    "writes.cedar": re.sub(rb"@limit\(.*\)\n", b"", EXAMPLE["writes.cedar"]),
    "entities.toml": re.sub(rb"\n\[\[separate_duties\]\]\n(.+\n)+", b"\n", EXAMPLE["entities.toml"]),
}


def limited(*limits: dict[str, Json], policy: str = REFUND) -> dict[str, bytes]:
    """Return the example with these limits, on one of its policies, and no others."""
    file = next(name for name, content in PLAIN.items() if policy.encode() in content)
    return without_cases(replaced(file, policy, f"{policy}\n{written(*limits)}", PLAIN))


def decided(files: dict[str, bytes], asked: Question) -> Any:
    return decide(compiled(files), asked)


def test_limits_are_read_in_their_order() -> None:
    text = '[{"per": "task", "max": 3}, {"per": "day", "max": 100, "sum": "amount"}]'
    assert limits_from("p", text) == (
        Limit(policy="p", place=0, per=Per.TASK, maximum=3),
        Limit(policy="p", place=1, per=Per.DAY, maximum=100, parameter="amount"),
    )
    assert [str(limit) for limit in limits_from("p", text)] == ["p: 3 grants per task", "p: amount of 100 per day"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "3",
        '[{"per": "task"}]',
        '[{"max": 1}]',
        '[{"per": "hour", "max": 1}]',
        '[{"per": ["task"], "max": 1}]',
        '[{"per": "task", "max": 0}]',
        '[{"per": "task", "max": -1}]',
        '[{"per": "task", "max": true}]',
        '[{"per": "task", "max": "1"}]',
        '[{"per": "task", "max": 1.5}]',
        '[{"per": "task", "max": 1, "sum": ""}]',
        '[{"per": "task", "max": 1, "sum": 7}]',
        '[{"per": "task", "max": 1, "min": 1}]',
        '[{"per": "task", "max": 1, "max": 2}]',
        '[{"per": "task", "max": 1}], "more": [1',
        '[{"per": "task", "max": 1}], "more": 1',
        json.dumps([{"per": "task", "max": 1}] * (MAX_LIMITS + 1)),
        json.dumps([{"per": "task", "max": MAX_INTEGER + 1}]),
    ],
)
def test_what_is_no_list_of_limits_is_refused(text: str) -> None:
    with pytest.raises((Refusal, ValueError)):
        limits_from("p", text)


def test_a_bundle_with_a_limit_that_cannot_be_read_does_not_load() -> None:
    with pytest.raises(BundleProblem, match=r"writes.cedar:\d+: policy support-may-refund: @limit: .*per"):
        compiled(limited({"per": "hour", "max": 1}))
    with pytest.raises(BundleProblem, match=r"@limit: .*integers"):
        compiled(replaced("writes.cedar", REFUND, f'{REFUND}\n@limit("[1.5]")', PLAIN))


@pytest.mark.parametrize("parameter", ["currency", "sum", "Amount"])
def test_what_is_added_up_is_an_integer_of_the_schema(parameter: str) -> None:
    with pytest.raises(
        BundleProblem, match=f"@limit adds up '{parameter}', which is no Long parameter of order.refund"
    ):
        compiled(limited({"per": "task", "max": 10, "sum": parameter}))
    compiled(limited({"per": "task", "max": 10_000, "sum": "amount"}))


def test_a_limit_has_no_meaning_without_a_credential() -> None:
    broker = 'permit (\n    principal is Agent,\n    action == Action::"broker.task.begin"'
    with pytest.raises(BundleProblem, match="@limit has no meaning here"):
        compiled(replaced("broker.cedar", broker, written({"per": "day", "max": 1}) + "\n" + broker))
    forbid = '@id("no-refund-beyond-limit")'
    with pytest.raises(BundleProblem, match="@limit has no meaning on a forbid"):
        compiled(replaced("writes.cedar", forbid, f"{forbid}\n{written({'per': 'day', 'max': 1})}"))


def test_a_grant_adds_up_under_the_limits_of_all_policies_that_permit() -> None:
    second = f"""
@id("also")
@max_lifetime("PT1M")
{written({"per": "day", "max": 7})}
permit (principal == Agent::"spiffe://example.org/agent/support-assistant", action == Action::"order.refund", resource);
"""
    first = limited({"per": "task", "max": 3}, {"per": "day", "max": 9000, "sum": "amount"})
    files = without_cases(added("more.cedar", second, first))
    decision = decided(files, refund(250))
    assert isinstance(decision, Permit)
    assert {(str(charge.limit), charge.amount) for charge in decision.terms.charges} == {
        ("also: 7 grants per day", 1),
        ("support-may-refund: 3 grants per task", 1),
        ("support-may-refund: amount of 9000 per day", 250),
    }


def test_a_bundle_without_limits_charges_nothing() -> None:
    decision = decide(compiled(without_cases(PLAIN)), refund(250))
    assert isinstance(decision, Permit)
    assert decision.terms.charges == ()


# The schema wants an amount there; a bundle whose schema does not must not let what is missing count for nothing.
OPTIONAL = replaced("schema.cedarschema", "amount: Long", "amount?: Long", PLAIN)


@pytest.mark.parametrize("amount", [None, -1, -(2**53) + 1])
def test_what_cannot_be_added_up_is_refused(amount: int | None) -> None:
    loose = replaced("writes.cedar", r"\"amount\": {\"min\": 1, \"max\": 5000}, ", "", OPTIONAL)
    loose = replaced("writes.cedar", "context.parameters.amount > 5000", "context.parameters has nothing", loose)
    loose = replaced("schema.cedarschema", "amount?: Long", "amount?: Long, nothing?: Bool", loose)
    annotation = written({"per": "task", "max": 10_000, "sum": "amount"})
    files = replaced("writes.cedar", REFUND, f"{REFUND}\n{annotation}", loose)
    files = without_cases(files)
    parameters: dict[str, Json] = {"currency": "EUR"}
    if amount is not None:
        parameters["amount"] = amount
    asked = question(action="order.refund", task=TASK, parameters=parameters)
    decision = decided(files, asked)
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.LIMIT_AMOUNT_REFUSED
    assert decision.policy_ids == ("support-may-refund",)
    assert str(amount) not in decision.detail
    control = decided(files, question(action="order.refund", task=TASK, parameters={"currency": "EUR", "amount": 0}))
    assert isinstance(control, Permit)
    assert [charge.amount for charge in control.terms.charges] == [0]


def test_one_grant_that_alone_goes_beyond_a_limit_is_refused_by_policy_itself() -> None:
    files = limited({"per": "task", "max": 100, "sum": "amount"})
    files = without_cases(files)
    decision = decided(files, refund(101))
    assert isinstance(decision, Deny)
    assert (decision.reason, decision.detail) == (Reason.LIMIT_REACHED, "policy support-may-refund, per task")
    assert isinstance(decided(files, refund(100)), Permit)


@pytest.mark.parametrize(("per", "needed"), [("task", True), ("conversation", True), ("agent", False), ("day", False)])
def test_what_counts_by_task_or_conversation_needs_a_task(per: str, needed: bool) -> None:
    files = limited({"per": per, "max": 5}, policy='@id("order-readers-may-look-up-orders")')
    files = without_cases(files)
    outside, inside = decided(files, question()), decided(files, question(task=TASK))
    assert (isinstance(outside, Deny) and outside.reason is Reason.TASK_REQUIRED) is needed
    assert isinstance(inside, Permit)
