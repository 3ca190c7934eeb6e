"""Ways around a held request that were open once: what was refused by a person, shown to one, or said twice by one."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from broker.approval import ApprovalState
from broker.errors import Reason
from broker.intent import digest
from broker.operations.calls import BeginTaskCall
from broker.operations.holding import MOST_PENDING
from tests.operations.approving import GROUP, bundle, payout, say_yes, signed_in
from tests.operations.limiting import change, write
from tests.operations.test_approval import OTHER, approved, events, refusal_of
from tests.operations.test_approval_people import FRESH, HALF_AN_HOUR, TWO, USER, of_a_customer
from tests.operations.world import CHAT, DEPUTY, LEAD, SHARED, SUPPORT, World, open_world
from tests.unit.policy.bundles import added, replaced


@pytest.mark.parametrize("first", ["the no", "the bypass"])
async def test_a_no_holds_against_a_bypass(world: World, first: str) -> None:
    """A bypass of the kind does not let the very intent pass to which somebody said no in this task."""
    await change(world, bundle(HALF_AN_HOUR))
    asked = await payout(world)
    other = {**asked, "parameters": {"account": OTHER}}
    denied, given = await world.held(**asked), await world.held(**other)
    if first == "the no":
        await world.deny(denied, DEPUTY)
    await world.approve(given, bypass=timedelta(minutes=30))
    if first == "the bypass":
        await world.deny(denied, DEPUTY)
    await world.granted(**{**asked, "parameters": {"account": "FR1"}})
    assert (await world.refused(**asked)).reason is Reason.APPROVAL_DENIED


async def test_a_bypass_is_as_long_as_policy_says_now(world: World) -> None:
    await change(world, bundle(HALF_AN_HOUR))
    asked = await payout(world)
    await world.approve(await world.held(**asked), bypass=timedelta(minutes=30))
    await world.granted(**{**asked, "parameters": {"account": "A"}})
    world.time.ahead += timedelta(minutes=2)
    await change(world, bundle(GROUP | {"bypass": "PT5M"}))
    await world.granted(**{**asked, "parameters": {"account": "B"}})
    await change(world, bundle(GROUP | {"bypass": "PT1M"}))
    assert (await world.refused(**{**asked, "parameters": {"account": "C"}})).reason is Reason.STEP_UP_REQUIRED


async def test_what_was_approved_lives_no_longer_than_the_approver_was_shown(world: World) -> None:
    asked, approval = await approved(world)
    longer = replaced("writes.cedar", '@max_lifetime("PT1M")\n@step_up', '@max_lifetime("PT30M")\n@step_up')
    await change(world, bundle(files=longer))
    credential = await world.granted(**asked, approval=approval)
    assert credential.grant.expires_at - credential.grant.issued_at <= timedelta(minutes=1)


def _reading(tenant: str) -> dict[str, bytes]:
    """The shared agent works for one tenant, and reads customers, which is held, outside of tasks."""
    note = f"@step_up({json.dumps(json.dumps(GROUP))})"
    read = f'@id("shared-reads") @max_lifetime("PT5M") {note} permit (principal == Agent::"{SHARED}", '
    read += 'action == Action::"customer.read", resource is Customer);'
    files = added("more.cedar", read)
    both = f'spiffe_id = "{SHARED}"\ntenants = ["retail", "wholesale"]'
    files = replaced("entities.toml", both, f'spiffe_id = "{SHARED}"\ntenants = ["{tenant}"]', files)
    types = 'purposes = ["customer-support"]\ntenants = ["retail", "wholesale"]'
    return bundle(files=replaced("entities.toml", types, types.replace('"retail", "wholesale"', f'"{tenant}"'), files))


async def test_what_one_tenant_approved_is_not_given_for_another(world: World) -> None:
    """Without a task nothing but the bundle says for which tenant an agent works."""
    await change(world, _reading("retail"))
    asked = {"action": "customer.read", "resource": "customer/c-77"}
    approval = await world.held(SHARED, **asked)
    await world.approve(approval)
    await change(world, _reading("wholesale"))
    assert (await world.refused(SHARED, **asked, approval=approval)).reason is Reason.STEP_UP_REQUIRED
    assert await world.held(SHARED, **asked) != approval
    await change(world, _reading("retail"))
    await world.granted(SHARED, **asked, approval=approval)


async def test_a_second_yes_that_counts_for_more_is_taken(tmp_path: Path) -> None:
    """Who confirmed with an old sign-in, and signs in anew, meets what the first yes left open."""
    write(tmp_path, bundle(USER, FRESH, people=True))
    async with open_world(tmp_path) as world:
        signed_in(world, minutes_ago=30)
        asked = await of_a_customer(world)
        approval = await world.held(**asked)
        assert (await say_yes(world, approval, "customer")).shown.state is ApprovalState.PENDING
        assert (await say_yes(world, approval, "customer")).position is None, "which adds nothing"
        signed_in(world)
        assert (await say_yes(world, approval, "customer")).shown.state is ApprovalState.APPROVED
        await world.granted(**asked, approval=approval)
        assert [each["approvals"] for each in await events(world, "approval.approved")] == [1, 1]


async def test_one_connection_is_not_two_people(tmp_path: Path) -> None:
    """An operator that no person claims is not one more person beside those that sign in over its connection."""
    unclaimed = replaced("entities.toml", f'spiffe_ids = ["{LEAD}"]\n', "", bundle(TWO, people=True))
    write(tmp_path, unclaimed)
    async with open_world(tmp_path) as world:
        signed_in(world)
        for order in ((("lena", LEAD), ("", LEAD)), (("", LEAD), ("lena", LEAD))):
            asked = await payout(world)
            approval = await world.held(**asked)
            for subject, who in order:
                assert (await say_yes(world, approval, subject, who=who)).shown.state is ApprovalState.PENDING
            assert (await say_yes(world, approval, "omar", who=LEAD)).shown.state is ApprovalState.APPROVED
            await world.granted(**asked, approval=approval)


async def test_a_refusal_names_no_approval_but_the_agents_own(world: World) -> None:
    asked, approval = await approved(world)
    theirs = (await world.begin(SHARED, tenant="retail")).id
    for name in (approval, "Jane Doe, account DE02"):
        refusal = await world.refused(SHARED, **{**asked, "task": theirs}, approval=name)
        assert refusal.reason is Reason.APPROVAL_UNKNOWN
    await world.refused(**{**asked, "parameters": {"account": OTHER}}, approval=approval)
    refused = await events(world, "exchange.refused")
    assert [each.get("approval", "") for each in refused] == ["", "", approval]


async def test_whoever_has_all_its_requests_pending_can_still_ask_anew(world: World) -> None:
    """One that takes the place of another is none more."""
    asked = await payout(world)
    for number in range(MOST_PENDING):
        await world.held(**{**asked, "parameters": {"account": f"A{number}"}})
    assert (await world.refused(**asked)).reason is Reason.LIMIT_APPROVALS
    await change(world, bundle(TWO))
    await world.held(**{**asked, "parameters": {"account": "A0"}})
    assert (await world.refused(**asked)).reason is Reason.LIMIT_APPROVALS


@pytest.mark.parametrize(
    "name", ["customer", "customer-42", "omar"], ids=["by a subject", "by name", "as the agent says"]
)
async def test_whoever_it_is_asked_for_is_no_approver_by_whichever_name(tmp_path: Path, name: str) -> None:
    write(tmp_path, bundle(GROUP, people=True))
    async with open_world(tmp_path) as world:
        signed_in(world)
        subject = "omar" if name == "omar" else "customer"
        task = (await world.begin()).id
        if name != "omar":
            call = BeginTaskCall(
                context=world.context(CHAT),
                purpose="customer-support",
                agent=SUPPORT,
                person=name,
                asked=digest(b"change my account"),
            )
            task = (await world.issuer.begin_task(call)).id
        approval = await world.held(**await payout(world, task=task, on_behalf_of="omar"))
        assert await refusal_of(say_yes(world, approval, subject)) is Reason.APPROVER_REFUSED
        assert (await say_yes(world, approval, "olga")).shown.state is ApprovalState.APPROVED
