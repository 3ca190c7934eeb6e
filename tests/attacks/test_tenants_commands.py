"""Commands of two tenants: what a command is given of the other tenant's does nothing, shows nothing, tells nothing."""

import json
import shutil
from asyncio import ensure_future, to_thread
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from structlog.testing import capture_logs

from broker.client.bookmark import Bookmark
from tests.attacks.entrances import exchange, lift, request, revoke
from tests.attacks.inventory import commands, inputs
from tests.attacks.tenancy import MOMENT, RETAIL, SIDES, TRADE, Side, Tenancy, nobodys, open_tenancy, standing
from tests.cli.setups import invoke
from tests.fakes.workload_api import WorkloadApi
from tests.operations.world import BROKER, ORDERS, SECURITY
from tests.polling import eventually

SHARED_OPTIONS = {"address", "broker_id", "socket", "spiffe_id"}


@dataclass(kw_only=True)
class Terminal:
    """Runs commands as anybody, each with a Workload API of its own, in this process."""

    tenancy: Tenancy
    stack: ExitStack
    apis: dict[str, WorkloadApi] = field(default_factory=dict)
    files: Any = field(default_factory=count)

    async def run(self, who: str, *arguments: str) -> Result:
        house = self.tenancy.house
        if who not in self.apis:
            api = WorkloadApi(house.folder / f"caller-{len(self.apis)}.sock")
            api.give_svid(house.svid(who), house.home)
            self.stack.callback(api.start().stop)
            self.apis[who] = api
        return await to_thread(
            invoke, *arguments, SPIFFE_ENDPOINT_SOCKET=self.apis[who].socket, BROKER_ID=BROKER,
            BROKER_ADDRESS=f"127.0.0.1:{house.door.port}",
        )  # fmt: skip

    def file(self) -> Path:
        """Return the path of a file that is not there yet."""
        return self.tenancy.house.folder / f"file-{next(self.files)}"

    def bookmark(self, cursor: str) -> str:
        """Return a file of a subscriber that holds this cursor."""
        path = self.file()
        path.write_text(Bookmark(cursor=cursor, start=1, position=1).text + "\n")
        return str(path)

    async def held(self, side: Side, names: str) -> dict[str, str]:
        """Return what a tenant has, with the file that its own command has kept, if that is named."""
        held = await self.tenancy.at_work(side)
        if names == "tail-file":
            held[names] = str(self.file())
            words = ("audit", "tail", "--tenant", side.tenant, "--cursor", held[names])
            assert (await self.run(side.desk, *words)).exit_code == 0
        return held | {"follow-file": self.bookmark(held["agents-cursor"])}

    def nobodys(self, names: str) -> str:
        cursors = {"tail-file": "desks-cursor", "follow-file": "agents-cursor"}
        house = self.tenancy.house
        return self.bookmark(nobodys(house, cursors[names])) if names in cursors else nobodys(house, names)


@pytest.fixture(scope="module")
async def terminal() -> AsyncIterator[Terminal]:
    with ExitStack() as stack:
        stack.enter_context(capture_logs())  # the house's own lines would stand in the output of the commands
        async with open_tenancy() as tenancy:
            yield Terminal(tenancy=tenancy, stack=stack)


Words = Callable[[Side, str], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that a command is given.

    Attributes:
        given: the parameter, as the command's code names it.
        names: what is named; empty: what is every tenant's.
        words: the command and its arguments, by who asks and what is named.
        by: who asks; the owner too, on the other side, unless `owner` says otherwise.
        reason: why it is refused.
        control: what the owner is told; empty when it is served.

    """

    given: str
    names: str
    words: Words
    by: str
    reason: str
    owner: str = ""
    control: str = ""


def an_exchange(**changes: str) -> tuple[str, ...]:
    asked = {
        "action": "order.read",
        "resource": "order/1234",
        "purpose": "customer-support",
        "audience": ORDERS,
    } | changes
    return ("exchange", *(word for name, value in asked.items() for word in (f"--{name}", value)))


def begin(*, purpose: str = "customer-support", tenant: str = "") -> tuple[str, ...]:
    return ("task", "begin", "--purpose", purpose, "--tenant", tenant)


def tail(*options: str) -> tuple[str, ...]:
    return ("audit", "tail", *options)


def revoking(kind: str) -> Words:
    return lambda _, name: ("revoke", kind, name)


def _of_agents() -> Mapping[str, Row]:
    def row(given: str, names: str, reason: str, words: Words) -> Row:
        return Row(given=given, names=names, reason=reason, words=words, by="agent")

    return {
        "exchange-task": row("task", "task", "TASK_UNKNOWN", lambda _, name: an_exchange(task=name)),
        "exchange-audience": row("audience", "service", "AUDIENCE_UNKNOWN", lambda _, name: an_exchange(audience=name)),
        "exchange-purpose": row("purpose", "purpose", "PURPOSE_REFUSED", lambda _, name: an_exchange(purpose=name)),
        "begin-tenant": row("tenant", "tenant", "TENANT_REFUSED", lambda _, name: begin(tenant=name)),
        "begin-purpose": row("purpose", "purpose", "PURPOSE_REFUSED", lambda _, name: begin(purpose=name)),
        "end": row("name", "task", "TASK_UNKNOWN", lambda _, name: ("task", "end", name)),
        "cancel": row("name", "task", "TASK_UNKNOWN", lambda _, name: ("task", "cancel", name)),
    }


def _of_desks() -> Mapping[str, Row]:
    def row(given: str, names: str, words: Words, owner: str = "desk", **more: str) -> Row:
        return Row(given=given, names=names, words=words, by="desk", owner=owner, **{"reason": "TENANT_REFUSED"} | more)

    kinds = {"credential": "desk", "task": "desk", "agent": "desk", "tenant": "desk", "policy": "security"}
    return {
        **{
            f"revoke-{kind}": row("name", kind, revoking(kind), owner)
            for kind, owner in kinds.items()
        },
        "lift": row("revocation", "revocation", lambda _, name: ("lift", name)),
        "tail-all": row("form", "", lambda _, __: tail("--format", "ocsf"), "security"),
        "tail-tenant": row("tenant", "tenant", lambda _, name: tail("--tenant", name)),
        "tail-agent": row("agent", "agent", lambda _, name: tail("--agent", name), "security"),
        "tail-task": row("task", "task", lambda _, name: tail("--task", name), "security"),
        "tail-credential": row("credential", "credential", lambda _, name: tail("--credential", name), "security"),
        "tail-cursor": row(
            "cursor", "tail-file", lambda side, name: tail("--tenant", side.tenant, "--cursor", name),
            reason="CURSOR_FOREIGN",
        ),
        "trace": row("name", "task", lambda _, name: ("audit", "trace", name), "security"),
        "trace-tenant": row(
            "tenant", "tenant", lambda _, name: ("audit", "trace", "--tenant", name, "cred_none"),
            control="The log says nothing of",
        ),
        "unaccounted-tenant": row("tenant", "tenant", lambda _, name: ("audit", "unaccounted", "--tenant", name)),
        "resume": row(
            "name", "task", lambda _, name: ("task", "resume", name, "--reason", "a test"), control="TASK_NOT_SUSPENDED"
        ),
        "keys-list": row("", "", lambda _, __: ("keys", "list"), "security"),
        "keys-rotate": row("use", "", lambda _, __: ("keys", "rotate", "--use", "tokens"), "security",
                           control="KEY_NOT_READY"),
        "keys-emergency": row(
            "emergency", "", lambda _, __: ("keys", "rotate", "--emergency", "none", "--reason", "a test"), "security",
            control="KEY_UNKNOWN",
        ),
    }  # fmt: skip


ROWS = {**_of_agents(), **_of_desks()}


async def told(terminal: Terminal, row: Row, side: Side, name: str) -> str:
    """Return all that a refused command shows, without what it was given."""
    if row.names.endswith("-file"):
        shutil.copy(name, kept := str(terminal.file()))
        name = kept
    done = await terminal.run(side.who(row.by), *row.words(side, name))
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    assert not name or name not in done.stderr
    return done.stderr


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
async def test_a_command_is_refused_what_is_theirs_as_what_is_nobodys(terminal: Terminal, row: Row) -> None:
    house, ours, theirs = terminal.tenancy.house, RETAIL, TRADE  # the RPCs behind it are tried both ways
    house.time.ahead += MOMENT
    held = await terminal.held(theirs, row.names)
    before, start, named = standing(house, held), len(await house.log()), held.get(row.names, "")
    refusal = await told(terminal, row, ours, named)
    assert row.reason in refusal
    assert refusal == await told(terminal, row, ours, terminal.nobodys(row.names)), "it tells theirs from nobody's"
    assert standing(house, held) == before
    written = (await house.log())[start:]
    assert [event["tenant"] for event in written] == [ours.tenant] * 2

    control = await terminal.run(theirs.who(row.owner or row.by), *row.words(theirs, named))
    assert (control.exit_code, row.control in control.stderr) == (1 if row.control else 0, True), control.output
    for revocation in [event for event in (await house.log())[start:] if event["type"] == "revocation.made"]:
        await lift(house.good(SECURITY), revocation["revocation"])


async def test_an_export_is_of_the_whole_log_and_so_not_for_a_desk(terminal: Terminal) -> None:
    ours, refused, whole = RETAIL, terminal.file(), terminal.file()
    done = await terminal.run(ours.desk, "audit", "export", str(refused))
    assert (done.exit_code, "TENANT_REFUSED" in done.stderr) == (1, True)
    assert not refused.read_bytes()
    assert not refused.with_name(refused.name + ".checkpoint").exists()
    assert (await terminal.run(SECURITY, "audit", "export", str(whole))).exit_code == 0
    kept = whole.read_bytes()
    await terminal.tenancy.at_work(ours)
    done = await terminal.run(ours.desk, "audit", "export", str(whole))  # nor can it go on with another's
    assert (done.exit_code, whole.read_bytes()) == (1, kept)


@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES.keys())
async def test_what_is_followed_is_ones_own(terminal: Terminal, sides: tuple[Side, Side]) -> None:
    house, (ours, theirs) = terminal.tenancy.house, sides
    held = await terminal.held(theirs, "follow-file")
    follow = ("revocations", "follow", "--json", "--cursor")
    done = [
        await terminal.run(ours.agent, *follow, name) for name in (held["follow-file"], terminal.nobodys("follow-file"))
    ]
    assert {(each.exit_code, each.stdout) for each in done} == {(1, "")}
    assert "CURSOR_FOREIGN" in done[0].stderr
    assert done[0].stderr == done[1].stderr

    # The control: it hears of its own, and of nothing else, until its agent is revoked.
    cursor = terminal.file()
    running = ensure_future(terminal.run(ours.agent, *follow, str(cursor)))

    async def has_shown(position: int) -> bool:
        return cursor.exists() and bool(json.loads(cursor.read_text() or "{}").get("position", -1) >= position)

    await eventually(lambda: has_shown(0))
    own = (await exchange(house.good(ours.agent), request())).credential
    for side, credential in ((theirs, held["credential"]), (ours, own.credential_id)):
        ended = await revoke(house.good(side.desk), credential_id=credential)
    await eventually(lambda: has_shown(ended.position))
    made = await revoke(house.good(ours.desk), agent=ours.agent)
    heard = await running
    await lift(house.good(ours.desk), made.revocation_id)
    assert (heard.exit_code, "AGENT_REVOKED" in heard.stderr) == (1, True)
    assert held["credential"] not in heard.stdout
    assert own.credential_id in heard.stdout


# Commands that ask no broker: they read and write files of whoever calls them, and know no caller.
LOCAL = {
    "audit verify": "reads a saved log, or the store itself",
    "doctor": "reads a set-up, for whoever may read its files",
    "init": "writes a set-up",
    "paths": "reads a bundle, which is every tenant's",
    "policy check": "reads a bundle, which is every tenant's",
    "policy explain": "reads a bundle, which is every tenant's",
    "policy test": "reads a bundle, which is every tenant's",
    "serve": "is the broker",
}
_OWN_WORDS = "words of the caller, which name nothing"
_APPROVALS = "ListApprovals, GetApproval, Approve and Deny: test_tenants.py"
WITHOUT = {
    "approvals.identity_token": "of the person who decides: tests/attacks/test_identity_tokens.py",
    "approvals.states": "bounds what is asked, and names nothing",
    "approve.approval": _APPROVALS,
    "approve.bypass": "bounds what is asked, and names nothing",
    "approve.digest": "what is approved, which is refused first",
    "approve.identity_token": "of the person who decides: tests/attacks/test_identity_tokens.py",
    "deny.approval": _APPROVALS,
    "task resume.identity_token": "of the person who decides: tests/attacks/test_identity_tokens.py",
    "deny.identity_token": "of the person who decides: tests/attacks/test_identity_tokens.py",
    "deny.reason": _OWN_WORDS,
    "exchange.wait": "bounds how long is waited, and names nothing",
    "audit export.file": "test_an_export_is_of_the_whole_log_and_so_not_for_a_desk",
    "audit export.form": "what is written once the export is there",
    "audit tail.kinds": "bounds what is asked, and names nothing",
    "audit unaccounted.age": "bounds what is shown, and names nothing",
    "task resume.reason": _OWN_WORDS,
    "exchange.action": "the schema's, which is every tenant's",
    "exchange.resource": "the broker knows no resource; the service does: test_tenants_services.py",
    "exchange.parameters": _OWN_WORDS,
    "exchange.output": "a file of the caller's own",
    "keys rotate.reason": _OWN_WORDS,
    "keys rotate.request_id": "remembered by its caller, who is an operator of every tenant",
    "lift.reason": _OWN_WORDS,
    "revocations follow.cursor": "test_what_is_followed_is_ones_own",
    "revoke.kind": "one row a kind",
    "revoke.reason": _OWN_WORDS,
    "stop action.name": "ImposeOverride, LiftOverride and ListOverrides: test_tenants.py",
    "stop action.reason": _OWN_WORDS,
    "stop action.tenant": "ImposeOverride, LiftOverride and ListOverrides: test_tenants.py",
    "stop agent.reason": _OWN_WORDS,
    "stop agent.spiffe_id_of_agent": "ImposeOverride, LiftOverride and ListOverrides: test_tenants.py",
    "stop class.name": "ImposeOverride, LiftOverride and ListOverrides: test_tenants.py",
    "stop class.reason": _OWN_WORDS,
    "stop class.tenant": "ImposeOverride, LiftOverride and ListOverrides: test_tenants.py",
    "stop everything.reason": _OWN_WORDS,
    "stop lift.override": "ImposeOverride, LiftOverride and ListOverrides: test_tenants.py",
    "stop lift.reason": _OWN_WORDS,
    "stop list.": "ImposeOverride, LiftOverride and ListOverrides: test_tenants.py",
    "stop tenant.name": "ImposeOverride, LiftOverride and ListOverrides: test_tenants.py",
    "stop tenant.reason": _OWN_WORDS,
    "task begin.actions": "narrows the caller's own task, or bounds it",
    "task begin.heartbeat": "narrows the caller's own task, or bounds it",
    "task begin.kind": "narrows the caller's own task, or bounds it",
    "task begin.limits": "narrows the caller's own task, or bounds it",
    "task begin.resources": "narrows the caller's own task, or bounds it",
    "task begin.services": "narrows the caller's own task, or bounds it",
    "task cancel.reason": _OWN_WORDS,
    "task heartbeat.name": "HeartbeatTask and NarrowTask: test_tenants.py",
    "task narrow.actions": "narrows the caller's own task, or bounds it",
    "task narrow.limits": "narrows the caller's own task, or bounds it",
    "task narrow.name": "HeartbeatTask and NarrowTask: test_tenants.py",
    "task narrow.reason": _OWN_WORDS,
    "task narrow.resources": "narrows the caller's own task, or bounds it",
    "task narrow.services": "narrows the caller's own task, or bounds it",
    "task begin.conversation": _OWN_WORDS,
    "task begin.lifetime": "bounds what is asked, and names nothing",
}


def test_every_input_of_every_command_has_its_row_or_its_reason() -> None:
    there = dict(commands())
    asking = {path: set(inputs(command)) for path, command in there.items() if path not in LOCAL}
    assert there.keys() - asking.keys() == LOCAL.keys()
    assert not [path for path in LOCAL if "broker_id" in inputs(there[path])], "it asks a broker"
    assert all("broker_id" in given for given in asking.values())
    rows = {f"{path_of(row)}.{row.given}" for row in ROWS.values()}
    inventory = {f"{path}.{name}" for path, given in asking.items() for name in given - SHARED_OPTIONS or {""}}
    assert not inventory - rows - WITHOUT.keys(), "name it in a row, or say in WITHOUT why there is nothing of a tenant"
    assert not rows & WITHOUT.keys()
    assert not (rows | WITHOUT.keys()) - inventory


def path_of(row: Row) -> str:
    """Return the words that call the command of a row."""
    words = row.words(RETAIL, "-")
    return next(path for path, _ in commands() if words[: len(path.split())] == tuple(path.split()))
