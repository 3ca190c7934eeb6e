"""`broker approvals`, `approve`, `deny` as a front end for its customers: screen, statuses, the file of the token."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import broker.client.sync
from broker.cli import person
from broker.intent import digest
from tests.cli.callers import Callers, following
from tests.cli.setups import AGENT, BROKER, CHAT, SERVICE, build, invoke, start, wait_for
from tests.cli.test_approvals import on_a_terminal
from tests.fakes.identity import IdentityKey
from tests.fakes.oidc_issuer import OidcIssuer

CLIENT, KATE, LIAM = "chat-client", "7001", "7002"
FORGER = IdentityKey.make()
NOTHING = "nothing waits for you\n"
SEVERAL = json.dumps({"amount": 9900, "currency": "EUR"})
_HELD = r'@step_up("{\"kind\": \"group\", \"group\": \"duty\", \"bypass\": \"PT30M\"}")'
_CONFIRMED = r'@step_up("{\"kind\": \"authentication\", \"max_age\": \"PT5M\"}")'
_PERMITS = f"""
@id("chat-begins")
permit (principal == Service::"{CHAT}", action == Action::"broker.task.begin", resource is Agent);

@id("chat-brings-the-word-of-its-customers")
permit (principal == Service::"{CHAT}", action == Action::"broker.approval.confirm", resource is Task);

@id("tool-answers")
permit (
    principal == Service::"{SERVICE}",
    action in [Action::"broker.approval.decide", Action::"broker.approval.read"],
    resource is Task
);
"""
_CHAT = f"""
[[service]]
spiffe_id = "{CHAT}"
tenants = ["main"]

[[person]]
name = "ben"
all_tenants = true
groups = ["duty"]
"""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(kw_only=True)
class Shop:
    """A broker that runs, a chat and its customers, who sign in at an issuer on loopback; and ben, of the staff."""

    callers: Callers
    issuer: OidcIssuer
    folder: Path
    files: int = 0

    def token(self, subject: str = KATE, **changes: Any) -> str:
        return self.issuer.token(**{"sub": subject, "aud": CLIENT} | changes)

    def file(self, content: str | bytes) -> str:
        """A file of its own with this content."""
        self.files += 1
        path = self.folder / f"token-{self.files}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def signed_in(self, subject: str = KATE, **changes: Any) -> tuple[str, str]:
        return "--identity-token-file", self.file(self.token(subject, **changes) + "\n")

    def run(self, *arguments: str, who: str = "chat") -> Done:
        """Run a command in this process; whatever becomes of it, it shows no token and no traceback."""
        known = self.callers.environment(who)
        environment = {name: known[name] for name in ("SPIFFE_ENDPOINT_SOCKET", "BROKER_ADDRESS", "BROKER_ID")}
        result = invoke(*arguments, **environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        done = Done(returncode=result.exit_code, stdout=result.stdout, stderr=result.stderr)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        for path in self.folder.glob("token-*"):
            for token in path.read_bytes().split():
                assert len(token) < 20 or token[:200].decode("latin-1") not in said
        return done

    def begun(self, subject: str = KATE, **more: Any) -> str:
        """Begin a task for a customer, as the chat does: by the SDK."""
        address = f"127.0.0.1:{self.callers.house.port}"
        socket = self.callers.environment("chat")["SPIFFE_ENDPOINT_SOCKET"]
        with broker.client.sync.connect(address, broker_id=BROKER, socket=socket, timeout=20) as session:
            task = session.begin_task(
                purpose="customer-support",
                agent=AGENT,
                person=f"{self.issuer.url}#{subject}",
                asked_digest=digest(b"please"),
                **more,
            )
        return task.id

    def exchange(self, task: str, *more: str) -> Done:
        """Let the agent ask for what is held."""
        return self.run(
            "exchange", "--action", "order.refund", "--resource", "order/1234", "--purpose", "customer-support",
            "--audience", SERVICE, "--parameters", SEVERAL, "--task", task, *more, who="agent",
        )  # fmt: skip

    def held(self, subject: str = KATE) -> tuple[str, str]:
        """Let the agent ask for what is held; return its task and the approval's id."""
        task = self.begun(subject)
        assert "STEP_UP_REQUIRED" in self.exchange(task).stderr
        (each,) = [each for each in self.listed(subject) if each["task"] == task]
        return task, str(each["id"])

    def listed(self, subject: str = KATE, *options: str) -> list[dict[str, Any]]:
        found = self.run("approvals", "--json", *options, *self.signed_in(subject))
        assert found.returncode == 0, found.stderr
        return [json.loads(line) for line in found.stdout.splitlines()]

    def digest(self, approval: str, subject: str = KATE) -> str:
        (found,) = [each for each in self.listed(subject) if each["id"] == approval]
        return str(found["details"]["digest"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    house = build(tmp_path_factory.mktemp("c"))
    issuer = OidcIssuer(folder=tmp_path_factory.mktemp("oidc")).start()
    with house.config.open("a") as config:
        config.write(f'\n[[oidc]]\nissuer = "{issuer.url}"\naudience = "tool"\nca_file = "{issuer.ca_file}"\n')
    entities, policies = house.policy / "entities.toml", house.policy / "policies.cedar"
    sign_in = f'customers = [{{ front_end = "{CHAT}", issuer = "{issuer.url}", audience = "{CLIENT}" }}]'
    drift = 'drift = { refusals = 2, within = "PT10M", then = "suspend", escalate_to = "duty" }'
    begun = f'begun_by = ["agent", "{CHAT}"]'
    house.edit('maximum_age = "PT8H"', f'maximum_age = "PT8H"\n{drift}\n{begun}\n{sign_in}', file=entities)
    with entities.open("a") as more:
        more.write(f'{_CHAT}identities = [{{ issuer = "{issuer.url}", subject = "ben" }}]\n')
    house.edit(_HELD, _CONFIRMED, file=policies)
    with policies.open("a") as more:
        more.write(_PERMITS)
    process = start(house)
    callers = Callers(house=house)
    yield Shop(callers=callers, issuer=issuer, folder=tmp_path_factory.mktemp("tokens"))
    process.terminate()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()
    callers.stop()
    issuer.stop()
    house.spire.stop()


def test_a_customer_sees_and_confirms_what_waits_for_them(shop: Shop) -> None:
    assert shop.run("approvals", *shop.signed_in()).stdout == NOTHING
    task, name = shop.held()
    shown = shop.run("approvals", *shop.signed_in())
    for each in (name, AGENT, "order.refund", "amount=9900", "the user, signed in anew"):
        assert each in shown.stdout, shown.stdout
    assert shop.run("approvals", *shop.signed_in(LIAM)).stdout == NOTHING
    (read,) = shop.listed()
    assert (read["kind"], read["id"], read["state"], read["task"]) == ("approval", name, "pending", task)
    details = read["details"]
    assert (details["person"], details["answers"]) == (f"{shop.issuer.url}#{KATE}", [])
    assert details["intent"]["parameters"] == {"amount": 9900, "currency": "EUR"}
    status, seen = on_a_terminal(shop.callers, "n", "approve", name, *shop.signed_in(), who="chat")
    assert (status, "nothing was approved" in seen) == (1, True), seen
    status, seen = on_a_terminal(shop.callers, "y", "approve", name, *shop.signed_in(), who="chat")
    assert status == 0, seen
    for each in (f"for {shop.issuer.url}#{KATE}", "amount = 9900", "signed in at most 5m ago", f"approved  {name}"):
        assert each in seen, seen
    assert shop.exchange(task, "--wait", "30s").returncode == 0
    (used,) = shop.listed(KATE, "--state", "used")
    assert (used["id"], used["details"]["answers"][0]["person"]) == (name, f"{shop.issuer.url}#{KATE}")
    assert shop.run("approvals", "--state", "used", *shop.signed_in(LIAM)).stdout == "nothing of yours is used\n"


def test_a_program_answers_by_the_digest(shop: Shop) -> None:
    _, name = shop.held()
    yes = shop.digest(name)
    done = shop.run("approve", name, "--digest", yes, "--yes", "--json", *shop.signed_in())
    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout)["id"], json.loads(done.stdout)["state"]) == (name, "approved")
    again = shop.run("approve", name, "--digest", yes, "--yes", *shop.signed_in())
    assert (again.returncode, again.stdout) == (0, f"approved  {name}\n"), again.stderr
    denied = shop.run("deny", name, "--reason", "changed my mind", *shop.signed_in())
    assert (denied.returncode, denied.stdout) == (0, f"denied  {name}\n"), denied.stderr
    late = shop.run("approve", name, "--digest", yes, "--yes", *shop.signed_in())
    assert (late.returncode, "APPROVAL_DENIED" in late.stderr) == (1, True), late.stderr


SIGN_IN = "Sign the person in again for a new ID token"
BAD: dict[str, tuple[Callable[[Shop], str], str, str]] = {
    "another customer's": (lambda shop: shop.token(LIAM), "APPROVAL_UNKNOWN", "`broker doctor`"),
    "expired": (lambda shop: shop.token(exp=_now(-1)), "IDENTITY_TOKEN_REFUSED (exp)", SIGN_IN),
    "for another client": (lambda shop: shop.token(aud="another"), "IDENTITY_TOKEN_REFUSED (aud)", SIGN_IN),
    "signed by another key": (lambda shop: shop.token(key=FORGER), "IDENTITY_TOKEN_REFUSED (signature)", SIGN_IN),
    "garbage": (lambda _: "garbage.garbage.garbage", "IDENTITY_TOKEN_REFUSED (form)", SIGN_IN),
}


def _now(seconds: int) -> int:
    return int(datetime.now(UTC).timestamp()) + seconds


@pytest.mark.parametrize(("token", "reason", "fix"), BAD.values(), ids=BAD)
def test_what_another_token_is_told(shop: Shop, token: Callable[[Shop], str], reason: str, fix: str) -> None:
    _, name = shop.held()
    yes = shop.digest(name)
    bad = ("--identity-token-file", shop.file(token(shop)))
    for command in (("approve", name, "--digest", yes, "--yes"), ("deny", name, "--reason", "no")):
        refused = shop.run(*command, *bad)
        assert (refused.returncode, refused.stdout) == (1, ""), refused
        assert f"refused: {reason}." in refused.stderr, refused.stderr
        assert fix in refused.stderr.partition("→")[2], refused.stderr
    listed = shop.run("approvals", *bad)
    if reason == "APPROVAL_UNKNOWN":
        assert (listed.returncode, name in listed.stdout) == (0, False)
    else:
        assert (listed.returncode, listed.stdout, reason in listed.stderr) == (1, "", True), listed
        followed = shop.run("approvals", "--follow", *bad)
        assert (followed.returncode, reason in followed.stderr) == (1, True), followed
    assert shop.run("deny", name, "--reason", "no", *shop.signed_in()).returncode == 0


def test_a_sign_in_that_is_too_old(shop: Shop) -> None:
    _, name = shop.held()
    yes = shop.digest(name)
    stale = shop.signed_in(auth_time=_now(-400))
    assert name in shop.run("approvals", *stale).stdout
    refused = shop.run("approve", name, "--digest", yes, "--yes", *stale)
    assert refused.returncode == 1
    assert "refused: AUTHENTICATION_STALE. You have to sign in again before you approve this." in refused.stderr
    assert "sign the person in again, by prompt=login or max_age" in refused.stderr
    assert shop.run("approve", name, "--digest", yes, "--yes", *shop.signed_in()).returncode == 0


def test_without_a_token_it_is_nobodys_word(shop: Shop) -> None:
    _, name = shop.held()
    yes = shop.digest(name)
    refused = shop.run("approve", name, "--digest", yes, "--yes")
    assert (refused.returncode, "names the person: --identity-token-file" in refused.stderr) == (1, True), refused
    refused = shop.run("deny", name, "--reason", "no")
    assert (refused.returncode, "it sends the person's identity token" in refused.stderr) == (1, True), refused
    seen = shop.run("approvals", "--json").stdout
    assert {json.loads(line)["details"] for line in seen.splitlines()} == {None}, "that it waits, not what for"
    other = shop.run("approve", name, "--digest", "sha-256:x", "--yes", *shop.signed_in())
    assert (other.returncode, "nothing was approved" in other.stderr, yes in other.stderr) == (1, True, True), other
    assert shop.run("approve", name, "--digest", yes, "--yes", *shop.signed_in()).returncode == 0


@pytest.mark.parametrize(
    "form", ["{}", "{}\n", "{}\r\n", "\n  {}  \n\n"], ids=["bare", "newline", "windows", "blank-lines"]
)
def test_a_file_with_a_token_in_it(shop: Shop, form: str) -> None:
    content = form.replace("{}", shop.token())
    done = shop.run("approvals", "--identity-token-file", shop.file(content))
    assert done.returncode == 0, done.stderr


def test_a_token_out_of_a_pipe(shop: Shop, tmp_path: Path) -> None:
    named = tmp_path / "pipe"
    os.mkfifo(named)
    writing = threading.Thread(target=lambda: named.write_text(shop.token() + "\n"))
    writing.start()
    done = shop.run("approvals", "--identity-token-file", str(named))
    writing.join(30)
    assert done.returncode == 0, done.stderr
    out_of_another = f'"{sys.executable}" -m broker approvals --identity-token-file <(cat "$1")'
    piped = subprocess.run(
        ["bash", "-c", out_of_another, "-", shop.file(shop.token())], capture_output=True, text=True,
        env=shop.callers.environment("chat"), timeout=60, check=False,
    )  # fmt: skip
    assert piped.returncode == 0, piped.stderr


# Of each: what a file holds. That there is no token in it is a matter of usage.
NO_TOKENS: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\n",
    "two": b"secret.secret.secret secret.secret.secret",
    "header": b"secret.secret.secret\r\nx: y",
    "json": b'{"id_token": "secret.secret.secret"}',
    "bearer": b"Bearer secret.secret.secret",
    "nul": b"secret\0secret",
    "controls": b"secret\x1b[2Jsecret",
    "byte-order-mark": b"\xef\xbb\xbfsecret.secret.secret",
    "utf-16": "secret.secret.secret".encode("utf-16"),
    "not-ascii": "secr\u00e9t.secret".encode(),
    "long": b"secret" * 4000,
    "huge": b"secret" * 4_000_000,
}
COMMANDS = (
    ("approvals",),
    ("approvals", "--follow"),
    ("approve", "appr_x", "--digest", "x", "--yes"),
    ("deny", "appr_x", "--reason", "no"),
    ("task", "resume", "task_x", "--reason", "no"),
)


def told(path: str | Path, *command: str) -> str:
    """Return what is said to a file; without a broker, since nothing is asked."""
    done = invoke(*(command or COMMANDS[0]), "--broker-id", BROKER, "--identity-token-file", path)
    assert (done.exit_code, "secr" in done.output, done.stdout) == (2, False, ""), (command, done.output)
    assert isinstance(done.exception, SystemExit)
    assert "Error: Invalid value for '--identity-token-file'" in done.stderr, done.stderr
    return re.sub(r"\s+", " ", done.stderr)


@pytest.mark.parametrize("content", NO_TOKENS.values(), ids=NO_TOKENS)
def test_what_holds_no_token_is_said_to_and_not_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    for command in COMMANDS:
        said = told(tmp_path / "file", *command)
        assert "holds no identity token: one ID token (JWT), and nothing else" in said or (
            "cannot be read: not text" in said
        ), said


def test_what_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be read: Is a directory" in told(tmp_path)
    assert "cannot be read: No such file or directory" in told(tmp_path / "none")
    assert "cannot be read: Too many levels of symbolic links" in told(_loop(tmp_path / "loop"))
    assert "holds no identity token" in told("/dev/zero")
    assert "holds no identity token" in told("/dev/null")
    if os.geteuid():
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "secret").chmod(0)
        assert "cannot be read: Permission denied" in told(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(person, "WAIT", 0.1)
    assert "cannot be read: nothing came out of it for 0.1 seconds" in told(tmp_path / "pipe")
    held = os.open(tmp_path / "pipe", os.O_RDWR)  # somebody who writes and never ends
    os.write(held, b"secret")
    assert "cannot be read: nothing came out of it for 0.1 seconds" in told(tmp_path / "pipe")
    os.close(held)


def _loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


def test_a_customer_follows_their_own(shop: Shop) -> None:
    with following(shop.callers, "chat", "approvals", "--follow", *shop.signed_in()) as hers:
        _, others = shop.held(LIAM)
        _, name = shop.held()
        wait_for(lambda: hers.says("pending", name, "amount=9900"), within=60)
        assert shop.run("deny", name, "--reason", "no", *shop.signed_in()).returncode == 0
        wait_for(lambda: hers.says("denied", name))
        assert others.encode() not in hers.seen


def test_a_task_that_drifted_is_for_the_staff(shop: Shop) -> None:
    task = shop.begun(actions=["order.read"])
    for _ in range(2):
        assert "TASK_BOUNDARY_EXCEEDED" in shop.exchange(task).stderr
    ben = ("--identity-token-file", shop.file(shop.token("ben", aud="tool")))
    resume = ("task", "resume", task, "--reason", "it may")

    def drifted(*options: str, who: str) -> list[str]:
        found = shop.run("approvals", "--json", *options, who=who)
        assert found.returncode == 0, found.stderr
        lines = [json.loads(line) for line in found.stdout.splitlines()]
        return [each["task"] for each in lines if each["kind"] == "drifted_task"]

    assert drifted(*shop.signed_in(), who="chat") == []
    shown = shop.run("approvals", *shop.signed_in())
    assert (task in shown.stdout, "broker task resume" in shown.stdout) == (False, False), shown.stdout
    refused = {
        "her own word, in her chat": shop.run(*resume, *shop.signed_in()),
        "another customer's": shop.run(*resume, *shop.signed_in(LIAM)),
        "her word, through the tool": shop.run(*resume, *shop.signed_in(), who="service"),
        "the chat's": shop.run(*resume),
        "of the group, through the chat that began it": shop.run(*resume, *ben),
        "of the group, as a customer": shop.run(*resume, *shop.signed_in("ben")),
    }
    for whose, done in refused.items():
        assert (done.returncode, "→" in done.stderr, done.stdout) == (1, True, ""), (whose, done)
    assert "IDENTITY_TOKEN_REFUSED (aud)" in refused["her word, through the tool"].stderr
    assert drifted(*ben, who="service") == [task]
    done = shop.run(*resume, *ben, who="service")
    assert done.returncode == 0, done.stderr
    assert drifted(*ben, who="service") == []
    assert "TASK_BOUNDARY_EXCEEDED" in shop.exchange(task).stderr, "it goes on, within its boundary"
