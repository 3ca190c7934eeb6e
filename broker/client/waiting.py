"""Waiting: what an agent does while people decide: wait, ask again with the approval, or take its request back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Final, TypeVar

from broker.client.approval import Approval
from broker.client.approval_decode import approval_of
from broker.client.approving import Approving
from broker.client.errors import BrokerError, RefusedError, StepUpRequired
from broker.v1 import approval_pb2, approval_pb2_grpc

Answer = TypeVar("Answer")

# Where the stream is refused, an approval is asked for this often.
POLL: Final = 2.0

_log = logging.getLogger(__name__)


class Waiting(Approving):
    """What a session does about its own held requests."""

    async def withdraw_approval(self, approval: str, *, reason: str = "") -> Approval:
        """Take back a request of this agent's, or of a task that this front end began; it also ends its bypass."""
        request = approval_pb2.WithdrawApprovalRequest(approval_id=approval, reason=reason)
        answer = await self._ask(
            lambda channel: approval_pb2_grpc.ApprovalServiceStub(channel).WithdrawApproval, request
        )
        return approval_of(answer.approval)

    async def decided(self, approval: str, *, wait: timedelta) -> Approval:
        """Wait until people have decided about an approval; return it as it is then, or as it is when the time is up.

        Args:
            approval: its id.
            wait: how long at most. No browser, no callback: it is heard of over a stream of this session.

        """
        shown = await self.approval(approval)
        try:
            async with asyncio.timeout(wait.total_seconds()):
                while shown.state == "pending":
                    shown = await self._after_a_change(approval)
        except TimeoutError:
            pass
        return shown

    async def _after_a_change(self, approval: str) -> Approval:
        """Return an approval once it was decided; where it cannot be followed, after a while."""
        try:
            async with aclosing(self._watch_approvals()) as messages:
                async for message in messages:
                    # A heartbeat will do as well: what came before the stream began is seen by asking.
                    if not message.approvals or any(each.approval_id == approval for each in message.approvals):
                        shown = await self.approval(approval)
                        if shown.state != "pending":
                            return shown
        except RefusedError as refusal:  # who may not follow can still ask
            _log.info("approvals are polled: %s", refusal)
        await asyncio.sleep(POLL)
        return await self.approval(approval)

    async def _until_approved(self, ask: Callable[[str], Awaitable[Answer]], wait: timedelta | None) -> Answer:
        """Ask; when people have to approve it first, wait for them and ask again with what they approved.

        Raises:
            StepUpRequired: nobody has decided within the time, or there is none.
            BrokerError: whatever else refuses it; a denial says so.

        """
        until = asyncio.get_running_loop().time() + (wait.total_seconds() if wait else 0.0)
        approval = ""
        while True:
            try:
                return await ask(approval)
            except StepUpRequired as held:
                left = until - asyncio.get_running_loop().time()
                if not held.approval_id or left <= 0:
                    raise
                approval = held.approval_id
                decided = await self._decided_within(approval, left)
                if decided is None or decided.state == "pending":
                    raise

    async def _decided_within(self, approval: str, seconds: float) -> Approval | None:
        try:
            return await self.decided(approval, wait=timedelta(seconds=seconds))
        except BrokerError as problem:  # the exchange's own answer says more
            _log.info("waiting for %s failed: %s", approval, problem)
            return None
