"""`broker audit trace` and `broker audit unaccounted` against `broker serve`, and `broker task resume`."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.outcome import Report
from broker.validator import connect
from tests.cli.callers import Callers
from tests.cli.setups import AGENT, BROKER, OPERATOR, SERVICE, build, start
from tests.operations.world import said

REFUND = ("exchange", "--action", "order.refund", "--resource", "order/1234", "--purpose", "customer-support",
          "--audience", SERVICE, "--parameters", '{"amount": 4200, "currency": "EUR"}')  # fmt: skip
NOBODYS = "cred_0190a0a0-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    house = build(tmp_path_factory.mktemp("t"))
    process = start(house, "--embedded")
    opened = Callers(house=house)
    yield opened
    process.terminate()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()
    opened.stop()
    house.spire.stop()


def answer(callers: Callers, who: str, *arguments: str) -> dict[str, Any]:
    done = callers.run(who, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def report(callers: Callers, spool: Path, *reports: Report) -> None:
    """Report something as the service, from a spool of its own."""

    async def sent() -> None:
        socket = callers.environment("service")["SPIFFE_ENDPOINT_SOCKET"]
        address = f"127.0.0.1:{callers.house.port}"
        async with connect(
            address, broker_id=BROKER, issuer="https://broker.example.org", socket=socket, spool=spool
        ) as service:
            reporter, kept = service.validation.reporter, service.reports
            assert reporter is not None
            assert kept is not None
            for each in reports:
                assert await asyncio.wrap_future(kept._spool.add(each))
            async with asyncio.timeout(60):
                await reporter.emptied()

    asyncio.run(sent())


@pytest.fixture(scope="module")
def told(callers: Callers, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Let one refund be asked for, used and done, and another one be used without an end."""
    task = answer(callers, "agent", "task", "begin", "--purpose", "customer-support", "--conversation", "chat \u202e77")
    first, second = (answer(callers, "agent", *REFUND, "--task", task["task"])["credential"] for _ in range(2))
    use, open_ = said("accepted", first), said("accepted", second)
    done = said("done", use=use, reference="refund-7")
    report(callers, tmp_path_factory.mktemp("spool"), use, done, open_)
    return {"task": task["task"], "first": first, "second": second, "use": use.id, "open": open_.id}


def test_a_story_names_everybody_everything_and_what_would_take_it_away(callers: Callers, told: dict[str, str]) -> None:
    done = callers.run("operator", "audit", "trace", told["first"], "--personal")
    assert done.returncode == 0, done.stderr
    for part in (
        told["task"], "chat \\u{202e}77", "order.refund order/1234", "amount = 4200", AGENT, SERVICE, "permitted",
        told["first"], "the service accepted it", "refund-7", "touched", f"broker revoke credential {told['first']}",
        f"broker revoke task {told['task']}", f"broker stop agent {AGENT} --reason ...",
    ):  # fmt: skip
        assert part in done.stdout, part
    assert told["second"] not in done.stdout
    assert "\u202e" not in done.stdout


def test_without_personal_values_they_are_not_shown_and_it_is_said(callers: Callers, told: dict[str, str]) -> None:
    done = callers.run("operator", "audit", "trace", told["first"])
    assert done.returncode == 0, done.stderr
    assert "(personal: shown with --personal)" in done.stdout
    # As words of their own: an id may hold any digits.
    assert not re.findall(r"(?<![\w-])(?:chat|4200|refund-7)(?![\w-])", done.stdout)
    for name in ("chat \u202e77", "refund-7"):
        refused = callers.run("operator", "audit", "trace", name)
        assert (refused.returncode, "--personal" in refused.stderr, refused.stdout) == (1, True, "")
    assert told["first"] in callers.run("operator", "audit", "trace", "refund-7", "--personal").stdout


def test_a_task_is_the_story_of_all_that_is_in_it(callers: Callers, told: dict[str, str]) -> None:
    found = answer(callers, "operator", "audit", "trace", told["task"])
    (task,) = found["tasks"]
    credentials = [each["granted"]["credential"] for each in task["credentials"]]
    assert credentials == [told["first"], told["second"]]
    outcomes = [len(use["outcomes"]) for each in task["credentials"] for use in each["uses"]]
    assert outcomes == [1, 0]
    assert found["systems"] == [{"service": SERVICE, "touched": True}]
    assert f"broker revoke agent {AGENT}" in found["commands"]


def test_what_is_not_there_or_not_allowed(callers: Callers, told: dict[str, str]) -> None:
    missing = callers.run("operator", "audit", "trace", NOBODYS)
    assert (missing.returncode, "says nothing of" in missing.stderr, missing.stdout) == (1, True, "")
    for command in (("trace", told["first"]), ("unaccounted",)):
        refused = callers.run("agent", "audit", *command)
        assert (refused.returncode, "refused" in refused.stderr, refused.stdout) == (1, True, "")


def test_uses_without_an_end_are_listed_with_their_age(callers: Callers, told: dict[str, str]) -> None:
    shown = callers.run("operator", "audit", "unaccounted")
    assert shown.returncode == 0, shown.stderr
    assert all(each in shown.stdout for each in (SERVICE, told["open"], told["second"], "has said nothing"))
    assert re.match(r"\d+:\d\d:\d\d  use ", shown.stdout)
    assert told["first"] not in shown.stdout
    (line,) = callers.run("operator", "audit", "unaccounted", "--json").stdout.splitlines()
    found = json.loads(line)
    assert (found["use"], found["credential"], found["service"]) == (told["open"], told["second"], SERVICE)
    assert found["age_seconds"] >= 0
    old = callers.run("operator", "audit", "unaccounted", "--older-than", "1h")
    assert old.stdout == "every use has an outcome\n"


def test_a_suspended_task_goes_on(callers: Callers) -> None:
    begun = answer(callers, "agent", "task", "begin", "--purpose", "customer-support", "--action", "order.read")
    unmet = callers.run("operator", "task", "resume", begun["task"], "--reason", "nothing to see")
    assert (unmet.returncode, "TASK_NOT_SUSPENDED" in unmet.stderr) == (1, True)
    assert callers.run("operator", "task", "resume", begun["task"]).returncode == 2, "why has to be said"
    refused = callers.run("agent", "task", "resume", begun["task"], "--reason", "please")
    assert (refused.returncode, OPERATOR in refused.stderr) == (1, False)
