"""`broker keys` against `broker serve`: what operators see, are asked and are told, and what auditors then see."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.callers import Callers
from tests.cli.setups import ROOT, SERVICE, build, start, wait_for


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    house = build(tmp_path_factory.mktemp("k"))
    house.edit('# publish_ahead = "PT5M"', 'publish_ahead = "PT1S"')
    process = start(house)
    opened = Callers(house=house)
    yield opened
    process.terminate()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()
    opened.stop()
    house.spire.stop()


def listed(callers: Callers) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the newest key of each use and state, as a program reads them."""
    answer = callers.run("operator", "keys", "list", "--json")
    assert answer.returncode == 0, answer.stderr
    found = [json.loads(line) for line in answer.stdout.splitlines()]
    return {(key["use"], key["state"]): key for key in reversed(found)}


def rotate(callers: Callers, *options: str) -> dict[str, Any]:
    """Rotate as soon as the next key may sign."""
    answers: list[dict[str, Any]] = []

    def done() -> bool:
        answer = callers.run("operator", "keys", "rotate", "--json", *options)
        if answer.returncode == 0:
            answers.append(json.loads(answer.stdout))
        else:
            assert (answer.returncode, "KEY_NOT_READY" in answer.stderr) == (1, True), answer.stderr
        return bool(answers)

    wait_for(done)
    return answers[0]


def test_people_see_which_key_signs_and_what_comes(callers: Callers) -> None:
    keys = listed(callers)
    shown = callers.run("operator", "keys", "list").stdout
    assert all(key["kid"] in shown for key in keys.values())
    assert "may sign from 20" in shown
    assert "by itself until 20" in shown
    assert "\x1b" not in shown
    for use in ("tokens", "checkpoints"):
        assert keys[use, "current"].keys() >= {"activated_at", "signs_until"}
        assert keys[use, "next"].keys() >= {"published_at", "signs_from"}
        assert not keys[use, "next"].keys() & {"activated_at", "retired_at", "signs_until"}


@pytest.mark.parametrize("use", ["tokens", "checkpoints"])
def test_a_rotation_says_what_happened_and_one_too_early_when_it_can(callers: Callers, use: str) -> None:
    given = callers.run(
        "agent", "exchange", "--action", "order.read", "--resource", "order/1234", "--purpose", "customer-support",
        "--audience", SERVICE,
    )  # fmt: skip
    assert given.returncode == 0, given.stderr
    before = listed(callers)
    changed = rotate(callers, "--use", use)
    assert (changed["kid"], changed["replaced"]) == (before[use, "next"]["kid"], before[use, "current"]["kid"])
    early = callers.run("operator", "keys", "rotate", "--use", use)
    if early.returncode:  # a slow machine may have let the second pass
        assert early.returncode == 1
        assert f"KEY_NOT_READY (not before {changed['signs_from'][:19]}" in early.stderr
        assert "→ The next key has to be published" in early.stderr
    else:
        assert "signs no more" in early.stdout
    after = listed(callers)
    assert after[use, "retired"].keys() >= {"retired_at"}
    shown = callers.run("operator", "keys", "list").stdout
    assert ("known until" if use == "tokens" else "what it signed stays true") in shown


def test_an_emergency_says_who_is_refused_what(callers: Callers) -> None:
    stolen = listed(callers)["tokens", "current"]["kid"]
    done = callers.run("operator", "keys", "rotate", "--emergency", stolen, "--reason", "the disk was read")
    assert done.returncode == 0, done.stderr
    assert f"{stolen} counts no more, since 20" in done.stdout
    assert "refuses what it signed as soon as it hears of it" in done.stdout
    assert "agents have to ask" in done.stdout
    assert stolen not in {key["kid"] for key in listed(callers).values()}
    again = callers.run("operator", "keys", "rotate", "--emergency", stolen, "--reason", "again")
    assert (again.returncode, "KEY_UNKNOWN" in again.stderr) == (1, True)
    tail = callers.run("operator", "audit", "tail", "--kind", "keys.rotated", "--personal").stdout
    assert 'text="the disk was read"' in tail


def test_the_same_request_is_answered_twice(callers: Callers) -> None:
    first = rotate(callers, "--request-id", "r1")
    assert rotate(callers, "--request-id", "r1") == first
    other = callers.run("operator", "keys", "rotate", "--request-id", "r1", "--reason", "another")
    assert (other.returncode, "REQUEST_ID_REUSED" in other.stderr) == (1, True)


USAGE = {
    "no-reason": ("--emergency", "k"),
    "blank-reason": ("--emergency", "k", "--reason", " "),
    "both": ("--emergency", "k", "--reason", "r", "--use", "tokens"),
    "another-use": ("--use", "cookies"),
}


@pytest.mark.parametrize("options", USAGE.values(), ids=USAGE)
def test_wrong_usage(callers: Callers, options: tuple[str, ...]) -> None:
    answer = callers.run("operator", "keys", "rotate", *options)
    assert (answer.returncode, "Usage:" in answer.stderr) == (2, True)


def test_who_may_not_is_told_so_and_nothing_happens(callers: Callers) -> None:
    before = listed(callers)
    for who in ("agent", "service"):
        for command in (("list",), ("rotate",), ("rotate", "--emergency", "k", "--reason", "r")):
            answer = callers.run(who, "keys", *command)
            assert (answer.returncode, "refused" in answer.stderr) == (1, True)
    assert listed(callers)["tokens", "current"] == before["tokens", "current"]


def on_a_terminal(callers: Callers, said: str, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal and answer what it asks."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", *arguments], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs,
        env=callers.environment("operator") | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, said.encode())
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    return process.wait(30), shown.decode()


def test_on_a_terminal_an_emergency_is_asked_about_first(callers: Callers) -> None:
    kid = listed(callers)["tokens", "current"]["kid"]
    asked = ("keys", "rotate", "--emergency", kid, "--reason", "stolen")
    status, shown = on_a_terminal(callers, "n\n", *asked)
    assert (status, "This cannot be taken back. Go on?" in shown) == (1, True)
    assert "every credential that it signed is refused" in shown
    assert listed(callers)["tokens", "current"]["kid"] == kid
    status, shown = on_a_terminal(callers, "", *asked, "--yes")
    assert (status, "Go on?" in shown) == (0, False)
    assert "\x1b[31m" in shown
    kid = listed(callers)["tokens", "current"]["kid"]
    status, shown = on_a_terminal(callers, "y\n", "keys", "rotate", "--emergency", kid, "--reason", "stolen")
    assert (status, "counts no more" in shown) == (0, True)


def export(callers: Callers, log: Path) -> "subprocess.CompletedProcess[str]":
    return callers.run("operator", "audit", "export", str(log))


def test_an_export_goes_on_through_rotations_and_is_verified_with_its_first_key(
    callers: Callers, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    assert export(callers, log).returncode == 0
    key, early = (tmp_path / "log.jsonl.key").read_text(), (tmp_path / "log.jsonl.checkpoint").read_text()
    (tmp_path / "early").write_text(early)
    for _ in range(2):
        rotate(callers, "--use", "checkpoints")
    stolen = listed(callers)["checkpoints", "current"]["kid"]
    done = callers.run("operator", "keys", "rotate", "--emergency", stolen, "--reason", "the disk was read")
    assert "give auditors" in done.stdout
    again = export(callers, log)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "log.jsonl.key").read_text() == key
    late = tmp_path / "log.jsonl.checkpoint"
    newest = listed(callers)["checkpoints", "current"]["verifier_key"]
    verify = ("audit", "verify", "--key", key.strip(), "--checkpoint", str(tmp_path / "early"), "--json")
    for source in (str(log), str(callers.house.store)):
        report = callers.run("operator", *verify, "--checkpoint", str(late), source)
        assert report.returncode == 0, report.stdout + report.stderr
        assert json.loads(report.stdout)["vouched"] == json.loads(report.stdout)["read"] or source != str(log)
    by_the_newest = callers.run(
        "operator", "audit", "verify", "--key", newest, "--checkpoint", str(late), "--json", str(log)
    )
    assert by_the_newest.returncode == 0
    early_by_the_newest = callers.run("operator", "audit", "verify", "--key", newest, *verify[4:], str(log))
    assert early_by_the_newest.returncode == 2
    assert "no signature of this key" in early_by_the_newest.stderr


def test_a_log_whose_keys_do_not_follow_one_another_is_not_believed(callers: Callers, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert export(callers, log).returncode == 0
    rotate(callers, "--use", "checkpoints")
    assert export(callers, log).returncode == 0
    options = ("--key", f"{log}.key", "--checkpoint", f"{log}.checkpoint")
    assert callers.run("operator", "audit", "verify", *options, str(log)).returncode == 0
    introduced = [line for line in log.read_text().splitlines() if "broker.v1 checkpoint key" in line]
    assert introduced
    log.write_text(log.read_text().replace("broker.v1 checkpoint key", "broker.v1 checkpoint kex"))
    broken = callers.run("operator", "audit", "verify", *options, str(log))
    assert broken.returncode in (1, 2)
    assert broken.returncode == 2 or "NOT INTACT" in broken.stdout
