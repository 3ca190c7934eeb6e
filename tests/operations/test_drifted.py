"""Whom a drifted task is told: durably, the right people alone, along the path, until one of them has answered."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.boundary import Boundary
from broker.drifted import DriftState
from broker.errors import Reason
from broker.intent import digest
from broker.operations.approval_calls import ApprovalPage, ApprovalPageCall
from broker.operations.calls import BeginTaskCall
from broker.operations.drift_calls import DriftedList, ListDriftedCall, ShownDrifted
from broker.operations.task_calls import ResumeTaskCall
from broker.task import Task
from tests.fakes.identity import AUDIENCE
from tests.operations.approving import ISSUER, bundle, context, payout, signed_in
from tests.operations.customers import KATE, SHOP, customers_sign_in, shop, token_of
from tests.operations.limiting import change, write
from tests.operations.test_drift import LARGE, ONLY_READS, REFUND, REFUSALS, REPORT_ONLY, stray
from tests.operations.test_task_boundary import cancel, changed, events, refused
from tests.operations.world import (
    CHAT,
    DEPUTY,
    DUTY,
    LEAD,
    ORDERS,
    RETAIL_DESK,
    SECURITY,
    SHARED,
    SUPPORT,
    WHOLESALE,
    World,
    open_world,
)
from tests.polling import eventually
from tests.unit.policy.bundles import EXAMPLE, added, replaced

WHOLESALE_LEAD = "spiffe://example.org/operator/wholesale-lead"
# Of the same group, and of another tenant.
ANOTHER_TENANTS = f"""
[[operator]]
spiffe_id = "{WHOLESALE_LEAD}"
roles = ["refund-approvers"]
tenants = ["wholesale"]
"""
THEY_MAY = """
@id("wholesale-lead-answers")
permit (
    principal in Role::"refund-approvers",
    action in [Action::"broker.approval.decide", Action::"broker.approval.read"],
    resource is Task in Tenant::"wholesale"
);
"""
FOR_A_GROUP = ', escalate_to = "refund-approvers"'
NEXT = timedelta(minutes=10, seconds=1)


@pytest.fixture
async def peopled(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose people sign in, and answer over the chat."""
    write(tmp_path, bundle(people=True))
    async with open_world(tmp_path) as world:
        signed_in(world)
        yield world


async def drifted(world: World, *, boundary: Boundary = ONLY_READS) -> Task:
    """Return a task that drifted and is suspended."""
    task = await world.begin(boundary=boundary)
    await stray(world, task, REFUSALS)
    return task


async def of_a_customer(world: World) -> Task:
    """Return a drifted task that the chat began for a customer."""
    asked = digest(b"where is my order?")
    call = BeginTaskCall(context=world.context(CHAT), purpose="customer-support", agent=SUPPORT, boundary=ONLY_READS,
                         person="customer-42", asked=asked)  # fmt: skip
    task = await world.issuer.begin_task(call)
    await stray(world, task, REFUSALS)
    return task


async def page(world: World, who: str = LEAD, subject: str = "", **more: Any) -> DriftedList:
    return await world.issuer.list_drifted(ListDriftedCall(context=context(world, who, subject), **more))


async def seen(world: World, who: str = LEAD, subject: str = "") -> list[str]:
    return [each.task.id for each in (await page(world, who, subject)).drifted]


async def changes(world: World, cursor: str, who: str = LEAD) -> ApprovalPage:
    return await world.issuer.approval_page(ApprovalPageCall(context=world.context(who), cursor=cursor))


def states(found: ApprovalPage) -> list[tuple[str, DriftState]]:
    return [(each.task.id, each.drifted.state) for each in found.drifted]


async def resume(world: World, task: str, who: str, subject: str = "") -> None:
    await world.issuer.resume_task(ResumeTaskCall(context=context(world, who, subject), task=task, text="looked"))


async def is_suspended(world: World, task: Task) -> bool:
    return (await world.refused(task=task.id, **REFUND)).reason is Reason.TASK_SUSPENDED


# --- what they are told -------------------------------------------------------------------------------------------


async def test_the_group_is_told_what_happened_and_whose_it_is(world: World) -> None:
    task = await world.begin(boundary=ONLY_READS)
    await stray(world, task, REFUSALS - 2)
    assert await seen(world) == []
    for asked in (LARGE, {"action": "order.cancel"}):
        await world.refused(task=task.id, **asked)
    (shown,) = (await page(world)).drifted
    told = shown.drifted
    assert (told.state, told.times, told.refusals, told.within) == (DriftState.OPEN, 1, REFUSALS, timedelta(minutes=10))
    assert (told.reasons, told.group, told.escalated) == (("TASK_BOUNDARY_EXCEEDED",), "refund-approvers", ())
    assert told.actions == ("order.cancel", "order.refund", "order.refund_large")
    assert (shown.business_owner, shown.security_owner) == ("Head of Retail Support", "Retail Security")
    assert (shown.task.agent, shown.task.type, shown.task.tenant) == (SUPPORT, "customer-case", "retail")
    assert shown.task.suspended_at is not None
    (event,) = await events(world, "task.drifted")
    assert (event["group"], event["actions"]) == ("refund-approvers", list(told.actions))


async def test_the_person_is_shown_and_stands_in_no_event_of_it(peopled: World) -> None:
    task = await of_a_customer(peopled)
    (shown,) = (await page(peopled)).drifted
    assert shown.task.person == "customer-42"
    assert "customer-42" not in repr(shown)
    await resume(peopled, task.id, LEAD)
    for kind in ("task.drifted", "task.resumed"):
        assert "customer-42" not in json.dumps(await events(peopled, kind))


async def test_it_is_on_the_stream_when_it_begins_and_when_it_ends(world: World) -> None:
    start = (await changes(world, "")).page.cursor
    task, other = await drifted(world), await drifted(world)
    found = await changes(world, start)
    assert states(found) == [(task.id, DriftState.OPEN), (other.id, DriftState.OPEN)]
    await world.resume(task.id)
    await cancel(world, other.id)
    found = await changes(world, found.page.cursor)
    assert states(found) == [(task.id, DriftState.RESUMED), (other.id, DriftState.ENDED)]
    assert states(await changes(world, found.page.cursor)) == []


async def test_what_is_only_reported_wakes_who_watches(world: World) -> None:
    await changed(world, "entities.toml", lambda text: text.replace(*REPORT_ONLY))
    task = await world.begin(boundary=ONLY_READS)
    store = world.issuer.verbs.attempt.recorder.store
    await stray(world, task, REFUSALS - 1)
    before = store.approval_changes
    await stray(world, task)
    assert store.approval_changes == before + 1
    await resume(world, task.id, LEAD)
    assert store.approval_changes == before + 2


async def test_where_nobody_is_named_nobody_is_told(world: World) -> None:
    await changed(world, "entities.toml", lambda text: text.replace(*REPORT_ONLY).replace(FOR_A_GROUP, ""))
    task = await world.begin(boundary=ONLY_READS)
    await stray(world, task, REFUSALS)
    assert [event.get("group", "") for event in await events(world, "task.drifted")] == [""]
    assert await seen(world) == await seen(world, SECURITY) == []


# --- who sees it --------------------------------------------------------------------------------------------------


async def test_who_sees_it(world: World) -> None:
    """Those who were told, and operators who may resume it; to everybody else it is as if it were not there."""
    people = added("entities.toml", ANOTHER_TENANTS, added("broker.cedar", THEY_MAY, EXAMPLE))
    await change(world, people)
    start = {who: (await changes(world, "", who)).page.cursor for who in (LEAD, SUPPORT, WHOLESALE_LEAD, DUTY)}
    task = await drifted(world)
    for who in (LEAD, DEPUTY, SECURITY, RETAIL_DESK):
        assert await seen(world, who) == [task.id], who
    for who in (SUPPORT, WHOLESALE, SHARED, CHAT, ORDERS, DUTY, WHOLESALE_LEAD):
        assert await seen(world, who) == [], who
    assert [states(await changes(world, start[who], who)) != [] for who in start] == [True, False, False, False]


async def test_a_group_that_policy_does_not_let_read_sees_nothing(world: World) -> None:
    await drifted(world)
    assert await seen(world, LEAD) != []
    theirs = 'principal in Role::"refund-approvers"'
    await change(world, replaced("broker.cedar", theirs, 'principal in Role::"desk"'))
    assert await seen(world, LEAD) == []


async def test_a_tool_shows_it_to_who_is_told_and_to_nobody_else(peopled: World) -> None:
    task = await drifted(peopled)
    for subject, sees in (("lena", True), ("omar", True), ("wendy", False)):
        assert await seen(peopled, CHAT, subject) == ([task.id] if sees else [])
    assert await refused(page(peopled, CHAT, "nobody")) is Reason.PERSON_UNKNOWN
    assert await refused(page(peopled, CHAT, "forged")) is Reason.IDENTITY_TOKEN_REFUSED


async def test_a_tool_that_may_resume_does_so_for_nobody_who_signs_in(peopled: World) -> None:
    """Operators' connections may resume: who signs in over one sees, and lets go on, what they themselves are told."""
    task = await drifted(peopled)
    assert await seen(peopled, RETAIL_DESK) == [task.id]
    assert await seen(peopled, RETAIL_DESK, "wendy") == []
    people = (
        '\n[[person]]\nname = "nora"\ntenants = ["retail"]\nidentities = [{ issuer = "ISSUER", subject = "nora" }]\n'
    )
    await change(peopled, added("entities.toml", people.replace("ISSUER", ISSUER), bundle(people=True)))
    assert await seen(peopled, RETAIL_DESK, "nora") == []
    assert await seen(peopled, RETAIL_DESK) == [task.id]
    for subject in ("nora", "wendy"):
        assert await refused(resume(peopled, task.id, RETAIL_DESK, subject)) is Reason.APPROVER_REFUSED
    assert await is_suspended(peopled, task)
    await resume(peopled, task.id, RETAIL_DESK)
    await peopled.granted(task=task.id)


async def test_the_person_it_was_begun_for_is_not_told(peopled: World) -> None:
    """By whichever name: the customer is of the group, and an operator."""
    task = await of_a_customer(peopled)
    other = await drifted(peopled)
    assert await seen(peopled, DEPUTY) == [other.id]
    assert await seen(peopled, LEAD) == [task.id, other.id]


async def test_whoever_signed_in_as_a_customer_is_told_nothing(tmp_path: Path) -> None:
    """Not even who is of the group: what a chat was shown counts for the customer's own, and drift is nobody's own."""
    kate = f"""
[[person]]
name = "kate"
tenants = ["retail"]
groups = ["refund-approvers"]
identities = [{{ issuer = "{SHOP}", subject = "{KATE}" }}, {{ issuer = "{ISSUER}", subject = "kate" }}]
"""
    write(tmp_path, added("entities.toml", kate, shop(people=True)))
    async with open_world(tmp_path) as world:
        customers_sign_in(world)
        customer, staff = token_of(world), token_of(world, "kate", iss=ISSUER, aud=AUDIENCE)
        start = (await world.issuer.approval_page(ApprovalPageCall(context=context(world, CHAT, customer)))).page.cursor
        task = await drifted(world)
        assert (await seen(world, CHAT, customer), await seen(world, CHAT, staff)) == ([], [task.id])
        call = ApprovalPageCall(context=context(world, CHAT, customer), cursor=start)
        assert states(await world.issuer.approval_page(call)) == []
        assert await refused(resume(world, task.id, CHAT, customer)) is Reason.POLICY_NOT_PERMITTED
        assert await is_suspended(world, task)
        await resume(world, task.id, CHAT, staff)


# --- who answers --------------------------------------------------------------------------------------------------


async def test_who_was_told_lets_it_go_on(world: World) -> None:
    task = await drifted(world)
    await resume(world, task.id, LEAD)
    await world.granted(task=task.id)
    (event,) = await events(world, "task.resumed")
    assert (event["spiffe_id"], event["decision"]["policies"]) == (LEAD, ["approvers-answer-held-requests"])
    assert await seen(world) == []
    assert await refused(resume(world, task.id, LEAD)) in {Reason.POLICY_NOT_PERMITTED, Reason.TASK_NOT_SUSPENDED}
    await stray(world, task, REFUSALS)
    assert await seen(world) == [task.id], "and is told of the next time"


async def test_a_person_lets_it_go_on_over_a_tool_and_is_recorded(peopled: World) -> None:
    task = await drifted(peopled)
    await resume(peopled, task.id, CHAT, "omar")
    await peopled.granted(task=task.id)
    (event,) = [each for each in await peopled.events(personal=True) if b"task.resumed" in each.content]
    assert b"omar" not in event.content
    assert {each.field: each.value for each in event.openings}["person"] == b'"omar"'


NOBODY: dict[str, tuple[str, str, Reason]] = {
    "the agent": (SUPPORT, "", Reason.POLICY_NOT_PERMITTED),
    "the agent with a good token": (SUPPORT, "lena", Reason.POLICY_NOT_PERMITTED),
    "another agent with a good token": (SHARED, "lena", Reason.POLICY_NOT_PERMITTED),
    "who began it": (CHAT, "", Reason.POLICY_NOT_PERMITTED),
    "who began it, with a good token": (CHAT, "lena", Reason.POLICY_NOT_PERMITTED),
    "the person it is for": (DEPUTY, "", Reason.POLICY_NOT_PERMITTED),
    "somebody of another tenant": (CHAT, "wendy", Reason.POLICY_NOT_PERMITTED),
    "whom nobody has told yet": (DUTY, "", Reason.POLICY_NOT_PERMITTED),
    "a forged token": (CHAT, "forged", Reason.IDENTITY_TOKEN_REFUSED),
}


@pytest.mark.parametrize(("who", "subject", "reason"), NOBODY.values(), ids=NOBODY)
async def test_who_may_not_let_it_go_on(peopled: World, who: str, subject: str, reason: Reason) -> None:
    task = await of_a_customer(peopled)
    assert await refused(resume(peopled, task.id, who, subject)) is reason
    assert await is_suspended(peopled, task)
    assert await seen(peopled) == [task.id]
    await resume(peopled, task.id, LEAD)
    await peopled.granted(task=task.id)


async def test_no_policy_lets_those_go_on_whom_it_is_about(peopled: World) -> None:
    """The customer is an operator who may resume any task; their own is for somebody else."""
    everybody = replaced("broker.cedar", 'principal in Role::"security",\n    action == Action::"broker.task.resume"',
                         'principal,\n    action == Action::"broker.task.resume"', bundle(people=True))  # fmt: skip
    await change(peopled, everybody)
    task, other = await of_a_customer(peopled), await drifted(peopled)
    assert await refused(resume(peopled, task.id, DEPUTY)) is Reason.APPROVER_REFUSED
    assert await is_suspended(peopled, task)
    assert await seen(peopled, DEPUTY) == [other.id]
    await resume(peopled, other.id, DEPUTY)
    await resume(peopled, task.id, LEAD)


async def test_once(world: World) -> None:
    """A hundred at once: one lets it go on, and one event says so."""
    task = await drifted(world)
    answers = await asyncio.gather(*(refused(resume(world, task.id, SECURITY)) for _ in range(20)),
                                   return_exceptions=True)  # fmt: skip
    assert sum(answer is Reason.TASK_NOT_SUSPENDED for answer in answers) == 19
    assert len(await events(world, "task.resumed")) == 1


async def test_a_report_waits_too_and_is_answered(world: World) -> None:
    await changed(world, "entities.toml", lambda text: text.replace(*REPORT_ONLY))
    task = await world.begin(boundary=ONLY_READS)
    await stray(world, task, 3 * REFUSALS)
    (shown,) = (await page(world)).drifted
    assert (shown.drifted.times, shown.task.suspended_at) == (3, None)
    await resume(world, task.id, LEAD)
    assert await seen(world) == []
    assert await refused(resume(world, task.id, SECURITY)) is Reason.TASK_NOT_SUSPENDED
    await world.granted(task=task.id)


# --- what closes it -----------------------------------------------------------------------------------------------


async def test_it_is_closed_with_what_ends_the_task(world: World) -> None:
    heard = await world.begin(boundary=ONLY_READS, heartbeat=timedelta(seconds=30))
    late = await world.begin(boundary=ONLY_READS, lifetime=timedelta(minutes=3))
    begun = [await world.begin(boundary=ONLY_READS) for _ in range(4)] + [heard, late]
    for task in begun:
        await stray(world, task, REFUSALS)
    ended, cancelled, revoked, resumed, *_ = begun
    assert await seen(world) == [task.id for task in begun]
    await world.end(ended.id)
    await cancel(world, cancelled.id)
    await world.revoke("task", revoked.id)
    await resume(world, resumed.id, LEAD)
    assert await seen(world) == [heard.id, late.id]
    world.time.ahead += timedelta(minutes=4)

    async def none() -> bool:
        return await seen(world) == []

    await eventually(none)


async def test_lifting_the_revocation_of_a_suspended_task_has_somebody_told(world: World) -> None:
    """Else it would stand there suspended: shown to nobody, and let go on by none of those who were told."""
    task, over = await drifted(world), await drifted(world)
    revoked = [await world.revoke("task", each.id) for each in (task, task, over)]
    await world.end(over.id)
    start = (await changes(world, "")).page.cursor
    store = world.issuer.verbs.attempt.recorder.store
    for made in (revoked[0], revoked[2]):
        await world.lift(made.revocation)
        assert await seen(world) == [], "it is revoked still, or it is over"
    before = store.approval_changes
    await world.lift(revoked[1].revocation)
    assert store.approval_changes > before
    assert await seen(world) == [task.id]
    assert states(await changes(world, start)) == [(task.id, DriftState.OPEN)]
    world.time.ahead += NEXT

    async def told() -> list[str]:
        return await seen(world, DUTY)

    assert await eventually(told) == [task.id]
    await resume(world, task.id, LEAD)
    await world.granted(task=task.id)


async def test_stopping_the_agent_leaves_it_to_be_answered(world: World) -> None:
    task = await drifted(world)
    await world.revoke("agent", SUPPORT)
    assert await seen(world) == [task.id]
    await resume(world, task.id, LEAD)


# --- along the path -----------------------------------------------------------------------------------------------


async def test_unanswered_it_goes_on_to_the_next_group_once(world: World) -> None:
    task, answered = await drifted(world), await drifted(world)
    await resume(world, answered.id, LEAD)
    start = (await changes(world, "", DUTY)).page.cursor
    assert await seen(world, DUTY) == []
    world.time.ahead += NEXT

    async def told() -> list[str]:
        return await seen(world, DUTY)

    assert await eventually(told) == [task.id]
    assert await seen(world, LEAD) == [task.id], "the first may still answer"
    (event,) = await events(world, "task.escalated")
    assert (event["task"], event["agent"], event["tenant"], event["group"]) == (task.id, SUPPORT, "retail", "duty")
    assert states(await changes(world, start, DUTY)) == [(task.id, DriftState.OPEN)]
    await resume(world, task.id, DUTY)
    assert len(await events(world, "task.escalated")) == 1


async def test_whoever_drifts_on_wins_no_time(world: World) -> None:
    await changed(world, "entities.toml", lambda text: text.replace(*REPORT_ONLY))
    task = await world.begin(boundary=ONLY_READS)
    await stray(world, task, REFUSALS)
    world.time.ahead += timedelta(minutes=6)
    await stray(world, task, REFUSALS)
    world.time.ahead += timedelta(minutes=5)

    async def told() -> list[ShownDrifted]:
        return list((await page(world, DUTY)).drifted)

    (shown,) = await eventually(told)
    assert (shown.drifted.times, shown.drifted.escalated) == (2, ("duty",))


async def test_a_longer_path_is_followed_step_by_step(world: World) -> None:
    path = '[[approver_group]]\nname = "duty"\nescalate_to = "security"\nescalate_after = "PT2M"\n'
    await change(world, added("entities.toml", path))
    await drifted(world)
    for minutes, expected in ((11, ("duty",)), (2, ("duty", "security"))):
        world.time.ahead += timedelta(minutes=minutes)

        async def there(expected: tuple[str, ...] = expected) -> bool:
            return [each.drifted.escalated for each in (await page(world)).drifted] == [expected]

        await eventually(there)
    assert [event["group"] for event in await events(world, "task.escalated")] == ["duty", "security"]


# --- nothing takes it away ----------------------------------------------------------------------------------------


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        task = await drifted(world)
    async with open_world(tmp_path) as world:
        assert await seen(world) == [task.id]
        world.time.ahead += NEXT

        async def told() -> list[str]:
            return await seen(world, DUTY)

        assert await eventually(told) == [task.id]
    async with open_world(tmp_path) as world:
        await resume(world, task.id, DUTY)
        assert await seen(world) == []


async def test_a_bundle_that_takes_the_group_away_leaves_it_to_operators(world: World) -> None:
    """Who is of a group, the bundle in force says: who has left it answers nothing."""
    task = await drifted(world)
    names = ((b'"refund-approvers"', b'"approvers"'), (b'\\"refund-approvers\\"', b'\\"approvers\\"'))
    gone = {name: text.replace(*names[0]).replace(*names[1]) for name, text in EXAMPLE.items()}
    await change(world, gone)
    assert await seen(world, LEAD) == []
    assert await refused(resume(world, task.id, LEAD)) is Reason.POLICY_NOT_PERMITTED
    assert await is_suspended(world, task)
    assert await seen(world, SECURITY) == [task.id]
    await resume(world, task.id, SECURITY)
    again = await drifted(world)
    assert await seen(world, LEAD) == [again.id], "under the new name"


async def test_a_group_that_the_bundle_names_by_now_is_told_the_next_time(world: World) -> None:
    """As `task.drifted` says; else a task would be suspended, and nobody whom its type names could let it go on."""
    await changed(world, "entities.toml", lambda text: text.replace(*REPORT_ONLY))
    task = await world.begin(boundary=ONLY_READS)
    await stray(world, task, REFUSALS)
    told = EXAMPLE["entities.toml"].decode().replace(FOR_A_GROUP, ', escalate_to = "duty"')
    await changed(world, "entities.toml", lambda _: told)
    await stray(world, task, REFUSALS)
    assert await is_suspended(world, task)
    assert [event["group"] for event in await events(world, "task.drifted")] == ["refund-approvers", "duty"]
    assert await seen(world, DUTY) == await seen(world, LEAD) == [task.id]
    await resume(world, task.id, DUTY)
    await world.granted(task=task.id)


async def test_a_type_without_drift_by_now_keeps_what_waits(world: World) -> None:
    task = await drifted(world)
    lines = EXAMPLE["entities.toml"].splitlines(keepends=True)
    await change(
        world, dict(EXAMPLE) | {"entities.toml": b"".join(line for line in lines if not line.startswith(b"drift = "))}
    )
    assert await seen(world) == [task.id]
    await resume(world, task.id, LEAD)


async def test_a_flood_hides_nothing(world: World) -> None:
    """Whoever makes many tasks drift does not hide the one before, nor the one after: paged, the oldest first."""
    await changed(world, "entities.toml", lambda text: text.replace("refusals = 5", "refusals = 1"))
    first = await world.begin(boundary=ONLY_READS)
    await stray(world, first)
    start = (await changes(world, "")).page.cursor
    many = [await world.begin(boundary=ONLY_READS) for _ in range(60)]
    for task in many:
        await stray(world, task)
    expected = [first.id, *(task.id for task in many)]
    found: list[str] = []
    token = ""
    while True:
        part = await page(world, page_token=token)
        assert len(part.drifted) <= 50
        found += [each.task.id for each in part.drifted]
        token = part.next_page_token
        if not token:
            break
    assert found == expected
    assert [each.task.id for each in (await page(world, page_size=1)).drifted] == [first.id]
    followed: list[str] = []
    cursor = start
    while len(followed) < 60:
        changed_now = await changes(world, cursor)
        assert len(changed_now.drifted) <= 50
        followed += [each.task.id for each in changed_now.drifted]
        cursor = changed_now.page.cursor
    assert followed == expected[1:], "each once, in order"


async def test_a_page_is_nobody_elses(world: World) -> None:
    for _ in range(2):
        await drifted(world)
    token = (await page(world, page_size=1)).next_page_token
    assert token
    for who in (DEPUTY, SUPPORT, SECURITY):
        assert await refused(page(world, who, page_token=token)) is Reason.CURSOR_FOREIGN
    assert await refused(page(world, page_token=token + "x")) is Reason.CURSOR_TAMPERED
    assert len((await page(world, page_token=token)).drifted) == 1


async def test_what_is_held_and_what_drifted_come_by_one_stream(world: World) -> None:
    start = (await changes(world, "")).page.cursor
    approval = await world.held(**await payout(world))
    task = await drifted(world)
    found = await changes(world, start)
    assert ([each.id for each in found.approvals], states(found)) == ([approval], [(task.id, DriftState.OPEN)])
