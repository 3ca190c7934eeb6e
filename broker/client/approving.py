"""Approving: what people who approve see and say, through a session of their own or of the tool that they use."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from datetime import timedelta

from broker.client.approval import Approval
from broker.client.approval_decode import STATES, approval_of
from broker.client.decode import duration_of
from broker.client.drifted import DriftedTask, drifted_task_of
from broker.client.identity_token import authorization
from broker.client.verbs import Verbs
from broker.v1 import approval_pb2, approval_pb2_grpc


class Approving(Verbs):
    """What a session does about approvals.

    Every method takes the identity token of the person who decides: an ID token of an issuer that the broker knows.
    With None it is whoever the session's SVID is of: an operator; or a front end, which then sees that its tasks wait,
    of all its customers, and decides nothing. So a front end names its customer each time; an empty token is refused.
    """

    _watch_approvals: Callable[..., AsyncGenerator[approval_pb2.WatchApprovalsResponse, None]]

    async def approvals(self, *, states: Iterable[str] = (), identity_token: str | None = None) -> list[Approval]:
        """Return the approvals that concern whoever asks, the oldest first, all pages.

        Args:
            states: in one of these; none: pending.
            identity_token: of the person who decides.

        """
        found: list[Approval] = []
        page = ""
        while True:
            request = approval_pb2.ListApprovalsRequest(states=[STATES[each] for each in states], page_token=page)
            answer = await self._ask(
                lambda channel: approval_pb2_grpc.ApprovalServiceStub(channel).ListApprovals, request, identity_token
            )
            found += map(approval_of, answer.approvals)
            page = answer.next_page_token
            if not page:
                return found

    async def drifted_tasks(self, *, identity_token: str | None = None) -> list[DriftedTask]:
        """Return the drifted tasks that wait for whoever asks to look at them, the oldest first, all pages.

        Args:
            identity_token: of the person who decides.

        """
        found: list[DriftedTask] = []
        page = ""
        while True:
            request = approval_pb2.ListDriftedTasksRequest(page_token=page)
            answer = await self._ask(
                lambda channel: approval_pb2_grpc.ApprovalServiceStub(channel).ListDriftedTasks, request, identity_token
            )
            found += map(drifted_task_of, answer.drifted_tasks)
            page = answer.next_page_token
            if not page:
                return found

    async def approval(self, approval: str, *, identity_token: str | None = None) -> Approval:
        """Return one approval as it is now.

        Raises:
            BrokerError: what is shown is not what its digest is of.

        """
        request = approval_pb2.GetApprovalRequest(approval_id=approval)
        answer = await self._ask(
            lambda channel: approval_pb2_grpc.ApprovalServiceStub(channel).GetApproval, request, identity_token
        )
        return approval_of(answer.approval)

    async def approve(
        self, approval: str, *, digest: str, bypass: timedelta | None = None, identity_token: str | None = None
    ) -> Approval:
        """Say yes to what a digest names; durable when this returns.

        Args:
            approval: its id.
            digest: of what was looked at: `Approval.details.digest`.
            bypass: let the agent do this kind for so long without asking again.
            identity_token: of the person who decides.

        """
        request = approval_pb2.ApproveRequest(approval_id=approval, digest=digest, bypass=duration_of(bypass))
        answer = await self._ask(
            lambda channel: approval_pb2_grpc.ApprovalServiceStub(channel).Approve, request, identity_token
        )
        return approval_of(answer.approval)

    async def deny(self, approval: str, *, reason: str, identity_token: str | None = None) -> Approval:
        """Say no; one no decides. It also takes back a yes that was not used, and ends its bypass."""
        request = approval_pb2.DenyRequest(approval_id=approval, reason=reason)
        answer = await self._ask(
            lambda channel: approval_pb2_grpc.ApprovalServiceStub(channel).Deny, request, identity_token
        )
        return approval_of(answer.approval)

    async def follow_approvals(self, *, identity_token: str | None = None) -> AsyncIterator[Approval | DriftedTask]:
        """Yield what waits for people, then each as it changes, approvals without details; over every interruption."""
        listed = False
        async with aclosing(self._watch_approvals(metadata=authorization(identity_token))) as messages:
            async for message in messages:
                if not listed:  # from the first message on nothing is missed; what waits already is listed
                    listed = True
                    for each in await self.approvals(identity_token=identity_token):
                        yield each
                    for waiting in await self.drifted_tasks(identity_token=identity_token):
                        yield waiting
                for changed in message.approvals:
                    yield approval_of(changed)
                for drifted in message.drifted_tasks:
                    yield drifted_task_of(drifted)
