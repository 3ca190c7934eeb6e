"""Step-up over the issuer: a held request, people's answers, and the one credential that comes of them."""

from typing import Any

from broker.approval import ApprovalState
from broker.errors import Reason
from tests.operations.world import World

ACCOUNT = {"account": "DE02120300000000202051"}


async def payout(world: World, **changes: Any) -> dict[str, Any]:
    """An intent that the example bundle holds for the refund approvers."""
    task = changes.pop("task", None) or (await world.begin()).id
    return {
        "action": "customer.payout_change",
        "resource": "customer/c-77",
        "parameters": ACCOUNT,
        "task": task,
    } | changes


async def test_what_is_approved_is_given_once(world: World) -> None:
    asked = await payout(world)
    refusal = await world.refused(**asked)
    assert refusal.reason is Reason.STEP_UP_REQUIRED
    assert refusal.held is not None
    assert refusal.held.waits_for == ("group:refund-approvers",)
    approval = refusal.held.approval
    assert (await world.refused(**asked, approval=approval)).reason is Reason.APPROVAL_PENDING
    answered = await world.approve(approval)
    assert answered.shown.state is ApprovalState.APPROVED
    credential = await world.granted(**asked, approval=approval)
    assert credential.grant.scope.actions == {"customer.payout_change"}
    assert (await world.refused(**asked, approval=approval)).reason is Reason.APPROVAL_USED
    assert (await world.approval(approval)).state is ApprovalState.USED
