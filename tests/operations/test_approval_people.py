"""The people's side of a held request: who counts, how many, who follows whom, and what lets a kind pass unasked."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.approval import ApprovalState
from broker.errors import Reason, Refusal
from broker.intent import digest
from broker.operations.approval_calls import ApprovalCall, ApprovalPageCall, ListApprovalsCall
from broker.operations.calls import BeginTaskCall
from tests.operations.approving import GROUP, bundle, context, payout, say_yes, signed_in
from tests.operations.limiting import change, write
from tests.operations.test_approval import OTHER, events, refusal_of, state
from tests.operations.world import (
    CHAT,
    DEPUTY,
    DUTY,
    LEAD,
    RETAIL_DESK,
    SHARED,
    SUPPORT,
    WHOLESALE,
    World,
    open_world,
)
from tests.polling import eventually
from tests.unit.policy.bundles import EXAMPLE, added, replaced

USER = {"kind": "user"}
FRESH = {"kind": "authentication", "max_age": "PT2M"}
OWNERS = GROUP | {"owners": "excluded"}
TWO = GROUP | {"quorum": 2}
HALF_AN_HOUR = GROUP | {"bypass": "PT30M"}


@pytest.fixture
async def peopled(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose people sign in, and approve over the chat."""
    write(tmp_path, bundle(OWNERS, people=True))
    async with open_world(tmp_path) as world:
        signed_in(world)
        yield world


async def of_a_customer(world: World, **changes: Any) -> dict[str, Any]:
    """An intent in a task that the chat began for a customer."""
    call = BeginTaskCall(
        context=world.context(CHAT),
        purpose="customer-support",
        agent=SUPPORT,
        person="customer-42",
        asked=digest(b"change my account"),
    )
    task = await world.issuer.begin_task(call)
    return await payout(world, task=task.id, **changes)


# --- B4: who approves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", [SUPPORT, SHARED, WHOLESALE])
async def test_no_agent_approves_whatever_token_it_has(peopled: World, who: str) -> None:
    approval = await peopled.held(**await payout(peopled))
    for subject in ("", "lena"):
        reason = await refusal_of(say_yes(peopled, approval, subject, who=who))
        assert reason in {Reason.APPROVER_REFUSED, Reason.APPROVAL_UNKNOWN}
    assert await state(peopled, approval) is ApprovalState.PENDING
    await say_yes(peopled, approval, "lena")


NOBODY: dict[str, tuple[str, str, Reason]] = {
    "a service by itself": (CHAT, "", Reason.APPROVER_REFUSED),
    "a forged token": (CHAT, "forged", Reason.IDENTITY_TOKEN_REFUSED),
    "a stranger's token": (CHAT, "nobody", Reason.PERSON_UNKNOWN),
    "who asked": (CHAT, "customer", Reason.APPROVER_REFUSED),
    "the agent's owner": (CHAT, "olga", Reason.APPROVER_REFUSED),
    "somebody of another tenant": (CHAT, "wendy", Reason.APPROVAL_UNKNOWN),
    "an operator of no such group": (RETAIL_DESK, "", Reason.APPROVAL_UNKNOWN),
    "another's token over an operator's connection": (LEAD, "omar", Reason.IDENTITY_TOKEN_REFUSED),
}


@pytest.mark.parametrize(("who", "subject", "reason"), NOBODY.values(), ids=NOBODY)
async def test_who_does_not_count_is_refused(peopled: World, who: str, subject: str, reason: Reason) -> None:
    asked = await of_a_customer(peopled)
    approval = await peopled.held(**asked)
    signed_in(peopled)
    assert await refusal_of(say_yes(peopled, approval, subject, who=who)) is reason
    call = ApprovalCall(context=context(peopled, who, subject), approval=approval, text="no")
    assert await refusal_of(peopled.issuer.deny(call)) is reason
    assert await state(peopled, approval) is ApprovalState.PENDING
    await say_yes(peopled, approval, "lena")
    await peopled.granted(**asked, approval=approval)


async def test_one_person_with_two_identities_counts_once(tmp_path: Path) -> None:
    write(tmp_path, bundle(TWO, people=True))
    async with open_world(tmp_path) as world:
        signed_in(world)
        asked = await payout(world)
        approval = await world.held(**asked)
        first = await say_yes(world, approval, "lena")
        assert (first.shown.state, first.position is None) == (ApprovalState.PENDING, False)
        for who, subject in ((CHAT, "lena"), (CHAT, "lena-at-home"), (LEAD, ""), (LEAD, "lena")):
            again = await say_yes(world, approval, subject, who=who)
            assert (again.shown.state, again.position) == (ApprovalState.PENDING, None)
        assert [each.approvals for each in again.shown.requirements] == [1]
        assert (await world.refused(**asked, approval=approval)).reason is Reason.APPROVAL_PENDING
        last = await say_yes(world, approval, "omar")
        assert last.shown.state is ApprovalState.APPROVED
        await world.granted(**asked, approval=approval)
        said = await events(world, "approval.approved")
        assert [(each["approvals"], each["complete"], each["by_token"]) for each in said] == [
            (1, False, True),
            (2, True, True),
        ]


async def test_two_that_a_new_bundle_knows_to_be_one_are_one(world: World) -> None:
    """Two operators that turn out to be one person: what was two yeses is one when it is used."""
    await change(world, bundle(TWO))
    asked = await payout(world)
    approval = await world.held(**asked)
    await world.approve(approval, LEAD)
    await world.approve(approval, DEPUTY)
    person = '[[person]]\nname = "{}"\nall_tenants = true\ngroups = ["refund-approvers", "duty"]\nspiffe_ids = {}\n'
    same, other = person.format("same", f'["{LEAD}", "{DEPUTY}"]'), person.format("other", f'["{DUTY}"]')
    await change(world, bundle(TWO, files=added("entities.toml", same + other)))
    refusal = await world.refused(**asked, approval=approval)
    assert refusal.reason is Reason.STEP_UP_REQUIRED
    assert refusal.held is not None
    assert refusal.held.approval != approval


async def test_all_of_several_requirements_are_met_by_whom_each_names(tmp_path: Path) -> None:
    write(tmp_path, bundle(OWNERS, USER, people=True))
    async with open_world(tmp_path) as world:
        signed_in(world)
        asked = await of_a_customer(world)
        refusal = await world.refused(**asked)
        assert refusal.held is not None
        assert set(refusal.held.waits_for) == {"group:refund-approvers", "user"}
        approval = refusal.held.approval
        first = await say_yes(world, approval, "customer")
        counted = {each.required.kind.value: each.approvals for each in first.shown.requirements}
        assert counted == {"group": 0, "user": 1}
        assert (await say_yes(world, approval, "omar")).shown.state is ApprovalState.APPROVED
        await world.granted(**asked, approval=approval)


@pytest.mark.parametrize(("required", "minutes", "reason"), [
    (USER, 500, None),
    (FRESH, 1, None),
    (FRESH, 3, Reason.AUTHENTICATION_STALE),
], ids=["confirmed", "fresh", "stale"])  # fmt: skip
async def test_the_person_that_the_task_is_for_confirms(
    tmp_path: Path, required: dict[str, Any], minutes: int, reason: Reason | None
) -> None:
    write(tmp_path, bundle(required, people=True))
    async with open_world(tmp_path) as world:
        signed_in(world, minutes_ago=minutes)
        asked = await of_a_customer(world)
        approval = await world.held(**asked)
        assert await refusal_of(say_yes(world, approval, "lena")) is Reason.APPROVER_REFUSED
        by_svid = say_yes(world, approval, who=DEPUTY)  # the same person, by an operator's SVID
        assert await refusal_of(by_svid) is Reason.APPROVER_REFUSED
        if reason is not None:
            assert await refusal_of(say_yes(world, approval, "customer")) is reason
            signed_in(world)
        await say_yes(world, approval, "customer")
        await world.granted(**asked, approval=approval)


async def test_without_a_known_person_nobody_can_confirm(tmp_path: Path) -> None:
    write(tmp_path, bundle(USER, people=True))
    async with open_world(tmp_path) as world:
        signed_in(world)
        approval = await world.held(**await payout(world))
        for subject in ("customer", "lena"):
            assert await refusal_of(say_yes(world, approval, subject)) is Reason.APPROVER_REFUSED


async def test_who_may_only_look_decides_nothing(tmp_path: Path) -> None:
    write(tmp_path, bundle(OWNERS, people=True))
    rules = tmp_path / "policy" / "broker.cedar"
    both = 'action in [Action::"broker.approval.decide", Action::"broker.approval.read"],\n    resource is Task\n);\n'
    text = rules.read_text()
    assert text.endswith(both)
    rules.write_text(text.removesuffix(both) + 'action == Action::"broker.approval.read",\n    resource is Task\n);\n')
    async with open_world(tmp_path) as world:
        signed_in(world)
        approval = await world.held(**await payout(world))
        call = ApprovalCall(context=context(world, CHAT, "lena"), approval=approval, text="no")
        assert (await world.issuer.get_approval(call)).id == approval
        assert await refusal_of(say_yes(world, approval, "lena")) is Reason.POLICY_NOT_PERMITTED
        assert await refusal_of(world.issuer.deny(call)) is Reason.POLICY_NOT_PERMITTED
        await say_yes(world, approval, "lena", who=LEAD)


async def test_what_is_another_tenants_is_as_if_it_were_not_there(peopled: World) -> None:
    asked = await payout(peopled)
    approval = await peopled.held(**asked)
    nobodys = "appr_0190a0a0-0000-7000-8000-000000000000"
    for name in (approval, nobodys):
        call = ApprovalCall(context=context(peopled, CHAT, "wendy"), approval=name, text="x")
        told = set()
        for ask in (peopled.issuer.get_approval, peopled.issuer.deny):
            with pytest.raises(Refusal) as raised:
                await ask(call)
            told.add((raised.value.reason, raised.value.detail, raised.value.policy_ids))
        assert told == {(Reason.APPROVAL_UNKNOWN, "", ())}
        assert await refusal_of(say_yes(peopled, name, "wendy")) is Reason.APPROVAL_UNKNOWN
        assert await refusal_of(peopled.withdraw(name, WHOLESALE)) is Reason.APPROVAL_UNKNOWN
        task = (await peopled.begin(WHOLESALE)).id
        refusal = await peopled.refused(WHOLESALE, action="order.cancel", task=task, approval=name)
        assert refusal.reason is Reason.APPROVAL_UNKNOWN
    listed = ListApprovalsCall(context=context(peopled, CHAT, "wendy"))
    assert (await peopled.issuer.list_approvals(listed)).approvals == ()
    mine = ListApprovalsCall(context=context(peopled, CHAT, "lena"))
    assert [each.id for each in (await peopled.issuer.list_approvals(mine)).approvals] == [approval]


async def test_a_front_end_sees_what_its_tasks_wait_for_and_takes_it_back(peopled: World) -> None:
    theirs = await peopled.held(**await of_a_customer(peopled))
    other = await peopled.held(**await payout(peopled))
    found = await peopled.issuer.list_approvals(ListApprovalsCall(context=context(peopled, CHAT)))
    assert [(each.id, each.details) for each in found.approvals] == [(theirs, None)]
    page = await peopled.issuer.approval_page(ApprovalPageCall(context=context(peopled, CHAT)))
    assert await refusal_of(peopled.withdraw(other, CHAT)) is Reason.APPROVAL_UNKNOWN
    await peopled.withdraw(theirs, CHAT)
    call = ApprovalPageCall(context=context(peopled, CHAT), cursor=page.page.cursor)
    assert [each.id for each in (await peopled.issuer.approval_page(call)).approvals] == [theirs]


async def test_a_yes_can_be_taken_back_until_it_is_used(world: World) -> None:
    asked = await payout(world)
    approval = await world.held(**asked)
    await world.approve(approval)
    await world.deny(approval)
    assert (await world.refused(**asked, approval=approval)).reason is Reason.APPROVAL_DENIED
    other = await payout(world)
    used = await world.held(**other)
    await world.approve(used)
    await world.granted(**other, approval=used)
    assert await refusal_of(world.deny(used)) is Reason.APPROVAL_USED
    assert await refusal_of(world.approve(used)) is Reason.APPROVAL_USED
    assert [each["was"] for each in await events(world, "approval.denied")] == ["approved"]


# --- escalation ---------------------------------------------------------------------------------------------------


async def test_what_is_left_unanswered_goes_on_to_the_next_group_once(world: World) -> None:
    asked = await payout(world)
    approval = await world.held(**asked)
    assert await refusal_of(world.approve(approval, DUTY)) is Reason.APPROVER_REFUSED
    assert (await world.approvals(DUTY)).approvals == ()
    world.time.ahead += timedelta(minutes=11)

    async def escalated() -> list[dict[str, Any]]:
        return await events(world, "approval.escalated")

    (event,) = await eventually(escalated)
    assert (event["approval"], event["group"]) == (approval, "duty")
    (shown,) = (await world.approvals(DUTY)).approvals
    assert shown.requirements[0].escalated_to == ("duty",)
    assert [each.id for each in (await world.approvals(LEAD)).approvals] == [approval], "the first may still answer"
    await world.approve(approval, DUTY)
    await world.granted(**asked, approval=approval)
    assert len(await escalated()) == 1


async def test_a_longer_path_is_followed_step_by_step(world: World) -> None:
    path = '[[approver_group]]\nname = "duty"\nescalate_to = "security"\nescalate_after = "PT2M"\n'
    await change(world, bundle(GROUP | {"pending_for": "PT1H"}, files=added("entities.toml", path)))
    approval = await world.held(**await payout(world))

    async def groups() -> tuple[str, ...]:
        return (await world.approval(approval, LEAD)).requirements[0].escalated_to

    for minutes, expected in ((11, ("duty",)), (2, ("duty", "security"))):
        world.time.ahead += timedelta(minutes=minutes)

        async def there(expected: tuple[str, ...] = expected) -> bool:
            return await groups() == expected

        await eventually(there)


async def test_whoever_has_answered_is_not_escalated_over(world: World) -> None:
    approval = await world.held(**await payout(world))
    await world.approve(approval)
    world.time.ahead += timedelta(minutes=4)
    assert not await events(world, "approval.escalated")
    assert await state(world, approval) is ApprovalState.APPROVED


# --- bypass -------------------------------------------------------------------------------------------------------


async def bypassing(world: World, minutes: int = 30) -> dict[str, Any]:
    """An intent whose kind may pass without asking."""
    await change(world, bundle(HALF_AN_HOUR))
    asked = await payout(world)
    approval = await world.held(**asked)
    answered = await world.approve(approval, bypass=timedelta(minutes=minutes))
    assert answered.shown.bypass_until is not None
    await world.granted(**asked, approval=approval)
    return asked | {"bypass_of": approval}


async def test_a_bypass_lets_this_kind_pass_and_each_use_names_it(world: World) -> None:
    asked = await bypassing(world)
    approval = asked.pop("bypass_of")
    for account in ("A", "B"):
        await world.granted(**{**asked, "parameters": {"account": account}})
    await world.granted(**{**asked, "resource": "customer/c-78"})
    (given,) = await events(world, "approval.bypass")
    what = (given["approval"], given["action"], given["resource_type"])
    assert what == (
        approval,
        "customer.payout_change",
        "customer",
    )
    granted = await events(world, "credential.granted")
    assert [each.get("bypass", "") for each in granted] == ["", approval, approval, approval]
    elsewhere = await payout(world)
    assert (await world.refused(**elsewhere)).reason is Reason.STEP_UP_REQUIRED, "in its own task only"
    world.time.ahead += timedelta(minutes=31)
    assert (await world.refused(**asked)).reason is Reason.STEP_UP_REQUIRED


def customer_reads_held() -> dict[str, bytes]:
    """The example in which looking a customer up has to be approved as well."""
    lines = EXAMPLE["reads.cedar"].decode().splitlines()
    name = next(line for line in lines if line.startswith("@id") and "customer" in line)
    return replaced("reads.cedar", name, f"{name} @step_up({json.dumps(json.dumps(HALF_AN_HOUR))})")


async def test_a_bypass_is_for_one_kind(world: World) -> None:
    await change(world, bundle(HALF_AN_HOUR, files=customer_reads_held()))
    asked = await payout(world)
    approval = await world.held(**asked)
    await world.approve(approval, bypass=timedelta(minutes=30))
    await world.granted(**{**asked, "parameters": {"account": OTHER}})
    refusal = await world.refused(action="customer.read", resource="customer/c-77", task=asked["task"])
    assert refusal.reason is Reason.STEP_UP_REQUIRED


async def test_a_bypass_never_widens(world: World) -> None:
    asked = await bypassing(world)
    del asked["bypass_of"]
    scope = 'principal, action == Action::"customer.payout_change", resource'
    forbid = f'@id("no-de") forbid ({scope}) when {{ context.parameters.account like "DE*" }};'
    await change(world, bundle(HALF_AN_HOUR, files=added("more.cedar", forbid)))
    assert (await world.refused(**{**asked, "parameters": {"account": "DE1"}})).reason is Reason.POLICY_FORBIDDEN
    await world.granted(**{**asked, "parameters": {"account": "FR1"}})
    await change(world, bundle(HALF_AN_HOUR | {"quorum": 2}))
    assert (await world.refused(**{**asked, "parameters": {"account": "FR2"}})).reason is Reason.STEP_UP_REQUIRED
    await change(world, bundle(GROUP))
    assert (await world.refused(**{**asked, "parameters": {"account": "FR3"}})).reason is Reason.STEP_UP_REQUIRED


@pytest.mark.parametrize("end", ["denied", "withdrawn", "revoked", "stopped"])
async def test_a_bypass_ends_with_whoever_ends_it(world: World, end: str) -> None:
    asked = await bypassing(world)
    approval = asked.pop("bypass_of")
    other = {**asked, "parameters": {"account": OTHER}}
    match end:
        case "denied":
            assert (await world.deny(approval, DEPUTY)).shown.state is ApprovalState.USED
            assert [each["was"] for each in await events(world, "approval.denied")] == ["used"]
        case "withdrawn":
            await world.withdraw(approval)
        case "revoked":
            await world.lift((await world.revoke("agent", SUPPORT)).revocation)
        case _:
            await world.let_go_on((await world.stop("class", "high-impact")).override)
    assert (await world.refused(**other)).reason is Reason.STEP_UP_REQUIRED


@pytest.mark.parametrize(
    ("required", "minutes"), [(GROUP, 1), (HALF_AN_HOUR, 31)], ids=["none allowed", "longer than allowed"]
)
async def test_a_bypass_is_no_longer_than_policy_allows(world: World, required: dict[str, Any], minutes: int) -> None:
    await change(world, bundle(required))
    approval = await world.held(**await payout(world))
    assert await refusal_of(world.approve(approval, bypass=timedelta(minutes=minutes))) is Reason.BYPASS_REFUSED
    assert await state(world, approval) is ApprovalState.PENDING


async def test_a_bypass_takes_everybody_who_approves(world: World) -> None:
    await change(world, bundle(HALF_AN_HOUR | {"quorum": 2}))
    for second, until in ((None, None), (timedelta(minutes=5), timedelta(minutes=5))):
        asked = await payout(world)
        approval = await world.held(**asked)
        await world.approve(approval, LEAD, bypass=timedelta(minutes=30))
        answered = await world.approve(approval, DEPUTY, bypass=second)
        assert (answered.shown.bypass_until is None) is (until is None)
        if until is not None and answered.shown.bypass_until is not None:
            assert answered.shown.bypass_until <= world.time() + until


# --- reads need no task -------------------------------------------------------------------------------------------


async def test_what_is_held_without_a_task_is_approved_all_the_same(world: World) -> None:
    await change(world, bundle(files=customer_reads_held()))
    asked = {"action": "customer.read", "resource": "customer/c-77"}
    approval = await world.held(**asked)
    assert await refusal_of(world.approve(approval, bypass=timedelta(minutes=1))) is Reason.BYPASS_REFUSED
    await world.approve(approval)
    await world.granted(**asked, approval=approval)
