"""A trace of what really stands in the log: by every id, one story, whole, and nothing of another's."""

import json
import re
import shlex
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from broker.audit.shown import Shown
from broker.audit.story import CredentialStory, Story, to_json
from broker.audit.trace import Finder, Gatherer, needs_personal
from broker.audit.unaccounted import Accounting
from broker.boundary import Boundary
from broker.cli.audit_story import draw
from broker.trail import Trail
from tests.operations.approving import GROUP, bundle, payout
from tests.operations.limiting import change
from tests.operations.world import ORDERS, SUPPORT, World, said

REFUND: dict[str, Any] = {"action": "order.refund", "parameters": {"amount": 4200, "currency": "EUR"}}
DIGEST = "sha-256:" + "P" * 43
NEVER, LATER = "2026-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"


async def log(world: World, *, personal: bool = True) -> list[Shown]:
    return [
        Shown.read(event.position, event.content, event.openings) for event in await world.events(personal=personal)
    ]


async def traced(world: World, name: str, *, personal: bool = True) -> Story:
    events = await log(world, personal=personal)
    finder = Finder(name)
    for event in events:
        finder.see(event)
    gatherer = Gatherer(finder.wanted())
    for event in events:
        gatherer.see(event)
    return gatherer.story()


def ids(story: Story) -> set[str]:
    return {str(each.granted.members["credential"]) for each in story.credentials()}


def whole(story: Story) -> str:
    return json.dumps(to_json(story, NEVER))


async def lived(world: World) -> dict[str, str]:
    """Let two tasks live side by side; return the names of the first one's."""
    task = await world.begin(conversation="chat 77", boundary=Boundary(actions=frozenset({"order.refund"})))
    other = await world.begin(conversation="chat 78")
    trail = Trail(prompt_reference="message 12", prompt_digest=DIGEST, tool_call_reference="call_9")
    refund = (await world.granted(task=task.id, trail=trail, **REFUND)).grant
    theirs = (await world.granted(task=other.id)).grant
    await world.refused(task=task.id, action="customer.read", resource="customer/42")
    use = said("accepted", refund.credential_id, call_digest=DIGEST)
    stray = said("accepted", theirs.credential_id)
    turned_away = said("refused", refund.credential_id, reason="TOKEN_HOLDER_MISMATCH", presented_by=SUPPORT)
    await world.report(use, stray, said("done", use=use, reference="refund-7"), turned_away)
    await world.revoke("credential", refund.credential_id)
    await world.end(task.id)
    return {
        "credential": refund.credential_id,
        "task": task.id,
        "transaction": refund.transaction_id,
        "use": use.id,
        "conversation": "chat 77",
        "the service's reference": "refund-7",
        "the prompt's reference": "message 12",
        "the tool call's reference": "call_9",
        "other task": other.id,
        "other credential": theirs.credential_id,
    }


def only(story: Story) -> CredentialStory:
    (found,) = story.credentials()
    return found


@pytest.mark.parametrize("by", ["credential", "task", "transaction", "use", "conversation", "the service's reference",
                                "the prompt's reference", "the tool call's reference"])  # fmt: skip
async def test_by_every_name_it_is_the_same_story_and_nothing_of_anothers(world: World, by: str) -> None:
    names = await lived(world)
    story = await traced(world, names[by])
    found = only(story)
    assert ids(story) == {names["credential"]}
    (task,) = story.tasks
    assert task.id == names["task"]
    assert task.begun is not None
    assert task.begun.opened["conversation"] == "chat 77"
    assert found.granted.opened["trail"]["prompt_reference"] == "message 12"
    assert found.granted.members["decision"]["policies"] == ["support-may-refund"]
    (use,) = found.uses.values()
    assert use.accepted.members["spiffe_id"] == ORDERS
    assert [outcome.opened["reference"] for outcome in use.outcomes] == ["refund-7"]
    assert [refusal.members["reason"] for refusal in found.refused] == ["TOKEN_HOLDER_MISMATCH"]
    assert found.ended is not None
    assert (found.ended.type, found.ended.members["rule"]) == ("revocation.made", "credential")
    assert story.systems() == {ORDERS: True}
    assert "task.ended" in [event.type for event in task.others]
    refusals = [event.members["reason"] for event in task.refused]
    assert refusals == (["TASK_BOUNDARY_EXCEEDED"] if by in {"task", "conversation"} else [])
    for foreign in ("other task", "other credential"):
        assert names[foreign] not in whole(story)


@pytest.mark.parametrize("name", ["credential", "task", "transaction"])
async def test_nobody_writes_itself_into_the_story_of_another(world: World, name: str) -> None:
    """Conversations and references are whatever agents and services call them: an id of the broker's, too."""
    names = await lived(world)
    liars = await world.begin(conversation=names[name])
    grant = (await world.granted(task=liars.id, trail=Trail(prompt_reference=names[name]))).grant
    use = said("accepted", grant.credential_id)
    await world.report(use, said("done", use=use, reference=names[name]))
    story = await traced(world, names[name])
    assert ids(story) == {names["credential"]}
    assert [task.id for task in story.tasks] == [names["task"]]


async def test_a_log_that_lies_reaches_neither_the_terminal_nor_a_shell(world: World) -> None:
    names = await lived(world)
    story = await traced(world, names["task"])
    for event in [task.begun for task in story.tasks if task.begun] + everything(story):
        _poison(event.members)
        _poison(event.opened)
    drawn = StringIO()
    Console(file=drawn, width=400).print(*draw(story, NEVER), sep="\n")
    assert "done" in drawn.getvalue()
    assert [character for character in ("\x1b", "\u202e") if character in drawn.getvalue()] == []
    for _, command in story.commands(NEVER):
        assert len(shlex.split(command)) <= 6, command


def everything(story: Story) -> list[Shown]:
    """Return every event of a story but the beginnings of its tasks."""
    found = [event for task in story.tasks for event in (*task.refused, *task.others)]
    for each in story.credentials():
        uses = [event for use in each.uses.values() for event in (use.accepted, *use.outcomes)]
        found += [
            each.granted,
            *each.redeemed,
            *uses,
            *each.refused,
            *each.others,
            *([each.ended] if each.ended else []),
        ]
    return found


def _poison(value: Any) -> Any:
    """Let every text in it end in what would take a terminal over, and a shell."""
    if isinstance(value, str):
        return value if value.endswith("$(reboot)") else f"{value}\x1b]0;owned\x07\u202e; reboot $(reboot)"
    if isinstance(value, dict):
        value.update({name: _poison(member) for name, member in value.items()})
    if isinstance(value, list):
        value[:] = map(_poison, value)
    return value


async def test_a_use_stands_at_the_time_that_its_service_says_and_lateness_is_told(world: World) -> None:
    world.time.still = world.time()
    task = await world.begin()
    credential = (await world.granted(task=task.id, **REFUND)).grant.credential_id
    happened = world.time() - timedelta(hours=1)
    late = said("accepted", credential, at=happened)
    soon = said("accepted", credential, at=world.time())
    await world.report(late, soon, said("done", use=late, at=happened))
    drawn = StringIO()
    Console(file=drawn, width=400).print(*draw(await traced(world, task.id), NEVER), sep="\n")
    lines = drawn.getvalue().splitlines()
    (use,) = [line for line in lines if " used " in line and f"{happened:%H:%M:%S}" in line]
    (outcome,) = [line for line in lines if " outcome " in line and f"{happened:%H:%M:%S}" in line]
    assert lines.index(use) < lines.index(outcome)
    assert sum("told the broker at" in line for line in lines) == 2


async def test_commands_are_for_what_still_lives(world: World) -> None:
    task = await world.begin()
    credential = (await world.granted(task=task.id)).grant.credential_id
    story = await traced(world, task.id)
    assert [command for _, command in story.commands(NEVER)] == [
        f"broker revoke credential {credential}",
        f"broker revoke task {task.id}",
        f"broker revoke agent {SUPPORT}",
        f"broker stop agent {SUPPORT} --reason ...",
    ]
    expired = [command for _, command in story.commands(LATER)]
    assert f"broker revoke credential {credential}" not in expired
    await world.end(task.id)
    ended = [command for _, command in (await traced(world, task.id)).commands(NEVER)]
    assert ended == [f"broker revoke agent {SUPPORT}", f"broker stop agent {SUPPORT} --reason ..."]


@pytest.mark.parametrize("how", ["agent", "tenant", "task", "stop"])
async def test_whatever_ended_it_is_named(world: World, how: str) -> None:
    task = await world.begin()
    credential = (await world.granted(task=task.id)).grant.credential_id
    names = {"agent": SUPPORT, "tenant": "retail", "task": task.id}
    await (world.stop("agent", SUPPORT) if how == "stop" else world.revoke(how, names[how]))
    story = await traced(world, credential)
    ended = only(story).ended
    assert ended is not None
    assert ended.type == ("override.imposed" if how == "stop" else "revocation.made")


async def test_without_personal_values_it_says_no_more_than_the_log(world: World) -> None:
    names = await lived(world)
    shown = whole(await traced(world, names["credential"], personal=False))
    for personal in ("chat 77", "message 12", "refund-7", "4200"):
        assert not re.search(rf"(?<![\w-]){personal}(?![\w-])", shown)  # an id may hold any digits
    for name in ("chat 77", "refund-7"):
        assert not (await traced(world, name, personal=False)).tasks


async def test_what_the_log_does_not_know_has_no_story(world: World) -> None:
    await lived(world)
    for name in ("cred_0190a0a0-0000-7000-8000-000000000000", "chat 79", "", "order.refund", ORDERS):
        finder = Finder(name)
        for event in await log(world):
            finder.see(event)
        assert not finder.wanted(), name


@pytest.mark.parametrize("bypassed", [False, True])
async def test_who_approved_it_is_told_with_what_came_of_it(world: World, bypassed: bool) -> None:
    task = await world.begin()
    if bypassed:
        await change(world, bundle(GROUP | {"bypass": "PT30M"}))
    asked = await payout(world, task=task.id)
    trail = Trail(prompt_reference="message 12")
    approval = await world.held(**asked, trail=trail)
    other = await world.held(**await payout(world))
    if bypassed:
        await world.approve(approval, bypass=timedelta(minutes=5))
        await world.granted(**asked, approval=approval)
        credential = (await world.granted(**asked)).grant.credential_id
    else:
        await world.approve(approval)
        credential = (await world.granted(**asked, approval=approval)).grant.credential_id
    for name in {credential, approval} if not bypassed else {credential}:
        story = await traced(world, name)
        assert ids(story) == {credential}
        told = [event.type for event in only(story).approval]
        assert told[:2] == ["approval.requested", "approval.approved"]
        assert ("approval.bypass" in told) == bypassed
        assert only(story).approval[0].opened["trail"]["prompt_reference"] == "message 12"
        assert "person" in only(story).approval[1].opened
        assert not story.tasks[0].approvals, "told once"
        assert other not in whole(story)


async def test_a_request_that_nobody_answered_is_part_of_its_task(world: World) -> None:
    task = await world.begin()
    approval = await world.held(**await payout(world, task=task.id))
    for name in (task.id, approval):
        story = await traced(world, name)
        assert [each.id for each in story.tasks] == [task.id]
        assert list(story.tasks[0].approvals) == [approval]
        assert approval in whole(story)


def test_which_names_are_personal() -> None:
    uses = ("cred_1", "task_1", "txn_1", "appr_1", "0190a0a0-0000-7000-8000-000000000000")
    assert not any(map(needs_personal, uses))
    assert all(map(needs_personal, ("chat 77", "refund-7", "0190a0a0", "credential")))


# --- uses without an end ----------------------------------------------------------------------------------------------


async def test_uses_without_an_outcome_are_listed_and_the_others_are_not(world: World) -> None:
    credential = (await world.granted()).grant.credential_id
    uses = [said("accepted", credential) for _ in range(4)]
    await world.report(*uses, said("done", use=uses[0]), said("unknown", use=uses[1]), said("failed", use=uses[2]))
    await world.report(said("dropped", count=4))

    def accounting(events: Iterator[Shown]) -> Accounting:
        found = Accounting()
        for event in events:
            found.see(event)
        return found

    found = accounting(iter(await log(world, personal=False)))
    assert {(each.use, each.said) for each in found.open()} == {(uses[1].id, "unknown"), (uses[3].id, "")}
    assert {(each.service, each.credential, each.agent) for each in found.open()} == {(ORDERS, credential, SUPPORT)}
    assert found.dropped == {ORDERS: 4}
    await world.report(said("done", use=uses[1]), said("rolled_back", use=uses[0]), said("done", use=uses[3]))
    assert accounting(iter(await log(world, personal=False))).open() == []


async def test_what_was_spent_and_never_said_to_be_used_is_listed(world: World) -> None:
    task = await world.begin()
    used, silent = [await world.granted(task=task.id, **REFUND) for _ in range(2)]
    for credential in (used, silent):
        await world.redeem(credential)
    use = said("accepted", used.grant.credential_id)
    await world.report(use, said("done", use=use))
    found = Accounting()
    for event in await log(world, personal=False):
        found.see(event)
    (each,) = found.open()
    assert (each.credential, each.use, each.service) == (silent.grant.credential_id, "", ORDERS)
    assert abs(each.at - world.time().timestamp() * 1_000_000) < 60_000_000
