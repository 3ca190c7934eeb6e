"""`broker stop` against `broker serve`: two operators, an agent that is stopped, and what each of them reads."""

import json
from collections.abc import Iterator

import pytest

from tests.cli.callers import Callers
from tests.cli.setups import AGENT, OPERATOR, build, start

READ = ("exchange", "--action", "order.read", "--resource", "order/1234", "--purpose", "customer-support",
        "--audience", "spiffe://example.org/service/orders")  # fmt: skip


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    house = build(tmp_path_factory.mktemp("s"))
    process = start(house)
    opened = Callers(house=house)
    yield opened
    process.terminate()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()
    opened.stop()
    house.spire.stop()


def imposed(callers: Callers, *what: str) -> str:
    done = callers.run("operator", "stop", *what, "--reason", "a drill", "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["stopped"])


def let_go_on(callers: Callers, override: str) -> None:
    done = callers.run("duty", "stop", "lift", override, "--reason", "over")
    assert done.returncode == 0, done.stderr


def test_everything_is_stopped_shown_and_let_go_on_by_another(callers: Callers) -> None:
    assert callers.run("agent", *READ).returncode == 0
    done = callers.run("operator", "stop", "everything", "--reason", "a drill \u202etxet")
    assert done.returncode == 0, done.stderr
    override = next(line.split()[-1] for line in done.stdout.splitlines() if line.startswith("stopped"))
    assert f"broker stop lift {override}" in done.stderr
    stopped = callers.run("agent", *READ)
    assert (stopped.returncode, "OVERRIDE_IN_FORCE" in stopped.stderr) == (1, True)
    shown = callers.run("duty", "stop", "list").stdout
    assert all(each in shown for each in ("everything", OPERATOR, "a drill \\u{202e}txet", override))
    own = callers.run("operator", "stop", "lift", override, "--reason", "over")
    assert (own.returncode, "SECOND_PERSON_REQUIRED" in own.stderr) == (1, True)
    _, findings = callers.house.doctor()
    assert (findings["overrides"]["level"], override in findings["overrides"]["what"]) == ("warning", True)
    let_go_on(callers, override)
    assert callers.run("agent", *READ).returncode == 0
    assert callers.run("duty", "stop", "list").stdout == "nothing is stopped\n"
    assert callers.house.doctor()[1]["overrides"]["level"] == "ok"
    again = callers.run("duty", "stop", "lift", override, "--reason", "over")
    assert (again.returncode, "OVERRIDE_UNKNOWN" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    "what",
    [("agent", AGENT), ("tenant", "main"), ("class", "read"), ("class", "read", "--tenant", "main"),
     ("action", "order.read"), ("action", "order.read", "--tenant", "main")],
    ids=" ".join,
)  # fmt: skip
def test_less_than_everything(callers: Callers, what: tuple[str, ...]) -> None:
    override = imposed(callers, *what)
    assert "OVERRIDE_IN_FORCE" in callers.run("agent", *READ).stderr
    (line,) = callers.run("duty", "stop", "list", "--json").stdout.splitlines()
    listed = json.loads(line)
    assert (listed["id"], listed["kind"], listed["name"], listed["within_tenant"]) == (
        (override, what[0], what[1], "main" if "--tenant" in what else "")
    )
    let_go_on(callers, override)


def test_why_has_to_be_said_and_a_misspelt_name_is_none(callers: Callers) -> None:
    assert callers.run("operator", "stop", "everything").returncode == 2  # wrong usage
    misspelt = callers.run("operator", "stop", "agent", AGENT + "s", "--reason", "x")
    assert (misspelt.returncode, "REVOCATION_TARGET_UNKNOWN" in misspelt.stderr) == (1, True)
    refused = callers.run("agent", "stop", "everything", "--reason", "x")
    assert refused.returncode == 1
    assert callers.run("operator", "stop", "list").stdout == "nothing is stopped\n"
