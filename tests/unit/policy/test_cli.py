"""`broker policy check` and `broker policy test`: for people a table, for programs JSON, for both an exit status."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli.policy import policy
from tests.unit.policy.bundles import DIRECTORY, EXAMPLE, compiled, replaced


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    files = replaced("golden.toml", "task = true", "tasks = true", replaced("reads.cedar", "permit (", "permitt ("))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def surprising(tmp_path: Path) -> Path:
    for name, content in replaced("writes.cedar", "> 5000", "> 6000").items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(policy, arguments)
    return result.exit_code, result.output


def test_check_of_a_good_bundle() -> None:
    status, text = run("check", str(DIRECTORY))
    assert status == 0
    assert compiled().digest in text
    status, text = run("check", "--json", str(DIRECTORY))
    answer = json.loads(text)
    assert (status, answer["ok"], answer["digest"]) == (0, True, compiled().digest)
    assert answer["counts"]["policies"] == len(compiled().policy_ids)


@pytest.mark.parametrize("command", ["check", "test"])
def test_every_problem_is_named_at_once(command: str, broken: Path) -> None:
    status, text = run(command, str(broken))
    assert status == 1
    assert "reads.cedar:" in text
    assert "golden.toml:" in text
    status, text = run(command, "--json", str(broken))
    answer = json.loads(text)
    assert (status, answer["ok"]) == (1, False)
    assert {problem["file"] for problem in answer["problems"]} >= {"reads.cedar", "golden.toml"}
    assert all(problem["sentence"] for problem in answer["problems"])


def test_the_golden_cases_as_a_table() -> None:
    status, text = run("test", str(DIRECTORY))
    assert status == 0
    assert "support refunds up to the limit" in text
    assert "no-refund-beyond-limit" in text
    assert "all as expected" in text
    status, text = run("test", "--json", str(DIRECTORY))
    answer = json.loads(text)
    assert (status, answer["ok"]) == (0, True)
    assert len(answer["cases"]) == EXAMPLE["golden.toml"].count(b"[[case]]")


def test_a_case_that_fails_is_shown(surprising: Path) -> None:
    status, text = run("test", str(surprising))
    assert status == 1
    assert "WRONG" in text
    assert "expected deny POLICY_FORBIDDEN" in text
    status, text = run("test", "--json", str(surprising))
    wrong = [case["name"] for case in json.loads(text)["cases"] if not case["passed"]]
    assert (status, wrong) == (1, ["support does not refund beyond the limit"])


def test_a_directory_that_is_not_there() -> None:
    assert run("check", "/nowhere/at/all")[0] == 2
