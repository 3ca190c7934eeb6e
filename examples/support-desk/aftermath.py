"""The last steps: what the log says, what each theft opened, and that nothing is left."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import conversation
from access import AGENT, ORDER, OTHER, READ_POLICY, REFUND_LIMIT, REFUND_POLICY, REVOKE_POLICY, read_order
from narrator import Narrator, require
from stage import ROOT, Stage

# What the log has to tell, in this order: kind of event, reason, policies.
_STORY: Final[tuple[tuple[str, str, list[str]], ...]] = (
    ("broker.started", "", []),
    ("policy.activated", "", []),
    ("credential.granted", "", [READ_POLICY]),
    ("task.begun", "", ["agents-begin-their-own-tasks"]),
    ("credential.granted", "", [REFUND_POLICY]),
    ("exchange.refused", "POLICY_FORBIDDEN", [REFUND_LIMIT]),
    ("task.ended", "", ["agents-end-their-own-tasks"]),
    ("exchange.refused", "POLICY_NOT_PERMITTED", []),
    ("revocation.made", "", [REVOKE_POLICY]),
    ("task.begun", "", ["chat-begins-tasks-of-support"]),
    ("approval.requested", "", [conversation.LARGE]),
    ("approval.approved", "", ["approvers-answer-held-requests"]),
    ("credential.granted", "", [conversation.LARGE]),
    ("credential.redeemed", "", ["services-redeem-what-is-for-them"]),
    ("exchange.refused", "TASK_BOUNDARY_EXCEEDED", []),
    ("task.drifted", "", []),
    ("exchange.refused", "TASK_SUSPENDED", []),
    ("task.resumed", "", ["approvers-answer-held-requests"]),
    ("task.narrowed", "", ["chat-ends-the-tasks-that-it-began"]),
    ("approval.requested", "", [conversation.OWN_WORD]),
    ("request.refused", "APPROVAL_UNKNOWN", []),
    ("approval.approved", "", ["chat-brings-the-word-of-its-customers"]),
    ("credential.granted", "", [conversation.OWN_WORD]),
)
# What services report of each use is many events; the table leaves them out.
_OF_USES: Final = frozenset({"usage.accepted", "outcome.reported"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """The log as the stream brought it, the signed checkpoint, and the key to check it with."""

    directory: Path
    lines: list[str]
    key: str
    size: int

    def verdict(self, name: str, lines: list[str]) -> dict[str, Any]:
        """Have the offline verifier judge these lines."""
        file = self.directory / name
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        command = [sys.executable, "-m", "broker", "audit", "verify", "--key", self.key, "--json"]
        checkpoint = ["--checkpoint", str(self.directory / "checkpoint.txt"), str(file)]
        told = subprocess.run([*command, *checkpoint], capture_output=True, text=True, cwd=ROOT, check=False)
        require(told.returncode in (0, 1), f"the verifier judges {name}: {told.stderr.strip()}")
        found: dict[str, Any] = json.loads(told.stdout)
        require(found["intact"] == (told.returncode == 0), "the verifier's exit status says the same as its answer")
        return found


def audited(narrator: Narrator, stage: Stage) -> None:
    """Show the log, verify it, and see that a changed one is found."""
    narrator.begin("The audit log of all this")
    narrator.asked("by the security desk, which follows the log's stream from its first event on")
    got = stage.workers["security"].get("audit")
    (stage.directory / "checkpoint.txt").write_text(got["note"], encoding="utf-8")
    saved = Saved(directory=stage.directory, lines=got["lines"], key=got["key"], size=got["size"])
    events = [json.loads(json.loads(line)["event"]) for line in saved.lines]
    _require_story(events)
    of_uses = sum(event["type"] in _OF_USES for event in events)
    require(of_uses, "the service reported what it did with credentials")
    narrator.came_back(f"{len(events)} events, {of_uses} of them reports of uses and of what came of them; the others:")
    rows = [_row(number, event) for number, event in enumerate(events) if event["type"] not in _OF_USES]
    narrator.table(["", "event", "who", "what, and by what"], rows)
    report = saved.verdict("audit.jsonl", saved.lines)
    require(report["intact"], f"the log is what the broker signed: {report['fault']}")
    require(report["vouched"] == saved.size, "the signed checkpoint covers the whole story")
    narrator.decided(f"intact: the checkpoint, signed by the broker, vouches for {report['vouched']} events", good=True)
    _find_tampering(narrator, saved)


def before_and_after(narrator: Narrator, stage: Stage) -> None:
    """Replay the same theft with a shared key and with a credential, and count what each opens."""
    narrator.begin("Before and after: the same theft, twice")
    service = stage.workers["orders-service"]
    stand_in = stage.start_stand_in()
    port = stand_in.get("state")["port"]
    stage.ports.add(port)
    key = stand_in.get("hand_out_key")["key"]
    before = stage.workers[OTHER].get("try_shared_key", key=key, address=f"127.0.0.1:{port}")
    counted_before = stand_in.get("state")["served"]

    got = read_order(stage, AGENT, ORDER)  # a live one: the other is revoked
    credential, minutes = got["credential"], (got["claims"]["exp"] - got["claims"]["iat"]) / 60
    token = stage.workers[AGENT].get("leak", credential=credential)["token"]
    served = service.get("state")["served"]
    after = stage.workers[OTHER].get("try_stolen", token=token)
    counted_after = service.get("state")["served"] - served
    owner = stage.workers[AGENT].get("try_all_orders", credential=credential)

    total = before["tried"]
    require(len(before["opened"]) == counted_before == total, f"the stolen key opens all {total} orders")
    require(len(after["opened"]) == counted_after == 0, "the stolen credential opens nothing")
    require(after["reasons"] == {"TOKEN_HOLDER_MISMATCH": total}, f"each refusal is for the key: {after['reasons']}")
    require(owner["opened"] == [ORDER], f"in its owner's hands it opens order {ORDER} alone: {owner['opened']}")
    narrator.asked(f"by the {OTHER}: every order of the shop, with what it stole from the {AGENT}")
    opened = [f"{len(found['opened'])} of {total}" for found in (before, after, owner)]
    narrator.table(
        ["what was stolen", "thief opened", "service counted", "good for"],
        [
            ["before: a shared API key", opened[0], str(counted_before), "until it is changed"],
            ["after: a credential", opened[1], str(counted_after), f"{minutes:.0f} minutes"],
        ],
    )
    narrator.note(f"in the hands of its owner that credential opens {opened[2]}, order {ORDER}")


def stopped(narrator: Narrator, stage: Stage) -> None:
    """Stop everything, and see that it is gone."""
    narrator.begin("Everything is stopped")
    processes, ports = len(stage.running()), stage.listening()
    require(processes and len(ports) == len(stage.ports), "until now all of it runs")
    stage.close()
    left = stage.running()
    require(not left, f"no process is left: {left}")
    require(not stage.listening(), f"no port is left open: {stage.listening()}")
    require(not stage.directory.exists(), f"{stage.directory} is removed")
    narrator.came_back(f"{processes} processes ended, {len(ports)} ports closed, 1 directory removed; nothing is left")


def _find_tampering(narrator: Narrator, saved: Saved) -> None:
    """Let a refusal vanish from a copy, and the end from another; both have to be found."""
    refusal = next(n for n, line in enumerate(saved.lines) if "POLICY_FORBIDDEN" in line)
    changed = [line.replace("POLICY_FORBIDDEN", "POLICY_FORGIVEN!") for line in saved.lines]
    report = saved.verdict("changed.jsonl", changed)
    require(not report["intact"], "a changed copy is found")
    fault = report["fault"]
    require(fault["position"] <= refusal <= fault["last"], "the fault is named where it is")
    narrator.decided(f"NOT intact, a copy in which event {refusal} was rewritten: {fault['kind']}", good=False)
    report = saved.verdict("short.jsonl", saved.lines[: saved.size - 1])
    require(not report["intact"], "a copy without its last event is found")
    require(report["fault"]["kind"] == "SHORT", "it is found to be short")
    narrator.decided(f"NOT intact, a copy without its last signed event: {report['fault']['kind']}", good=False)


def _require_story(events: list[dict[str, Any]]) -> None:
    rest = iter(events)
    for wanted in _STORY:
        found = any((event["type"], event.get("reason", ""), _policies(event)) == wanted for event in rest)
        require(found, f"the log tells of {wanted} in its place")


def _policies(event: dict[str, Any]) -> list[str]:
    return list(event.get("decision", {}).get("policies", ()))


def _row(position: int, event: dict[str, Any]) -> list[str]:
    who = str(event.get("spiffe_id", "")).rpartition("/")[2]
    intent = event.get("intent", {})
    resource = intent.get("resource", {})
    touched = f"{resource.get('type')}/{resource.get('id') or resource.get('set')}" if resource else ""
    told = [event.get(name, "") for name in ("reason", "rule", "stream", "operation", "state")]
    what = [intent.get("action", ""), touched, *told, ", ".join(_policies(event))]
    return [str(position), event["type"], who, "  ".join(filter(None, map(str, what)))]
