"""`broker paths`: for people, for programs, and an exit status."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from broker.cli import broker
from tests.unit.policy.bundles import DIRECTORY, SHARED, SUPPORT, without_cases
from tests.unit.policy.test_paths import permit


def run(*arguments: str, directory: Path = DIRECTORY) -> Result:
    return CliRunner().invoke(broker, ["paths", str(directory), *arguments])


def test_for_people() -> None:
    result = run()
    assert result.exit_code == 0
    assert f"{SUPPORT} for retail" in result.output
    assert "unless context.parameters.amount > 5000" in result.output
    assert 'with amount in {"min": 1, "max": 5000}' in result.output
    assert "held for approval" in result.output
    assert "16 paths; each was confirmed by a decision\n" in result.output


def test_for_programs() -> None:
    result = run("--json", "--agent", SUPPORT)
    found = json.loads(result.output)
    assert (result.exit_code, found["loads"], found["unconfirmed"], len(found["paths"])) == (0, True, 0, 8)
    (refund,) = [row for row in found["paths"] if row["action"] == "order.refund"]
    assert refund["permits"][0]["condition"] == 'context.purpose == "customer-support"'
    assert refund["permits"][0]["scope"]["amount"] == {"min": 1, "max": 5000}
    assert refund["forbids"][0]["reason"].startswith("I can refund up to 50 euros")
    assert refund["max_lifetime_seconds"] == 120
    assert refund["witness"]["action"] == "order.refund"


def test_one_tenant() -> None:
    found = json.loads(run("--json", "--tenant", "wholesale").output)
    assert {row["tenant"] for row in found["paths"]} == {"wholesale"}


def test_a_misspelled_name_is_not_an_agent_that_may_do_nothing() -> None:
    assert run("--agent", SUPPORT + "s").exit_code == 2
    assert run("--tenant", "retial").exit_code == 2
    assert run("--agent", SHARED, "--tenant", "retail").exit_code == 0


def test_what_is_not_confirmed_says_so(tmp_path: Path) -> None:
    for name, content in without_cases(permit(SHARED, "order.refund", "context.parameters.amount * 7 == 3")).items():
        (tmp_path / name).write_bytes(content)
    result = run(directory=tmp_path)
    assert "not confirmed" in result.output
    assert "each was confirmed by a decision, except 2" in result.output
    assert json.loads(run("--json", directory=tmp_path).output)["unconfirmed"] == 2


def test_a_bundle_that_is_not_sound(tmp_path: Path) -> None:
    result = run(directory=tmp_path)
    assert result.exit_code == 1
    assert "schema.cedarschema" in result.output
