"""The commands that call a broker, as processes of their own, against `broker serve`."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from broker.audit.checkpoint import VerifierKey
from broker.client import CursorFile
from broker.client.bookmark import Bookmark
from tests.cli.callers import Callers
from tests.cli.setups import build, invoke, start, wait_for


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    house = build(tmp_path_factory.mktemp("c"))
    process = start(house, "--embedded")
    opened = Callers(house=house)
    yield opened
    process.terminate()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()
    opened.stop()
    house.spire.stop()


def answer(callers: Callers, who: str, *arguments: str) -> dict[str, object]:
    done = callers.run(who, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found: dict[str, object] = json.loads(line)
    return found


REFUND = ("exchange", "--action", "order.refund", "--resource", "order/1234", "--purpose", "customer-support",
          "--audience", "spiffe://example.org/service/orders", "--parameters",
          '{"amount": 4200, "currency": "EUR"}')  # fmt: skip


def test_a_task_begins_carries_a_credential_and_ends_with_it(callers: Callers) -> None:
    begun = answer(callers, "agent", "task", "begin", "--purpose", "customer-support", "--lifetime", "15m")
    task = str(begun["task"])
    assert (task.startswith("task_"), begun["tenant"]) == (True, "main")
    answer(callers, "agent", *REFUND, "--task", task)
    ended = answer(callers, "agent", "task", "end", task)
    assert (ended["task"], ended["ended credentials"]) == (task, 1)
    again = callers.run("agent", *REFUND, "--task", task)
    assert (again.returncode, "TASK_" in again.stderr) == (1, True)


def test_a_task_that_is_not_allowed_so_long(callers: Callers) -> None:
    refused = callers.run("agent", "task", "begin", "--purpose", "customer-support", "--lifetime", "2d")
    assert (refused.returncode, "TASK_DEADLINE_REFUSED" in refused.stderr) == (1, True)
    assert callers.run("agent", "task", "begin", "--purpose", "customer-support", "--lifetime", "2").returncode == 2


def test_a_lifted_revocation_lets_the_agent_pass_again(callers: Callers) -> None:
    made = answer(callers, "operator", "revoke", "agent", "spiffe://example.org/agent/assistant")
    begin = ("task", "begin", "--purpose", "customer-support")
    assert callers.run("agent", *begin).returncode == 1
    lifted = answer(callers, "operator", "lift", str(made["revocation"]), "--reason", "a false alarm")
    assert lifted["lifted"] == made["revocation"]
    assert callers.run("agent", *begin).returncode == 0
    assert callers.run("operator", "lift", "rev_nothing").returncode == 1
    assert callers.run("agent", "lift", str(made["revocation"])).returncode == 1


def test_revocations_are_followed_and_resumed(callers: Callers, tmp_path: Path) -> None:
    cursor = tmp_path / "cursor"
    follow = ("revocations", "follow", "--json", "--cursor", str(cursor))
    first = callers.start("service", *follow)
    assert first.stdout is not None
    assert "snapshot" in json.loads(first.stdout.readline())
    ended_credential(callers)
    heard = read_until(first.stdout, "rule")
    assert (heard["rule"], len(heard["status_indexes"])) == ("task", 1)
    wait_for(cursor.exists)
    covered = json.loads(first.stdout.readline())
    wait_for(lambda: json.loads(cursor.read_text())["position"] >= covered["to"])
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=30)
    assert first.returncode == 130
    missed = ended_credential(callers)
    second = callers.start("service", *follow)
    assert second.stdout is not None
    resumed = json.loads(second.stdout.readline())
    assert (resumed["rule"], resumed["position"] > heard["position"]) == ("task", True), "what was shown is not again"
    assert resumed["position"] >= covered["to"]
    assert missed
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=30)


def ended_credential(callers: Callers) -> str:
    task = str(answer(callers, "agent", "task", "begin", "--purpose", "customer-support")["task"])
    answer(callers, "agent", *REFUND, "--task", task)
    answer(callers, "agent", "task", "end", task)
    return task


def read_until(stream: IO[str], member: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = json.loads(stream.readline())
        if member in found:
            return found


def test_a_cursor_file_that_is_none(callers: Callers, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("dear diary")
    refused = callers.run("service", "revocations", "follow", "--cursor", str(tmp_path / "notes"))
    assert (refused.returncode, "holds no cursor" in refused.stderr) == (1, True)
    (tmp_path / "forged").write_text(Bookmark(cursor="AAAA.AAAA", start=1, position=1).text + "\n")
    refused = callers.run("service", "revocations", "follow", "--cursor", str(tmp_path / "forged"))
    assert (refused.returncode, "CURSOR_TAMPERED" in refused.stderr) == (1, True)
    with CursorFile(tmp_path / "held"):
        refused = callers.run("service", "revocations", "follow", "--cursor", str(tmp_path / "held"))
    assert (refused.returncode, "another subscriber" in refused.stderr) == (1, True)
    assert (tmp_path / "notes").read_text() == "dear diary"


def test_the_log_is_shown_once_with_a_cursor(callers: Callers, tmp_path: Path) -> None:
    tail = ("audit", "tail", "--json", "--cursor", str(tmp_path / "cursor"))

    def positions() -> list[int]:
        found = callers.run("operator", *tail)
        assert found.returncode == 0, found.stderr
        members = [json.loads(line) for line in found.stdout.splitlines()]
        return [each["position"] for each in members if "position" in each]

    first = positions()
    assert first == list(range(len(first)))
    ended_credential(callers)
    second = positions()
    assert second == list(range(len(first), len(first) + len(second)))
    assert len(second) >= 3  # the task, its credential, its end
    (tmp_path / "cursor").unlink()
    assert positions()[0] == 0


@pytest.mark.parametrize(("form", "member"), [("ocsf", "class_uid"), ("otel", "resourceLogs")])
def test_the_log_in_the_forms_of_others(callers: Callers, tmp_path: Path, form: str, member: str) -> None:
    ended_credential(callers)
    shown = callers.run("operator", "audit", "tail", "--format", form)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines
    assert all(member in json.loads(line) for line in lines)
    exported = answer(callers, "operator", "audit", "export", "--format", form, str(tmp_path / "log"))
    assert exported[form] == str(tmp_path / f"log.{form}")
    written = (tmp_path / f"log.{form}").read_text().splitlines()
    assert written[: len(lines)] == lines
    assert len(written) == exported["entries"]
    assert "client.address" not in shown.stdout
    assert '"ip"' not in shown.stdout
    personal = callers.run("operator", "audit", "tail", "--format", form, "--personal").stdout
    assert ("client.address" if form == "otel" else '"ip"') in personal


# --- audit export ---------------------------------------------------------------------------------------------------


def export(callers: Callers, file: Path, *more: str) -> dict[str, object]:
    return answer(callers, "operator", "audit", "export", str(file), *more)


def verified(file: Path) -> int:
    return invoke("audit", "verify", "--key", f"{file}.key", "--checkpoint", f"{file}.checkpoint", file).exit_code


def test_an_export_is_whole_verified_and_goes_on(callers: Callers, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    first = export(callers, file)
    assert (first["log"], verified(file)) == ("intact", 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "log.jsonl", "log.jsonl.checkpoint", "log.jsonl.key",
    ]  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    text = file.read_text()
    ended_credential(callers)
    second = export(callers, file)
    assert file.read_text().startswith(text), "what was there stays"
    assert (int(str(second["signed"])) > int(str(first["signed"])), verified(file)) == (True, 0)


CUTS = {"within-a-line": 0.5, "near-the-start": 0.01, "one-byte-short": -1}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_an_export_that_was_interrupted_is_gone_on_with(callers: Callers, tmp_path: Path, cut: float) -> None:
    file = tmp_path / "log.jsonl"
    export(callers, file)
    whole = file.read_bytes()
    Path(f"{file}.checkpoint").unlink()
    file.write_bytes(whole[: int(len(whole) * cut) if cut > 0 else -1])
    export(callers, file)
    assert positions(file) == list(range(len(positions(file))))
    assert verified(file) == 0


def positions(file: Path) -> list[int]:
    members = [json.loads(line) for line in file.read_text().splitlines()]
    return [each["position"] for each in members if "position" in each]


def test_a_log_that_was_changed_since_is_found_out(callers: Callers, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    export(callers, file)
    file.write_text(file.read_text().replace("spiffe://example.org/broker", "spiffe://example.org/brokes", 1))
    checkpoint = Path(f"{file}.checkpoint").read_text()
    found = callers.run("operator", "audit", "export", str(file))
    assert (found.returncode, "NOT INTACT" in found.stderr) == (1, True)
    assert Path(f"{file}.checkpoint").read_text() == checkpoint


def test_the_log_of_another_broker_is_not_added(callers: Callers, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    export(callers, file)
    key = Path(f"{file}.key")
    other = VerifierKey(name="broker.example.org/log_1", public_key=bytes(32)).to_text()
    text = file.read_text()
    Path(f"{file}.checkpoint").unlink()
    key.write_text(other + "\n")
    found = callers.run("operator", "audit", "export", str(file))
    assert (found.returncode, "Nothing was added" in found.stderr) == (1, True)
    assert file.read_text() == text


NO_EXPORT = {"prose": "dear diary\n", "json": '{"a": 1}\n', "one-line": "x"}


@pytest.mark.parametrize("content", NO_EXPORT.values(), ids=NO_EXPORT)
def test_another_file_is_not_touched(callers: Callers, tmp_path: Path, content: str) -> None:
    file = tmp_path / "diary"
    file.write_text(content)
    found = callers.run("operator", "audit", "export", str(file))
    assert (found.returncode, "Traceback" in found.stderr, file.read_text()) == (2, False, content)
    assert [path.name for path in tmp_path.iterdir()] == ["diary"]


@pytest.mark.parametrize("content", NO_EXPORT.values(), ids=NO_EXPORT)
def test_nor_when_the_other_files_of_an_export_are_there(callers: Callers, tmp_path: Path, content: str) -> None:
    file = tmp_path / "log.jsonl"
    export(callers, file)
    file.write_text(content)
    found = callers.run("operator", "audit", "export", str(file))
    assert (found.returncode, "Traceback" in found.stderr, file.read_text()) == (2, False, content)


def test_what_somebody_wrote_below_an_export_is_not_cut_off(callers: Callers, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    export(callers, file)
    text = file.read_text() + "dear diary\n"
    file.write_text(text)
    found = callers.run("operator", "audit", "export", str(file))
    assert (found.returncode, file.read_text()) == (2, text)


def test_an_export_nowhere(callers: Callers, tmp_path: Path) -> None:
    found = callers.run("operator", "audit", "export", str(tmp_path / "no" / "log.jsonl"))
    assert (found.returncode, "Traceback" in found.stderr) == (2, False)


def test_who_may_not_read_the_log_gets_none(callers: Callers, tmp_path: Path) -> None:
    found = callers.run("agent", "audit", "export", str(tmp_path / "log.jsonl"))
    assert (found.returncode, "refused: " in found.stderr) == (1, True), found.stderr
    assert (tmp_path / "log.jsonl").read_text() == ""
