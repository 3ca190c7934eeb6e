"""`broker policy explain`: for people, for programs, and an exit status."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from broker.cli import broker
from tests.unit.policy.bundles import DIRECTORY, ORDERS, SUPPORT, replaced

ASKED: Final = ("--agent", SUPPORT, "--purpose", "customer-support", "--audience", ORDERS)
REFUND: Final = (*ASKED, "--action", "order.refund", "--resource", "order/1234", "--task")
LIMIT: Final = '{"limit": 5}'


def run(*arguments: str, directory: Path = DIRECTORY) -> Result:
    return CliRunner().invoke(broker, ["policy", "explain", str(directory), *arguments])


def answer(*arguments: str) -> tuple[int, dict[str, Any]]:
    result = run(*arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def amount(number: int) -> tuple[str, str]:
    return "--parameters", json.dumps({"amount": number, "currency": "EUR"})


def test_a_permit_for_people() -> None:
    result = run(*REFUND, *amount(990))
    assert result.exit_code == 0
    assert "permitted" in result.output
    assert "support-may-refund  writes.cedar:4  decided" in result.output
    assert "0:02:00 (by support-may-refund)" in result.output
    assert "what would have to change" not in result.output


def test_a_refusal_for_people() -> None:
    result = run(*REFUND, *amount(9900))
    assert result.exit_code == 1
    assert "refused POLICY_FORBIDDEN" in result.output
    assert "a colleague has to help you" in result.output
    assert "✓ context.parameters.amount > 5000" in result.output
    assert '✗ context.risk == "high"' in result.output
    assert "parameters.amount 5000, not 9900  → permitted by support-may-refund" in result.output


def test_a_permit_for_programs() -> None:
    status, found = answer(*REFUND, *amount(990))
    assert (status, found["loads"], found["ways"]) == (0, True, [])
    assert found["decision"] == {
        "answer": "permit",
        "policies": ["support-may-refund"],
        "tenant": "retail",
        "class": "write",
        "use": "once",
        "max_lifetime_seconds": 120,
        "scope": {"amount": [990], "currency": ["EUR"]},
        "limits": [
            {"limit": "support-may-refund: 20 grants per task", "adds": 1},
            {"limit": "support-may-refund: amount of 100000 per conversation", "adds": 990},
        ],
        "step_up": [],
    }
    assert found["history"] == ["separate duties payout-or-refund: not in one task with customer.payout_change"]


def test_what_was_granted_before_decides_what_may_follow() -> None:
    status, found = answer(*REFUND, *amount(990), "--after", "customer.payout_change")
    assert (status, found["decision"]["reason"]) == (1, "DUTY_SEPARATED")
    assert found["facts"][0]["what"] == "what was granted before"
    assert answer(*REFUND, *amount(990), "--after", "customer.read")[0] == 0


def test_what_was_granted_before_is_an_action_of_a_task() -> None:
    assert run(*REFUND, *amount(990), "--after", "order.fly").exit_code == 2
    assert run(*[each for each in REFUND if each != "--task"], *amount(990), "--after", "order.read").exit_code == 2


def test_a_refusal_for_programs() -> None:
    status, found = answer(*REFUND, *amount(9900))
    assert (status, found["decision"]["reason"]) == (1, "POLICY_FORBIDDEN")
    change = {"place": "parameters.amount", "before": 9900, "after": 5000}
    assert found["ways"] == [{"answer": "permit", "policies": ["support-may-refund"], "changes": [change]}]
    assert found["policies"][0]["decided"]
    assert found["policies"][0]["line"] == 19


def test_a_set_a_task_and_levels() -> None:
    listing = (*ASKED, "--action", "order.list", "--resource-set", "order/open-orders", "--parameters", LIMIT)
    assert run(*listing).exit_code == 0
    assert answer(*listing, "--risk", "high")[1]["decision"]["reason"] == "RESOURCE_SET_REFUSED"
    cancel = (*ASKED, "--action", "order.cancel", "--resource", "order/1")
    assert "a task  → permitted by support-may-cancel-an-order" in run(*cancel).output
    assert run(*cancel, "--task", "--sensitivity", "high", "--on-behalf-of", "somebody").exit_code == 0


def test_held() -> None:
    asked = (*ASKED, "--action", "customer.payout_change", "--resource", "customer/1", "--task")
    result = run(*asked, "--parameters", '{"account": "x"}')
    assert result.exit_code == 1
    assert "held: a person has to approve it first" in result.output
    assert "one of group refund-approvers, not the owners; within 0:15:00, then good for 0:05:00" in result.output
    status, found = answer(*asked, "--parameters", '{"account": "x"}')
    assert (status, found["decision"]["answer"]) == (1, "hold")
    assert [each["group"] for each in found["decision"]["step_up"]] == ["refund-approvers"]


WRONG_USAGE = {
    "no resource": (*ASKED, "--action", "order.read"),
    "two resources": (*ASKED, "--action", "order.read", "--resource", "order/1", "--resource-set", "order/x"),
    "no slash": (*ASKED, "--action", "order.read", "--resource", "order"),
    "no name": (*ASKED, "--action", "Order Read", "--resource", "order/1"),
    "parameters": (*REFUND, "--parameters", "{"),
}


@pytest.mark.parametrize("arguments", WRONG_USAGE.values(), ids=WRONG_USAGE)
def test_what_is_no_intent(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit)


def test_a_bundle_that_is_not_sound_and_one_whose_cases_fail(tmp_path: Path) -> None:
    for name, content in replaced("writes.cedar", "> 5000", "> 6000").items():
        (tmp_path / name).write_bytes(content)
    result = run(*REFUND, *amount(9900), directory=tmp_path)
    assert result.exit_code == 1
    assert "golden cases fail" in result.stderr
    assert "refused POLICY_FORBIDDEN" in result.stdout
    (tmp_path / "writes.cedar").write_text("permitt")
    result = run(*REFUND, *amount(9900), directory=tmp_path)
    assert result.exit_code == 1
    assert "writes.cedar:1" in result.stdout
