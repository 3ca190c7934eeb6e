"""`broker approvals`, `approve` and `deny` against `broker serve`: an agent that asks, and the people who answer it."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.callers import Callers, following
from tests.cli.setups import AGENT, ROOT, build, start, wait_for
from tests.fakes.identity import IdentityKey
from tests.fakes.oidc_issuer import OidcIssuer

AUDIENCE = ("--audience", "spiffe://example.org/service/orders")
HELD = re.compile(r"appr_[0-9a-f-]{36}")


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    house = build(tmp_path_factory.mktemp("a"))
    issuer = OidcIssuer(folder=tmp_path_factory.mktemp("oidc")).start()
    with house.config.open("a") as config:
        config.write(
            f'\n[[oidc]]\nissuer = "{issuer.url}"\naudience = "approvals-tool"\nca_file = "{issuer.ca_file}"\n'
        )
    with (house.policy / "entities.toml").open("a") as entities:
        identities = f'[{{ issuer = "{issuer.url}", subject = "ben" }}]'
        entities.write(
            f'\n[[person]]\nname = "ben"\nall_tenants = true\ngroups = ["duty"]\nidentities = {identities}\n'
        )
    drift = 'drift = { refusals = 2, within = "PT10M", then = "suspend", escalate_to = "duty" }'
    house.edit('maximum_age = "PT8H"', f'maximum_age = "PT8H"\n{drift}', file=house.policy / "entities.toml")
    with (house.policy / "policies.cedar").open("a") as policies:
        policies.write(
            '\n@id("tool-answers")\npermit (\n    principal is Service,\n    action in '
            '[Action::"broker.approval.decide", Action::"broker.approval.read"],\n    resource is Task\n);\n'
        )
    process = start(house)
    opened = Callers(house=house)
    (house.folder / "token").write_text(issuer.token(sub="ben") + "\n")
    an_hour_ago = int(time.time()) - 3600
    old = issuer.token(sub="ben", iat=an_hour_ago, auth_time=an_hour_ago, exp=an_hour_ago + 600)
    (house.folder / "old").write_text(old)
    (house.folder / "forged").write_text(issuer.token(IdentityKey.make("no"), sub="ben"))
    yield opened
    process.terminate()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()
    opened.stop()
    issuer.stop()
    house.spire.stop()


def ask(callers: Callers, amount: int = 9900, order: str = "order/1234", **more: object) -> tuple[str, str, str]:
    """Let the agent ask for a refund in a task of its own; return the task, what was asked, and what was answered."""
    begun = callers.run("agent", "task", "begin", "--purpose", "customer-support", "--json")
    assert begun.returncode == 0, begun.stderr
    task = str(json.loads(begun.stdout)["task"])
    parameters = json.dumps({"amount": amount, "currency": "EUR"} | more)
    return task, parameters, exchange(callers, task, parameters, order).stderr


def exchange(
    callers: Callers, task: str, parameters: str, order: str = "order/1234", *more: str
) -> "subprocess.CompletedProcess[str]":
    return callers.run(
        "agent", "exchange", "--action", "order.refund", "--resource", order, "--purpose", "customer-support",
        "--task", task, "--parameters", parameters, *AUDIENCE, *more,
    )  # fmt: skip


def held(callers: Callers, amount: int) -> str:
    """Return the id of a request that waits."""
    known = {each["id"] for each in listed(callers)}
    ask(callers, amount)
    (fresh,) = {each["id"] for each in listed(callers)} - known
    return str(fresh)


def listed(callers: Callers, who: str = "duty", *options: str) -> list[dict[str, object]]:
    found = callers.run(who, "approvals", "--json", *options)
    assert found.returncode == 0, found.stderr
    return [json.loads(line) for line in found.stdout.splitlines()]


def digest_of(callers: Callers, approval: str) -> str:
    (found,) = [each for each in listed(callers) if each["id"] == approval]
    details = found["details"]
    assert isinstance(details, dict)
    return str(details["digest"])


def on_a_terminal(callers: Callers, answer: str, *arguments: str, who: str = "duty") -> tuple[int, str]:
    """Run a command on a terminal, and type an answer once it asks."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", *arguments], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs,
        env=callers.environment(who) | {"TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
            if b"[y/N]" in shown and answer:
                os.write(ours, answer.encode() + b"\n")
                answer = ""
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    return process.wait(30), shown.decode()


def test_a_person_sees_what_waits_and_says_yes_on_a_terminal(callers: Callers) -> None:
    quiet = callers.run("duty", "approvals")
    assert quiet.stdout == "nothing waits for you\n", quiet.stderr
    assert ("--identity-token-file" in quiet.stderr, "`broker doctor`" in quiet.stderr) == (True, True), quiet.stderr
    denied = callers.run("duty", "approvals", "--state", "denied", "--state", "used")
    assert denied.stdout == "nothing of yours is denied or used\n", denied.stderr
    task, parameters, said = ask(callers)
    assert "STEP_UP_REQUIRED" in said
    shown = callers.run("duty", "approvals")
    (approval,) = set(HELD.findall(shown.stdout))
    assert "broker approve APPROVAL" in shown.stderr
    own = callers.run("agent", "approvals")
    assert (approval in own.stdout, "none of these is for you to answer" in own.stderr) == (True, True), own.stderr
    assert "broker approve APPROVAL" not in own.stderr
    assert all(each in shown.stdout for each in (AGENT, "order.refund", "amount=9900", "0 of 1 of duty")), shown.stdout
    status, seen = on_a_terminal(callers, "n", "approve", approval)
    assert (status, "nothing was approved" in seen) == (1, True), seen
    status, seen = on_a_terminal(callers, "y", "approve", approval)
    assert status == 0, seen
    for each in (AGENT, task, "amount = 9900", 'currency = "EUR"', "order 1234", "order.refund", "sha-256:",
                 "assistant-may-refund-more-once-approved", "Customer Support", "a bypass of at most 30m"):  # fmt: skip
        assert each in seen, each
    assert seen.index("digest") < seen.index("Approve this?")
    assert f"approved  {approval}" in seen
    assert callers.run("duty", "approvals").stdout == "nothing waits for you\n"
    (used,) = [each for each in listed(callers, "duty", "--state", "approved") if each["id"] == approval]
    assert used["state"] == "approved"
    del parameters


def test_a_program_names_what_was_looked_at(callers: Callers) -> None:
    approval = held(callers, amount=9901)
    digest = digest_of(callers, approval)
    for usage in (("approve", approval), ("approve", approval, "--yes"), ("approve", approval, "--digest", digest)):
        assert callers.run("duty", *usage).returncode == 2, usage
    other = callers.run(
        "duty", "approve", approval, "--digest", digest[:-1] + ("A" if digest[-1] != "A" else "E"), "--yes"
    )
    assert (other.returncode, "nothing was approved" in other.stderr, digest in other.stderr) == (1, True, True)
    done = callers.run("duty", "approve", approval, "--digest", digest, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout)["id"], json.loads(done.stdout)["state"]) == (approval, "approved")


def test_a_person_says_no_and_why(callers: Callers) -> None:
    approval = held(callers, amount=9902)
    assert callers.run("duty", "deny", approval).returncode == 2  # why has to be said
    done = callers.run("duty", "deny", approval, "--reason", "ask me \u202etomorrow")
    assert (done.returncode, done.stdout) == (0, f"denied  {approval}\n"), done.stderr
    late = callers.run("duty", "approve", approval, "--digest", "sha-256:x", "--yes")
    assert late.returncode == 1


def test_who_does_not_decide_is_told_so(callers: Callers) -> None:
    approval = held(callers, amount=9903)
    for who in ("agent", "operator"):
        refused = callers.run(who, "approve", approval, "--digest", "sha-256:x", "--yes")
        assert (refused.returncode, "→" in refused.stderr) == (1, True), refused.stderr
    own = listed(callers, "agent")
    assert approval in {each["id"] for each in own}
    assert {each["details"] for each in own} == {None}


def test_a_person_decides_through_a_tool_by_an_identity_token(callers: Callers) -> None:
    approval = held(callers, amount=9904)
    token = ("--identity-token-file", str(callers.house.folder / "token"))
    found = listed(callers, "service", *token)
    assert approval in {each["id"] for each in found}
    digest = digest_of(callers, approval)
    forged = ("--identity-token-file", str(callers.house.folder / "forged"))
    refused = callers.run("service", "approve", approval, "--digest", digest, "--yes", *forged)
    assert (refused.returncode, "IDENTITY_TOKEN_REFUSED (kid)" in refused.stderr) == (1, True), refused.stderr
    assert "Sign in again" not in refused.stderr
    expired = callers.run("service", "approvals", "--identity-token-file", str(callers.house.folder / "old"))
    assert (expired.returncode, "again for a new ID token" in expired.stderr) == (1, True), expired.stderr
    done = callers.run("service", "approve", approval, "--digest", digest, "--yes", *token)
    assert done.returncode == 0, done.stderr


def test_a_file_that_holds_no_token_is_said_to_and_not_shown(callers: Callers, tmp_path: Path) -> None:
    cases = {"empty": "", "two": "secret.a.b secret.c.d", "long": "secret" * 4000, "not-ascii": "secr\u00e9t"}
    for name, content in cases.items():
        (tmp_path / name).write_text(content)
    for name in (*cases, "none"):
        bad = callers.run("duty", "approvals", "--identity-token-file", str(tmp_path / name))
        assert (bad.returncode, "secr" in bad.stderr) == (2, False), bad.stderr
        assert "holds no identity token" in bad.stderr or "cannot be read" in bad.stderr


def strayed(callers: Callers) -> str:
    """Return a task in which the agent was refused too often what lies outside it."""
    begun = callers.run("agent", "task", "begin", "--purpose", "customer-support", "--action", "order.read", "--json")
    task = str(json.loads(begun.stdout)["task"])
    for _ in range(2):
        refused = exchange(callers, task, '{"amount": 100, "currency": "EUR"}')
        assert "TASK_BOUNDARY_EXCEEDED" in refused.stderr, refused.stderr
    return task


def drifted(callers: Callers, who: str = "duty", *options: str) -> set[object]:
    return {each["task"] for each in listed(callers, who, *options) if each["kind"] == "drifted_task"}


def test_a_task_that_drifted_is_told_and_goes_on_once_a_person_says_so(callers: Callers) -> None:
    task = strayed(callers)
    assert (drifted(callers), drifted(callers, "operator"), drifted(callers, "agent")) == ({task}, {task}, set())
    shown = callers.run("duty", "approvals")
    for each in (task, "2 refusals within 10m", "suspended: nothing is given in it", AGENT, "Customer Support",
                 "of type customer-case", "order.refund", f"broker task resume {task} --reason",
                 f"broker revoke task {task}", f"broker stop agent {AGENT}"):  # fmt: skip
        assert each in shown.stdout, shown.stdout
    assert drifted(callers, "duty", "--state", "pending") == set()
    refused = callers.run("agent", "task", "resume", task, "--reason", "let me")
    assert (refused.returncode, "→" in refused.stderr) == (1, True), refused.stderr
    token = ("--identity-token-file", str(callers.house.folder / "token"))
    assert drifted(callers, "service", *token) == {task}
    forged = ("--identity-token-file", str(callers.house.folder / "forged"))
    refused = callers.run("service", "task", "resume", task, "--reason", "x", *forged)
    assert (refused.returncode, "IDENTITY_TOKEN_REFUSED (kid)" in refused.stderr) == (1, True), refused.stderr
    assert drifted(callers) == {task}
    done = callers.run("service", "task", "resume", task, "--reason", "asked the customer", *token)
    assert done.returncode == 0, done.stderr
    assert drifted(callers) == set()
    again = callers.run("operator", "task", "resume", task, "--reason", "x")
    assert (again.returncode, "TASK_NOT_SUSPENDED" in again.stderr) == (1, True), again.stderr


def test_what_is_offered_for_a_drifted_task_ends_it(callers: Callers) -> None:
    task = strayed(callers)
    (line,) = [line for line in callers.run("operator", "approvals").stdout.splitlines() if "broker revoke" in line]
    arguments = shlex.split(line.partition("broker ")[2])
    done = callers.run("operator", *arguments)
    assert done.returncode == 0, done.stderr
    assert drifted(callers, "operator") == set()
    late = callers.run("duty", "task", "resume", task, "--reason", "x")
    assert (late.returncode, "POLICY_NOT_PERMITTED" in late.stderr) == (1, True), late.stderr
    assert exchange(callers, task, '{"amount": 100, "currency": "EUR"}').returncode == 1


def test_what_changes_is_followed(callers: Callers) -> None:
    with following(callers, "duty", "approvals", "--follow") as found:
        approval = held(callers, amount=9905)
        wait_for(lambda: found.says("pending", approval, "amount=9905"))
        assert callers.run("duty", "deny", approval, "--reason", "no").returncode == 0
        wait_for(lambda: found.says("denied", approval))
        task = strayed(callers)
        wait_for(lambda: found.says("drifted", task, "2 refusals within 10m: order.refund", "suspended"))
        assert callers.run("duty", "task", "resume", task, "--reason", "fine").returncode == 0
        wait_for(lambda: found.says("drifted", task, "resumed"))
