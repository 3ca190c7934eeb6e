"""What a person approves still counts: limits, duties and sequences win over an approval that came before them."""

import asyncio
from pathlib import Path
from typing import Any

from broker.approval import ApprovalState
from broker.credential.token import Credential
from broker.errors import Reason
from tests.operations.approving import payout
from tests.operations.limiting import SEQUENCE, bundle, refund, write
from tests.operations.test_limits import CUSTOMER, READ
from tests.operations.world import World, open_world
from tests.unit.policy.bundles import added
from tests.unit.policy.test_limit import limited

PAYOUT = '@id("support-may-ask-for-a-payout-change")'
HELD = SEQUENCE.format(within="conversation").replace('"refuse"', '"step_up"')
HELD += 'step_up = { kind = "group", group = "refund-approvers" }\n'
DUTIES = """
[[separate_duties]]
name = "payout-or-cancel"
actions = ["customer.payout_change", "order.cancel"]
"""


async def held(world: World, **asked: Any) -> str:
    """Ask for what is held, and have it approved."""
    refusal = await world.refused(**asked)
    assert refusal.reason is Reason.STEP_UP_REQUIRED
    assert refusal.held is not None
    await world.approve(refusal.held.approval)
    return refusal.held.approval


async def test_a_sequence_is_completed_when_a_person_says_so_each_time(tmp_path: Path) -> None:
    write(tmp_path, bundle({"per": "task", "max": 2}, entries=HELD))
    async with open_world(tmp_path) as world:
        task = (await world.begin(conversation="c")).id
        for steps in (READ, CUSTOMER):
            await world.granted(**steps, task=task)
        for amount in (10, 20):
            approval = await held(world, **refund(task, amount))
            await world.granted(**refund(task, amount), approval=approval)
            assert (await world.refused(**refund(task, amount), approval=approval)).reason is Reason.APPROVAL_USED
        approval = await held(world, **refund(task, 30))
        assert (await world.refused(**refund(task, 30), approval=approval)).reason is Reason.LIMIT_REACHED


async def test_a_limit_wins_over_an_approval_and_leaves_it_unused(tmp_path: Path) -> None:
    write(tmp_path, limited({"per": "task", "max": 1}, policy=PAYOUT))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        first, second = await payout(world, task=task), await payout(world, task=task, resource="customer/c-78")
        one, other = await held(world, **first), await held(world, **second)
        await world.granted(**first, approval=one)
        refused = await world.refused(**second, approval=other)
        assert (refused.reason, refused.detail) == (
            Reason.LIMIT_REACHED,
            "policy support-may-ask-for-a-payout-change, per task",
        )
        assert (await world.approval(other)).state is ApprovalState.APPROVED


async def test_duties_win_over_an_approval(tmp_path: Path) -> None:
    write(tmp_path, bundle(entries=DUTIES))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        asked = await payout(world, task=task)
        approval = await held(world, **asked)
        await world.granted(action="order.cancel", task=task)
        assert (await world.refused(**asked, approval=approval)).reason is Reason.DUTY_SEPARATED
        other = await payout(world)
        await world.granted(**other, approval=await held(world, **other))
        assert (await world.refused(action="order.cancel", task=other["task"])).reason is Reason.DUTY_SEPARATED


async def test_an_approval_that_is_used_a_hundred_times_at_once_is_charged_once(tmp_path: Path) -> None:
    write(tmp_path, added("entities.toml", DUTIES, limited({"per": "task", "max": 2}, policy=PAYOUT)))
    async with open_world(tmp_path) as world:
        task = (await world.begin()).id
        asked = await payout(world, task=task)
        approval = await held(world, **asked)
        calls = [world.call(**asked, approval=approval) for _ in range(100)]
        answers = [each for some in await asyncio.gather(*(world.issuer.exchange([c]) for c in calls)) for each in some]
        assert sum(isinstance(answer, Credential) for answer in answers) == 1
        again = await payout(world, task=task)
        await world.granted(**again, approval=await held(world, **again))
        third = await payout(world, task=task)
        assert (await world.refused(**third, approval=await held(world, **third))).reason is Reason.LIMIT_REACHED
