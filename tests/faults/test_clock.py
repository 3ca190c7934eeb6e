"""The issuer's clock jumps two hours ahead and back: nothing lives longer than policy says, nothing expired counts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from tests.operations.limiting import change, midnight, move, refund
from tests.operations.world import DUTY, LEAD, ORDERS, SECURITY, SUPPORT, World, open_world
from tests.unit.policy.test_limit import limited

JUMP = timedelta(hours=2)
REFUNDS_LIVE = timedelta(minutes=2)
READS_LIVE = timedelta(minutes=5)


def jump(world: World, by: timedelta) -> None:
    """Move the clock, and give everybody an SVID that is good then."""
    move(world, world.time() + by)
    for who in (ORDERS, SECURITY, DUTY, LEAD):
        world.renew(who)


def lives_as_policy_says(world: World, credential: Credential, longest: timedelta) -> None:
    grant = credential.grant
    now = world.time()
    assert grant.expires_at - grant.issued_at <= longest
    assert now - timedelta(minutes=1) <= grant.issued_at <= now
    assert grant.expires_at <= now + longest


@pytest.mark.parametrize("by", [JUMP, -JUMP], ids=["ahead", "back"])
async def test_no_credential_outlives_policy_and_none_is_spent_when_it_is_over(tmp_path: Path, by: timedelta) -> None:
    async with open_world(tmp_path) as world:
        task = (await world.begin(lifetime=timedelta(hours=8))).id
        before = await world.once(task)
        lives_as_policy_says(world, before, REFUNDS_LIVE)
        jump(world, by)
        lives_as_policy_says(world, await world.granted(), READS_LIVE)
        if by > timedelta(0):
            with pytest.raises(Refusal) as refused:
                await world.redeem(before)
            # Two hours on it may have been forgotten already.
            assert refused.value.reason in (Reason.TOKEN_EXPIRED, Reason.CREDENTIAL_UNKNOWN)
        else:
            await world.redeem(before)  # it is not over yet, by this clock
        # And back again: what was spent stays spent, what was over then is not given anew.
        jump(world, -by)
        lives_as_policy_says(world, await world.granted(), READS_LIVE)
        positions = [event.position for event in await world.events()]
        assert positions == list(range(len(positions)))


async def test_a_task_and_an_approval_are_over_when_the_clock_says_so_and_stay_so(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        task = (await world.begin(lifetime=timedelta(hours=1))).id
        asked: dict[str, Any] = {
            "action": "customer.payout_change",
            "resource": "customer/c-77",
            "parameters": {"account": "DE02120300000000202051"},
            "task": task,
        }
        approval = await world.held(**asked)
        await world.approve(approval)
        assert isinstance(await world.exchange(**refund(task)), Credential)
        jump(world, JUMP)
        assert (await world.refused(**refund(task))).reason in (Reason.TASK_ENDED, Reason.TASK_DEADLINE_PASSED)
        assert isinstance(await world.exchange(**asked, approval=approval), Refusal)


async def test_a_revocation_holds_whatever_the_clock_does(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.granted()
        await world.revoke("agent", SUPPORT)
        for by in (JUMP, -2 * JUMP, JUMP):
            jump(world, by)
            assert (await world.refused()).reason is Reason.AGENT_REVOKED


async def test_a_days_limit_is_of_the_day_that_the_clock_shows(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await change(world, limited({"per": "day", "max": 2}))
        world.time.still = datetime.now(UTC)
        move(world, midnight(world) - timedelta(hours=1))
        task = (await world.begin(lifetime=timedelta(hours=8))).id
        assert isinstance(await world.exchange(**refund(task)), Credential)
        assert isinstance(await world.exchange(**refund(task)), Credential)
        assert (await world.refused(**refund(task))).reason is Reason.LIMIT_REACHED
        move(world, world.time() + JUMP)  # the next day
        assert isinstance(await world.exchange(**refund(task)), Credential)
        move(world, world.time() - JUMP)  # yesterday again: its two are used
        assert (await world.refused(**refund(task))).reason is Reason.LIMIT_REACHED
