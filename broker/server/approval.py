"""ApprovalService: see what waits for people, held requests and drifted tasks, answer it, take it back, follow it."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc

from broker.errors import Refusal
from broker.issuer.port import (
    ApprovalCall,
    ApprovalPage,
    ApprovalPageCall,
    ApproveCall,
    ListApprovalsCall,
    ListDriftedCall,
)
from broker.server import convert
from broker.server.convert_approvals import approval, approval_page, drifted_task, state_of
from broker.server.follow import Follow, Reader
from broker.server.hub import News
from broker.server.reception import Call, Method, Reception, service
from broker.v1 import approval_pb2

NAME = "broker.v1.ApprovalService"


def _method(name: str, operation: str) -> Method:
    return Method(path=f"/{NAME}/{name}", operation=operation, takes_identity=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalServicer:
    """Serves approvals. Each of its methods takes an identity token: whoever decides may be known by that alone."""

    reception: Reception
    follow: Follow

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        unary, stream, v1 = self.reception.unary, self.reception.server_stream, approval_pb2
        return service(
            NAME,
            {
                "ListApprovals": unary(_method("ListApprovals", "list_approvals"), v1.ListApprovalsRequest, self._list),
                "GetApproval": unary(_method("GetApproval", "get_approval"), v1.GetApprovalRequest, self._get),
                "Approve": unary(_method("Approve", "approve"), v1.ApproveRequest, self._approve),
                "Deny": unary(_method("Deny", "deny"), v1.DenyRequest, self._deny),
                "WithdrawApproval": unary(
                    _method("WithdrawApproval", "withdraw_approval"), v1.WithdrawApprovalRequest, self._withdraw
                ),
                "ListDriftedTasks": unary(
                    _method("ListDriftedTasks", "list_drifted_tasks"), v1.ListDriftedTasksRequest, self._list_drifted
                ),
                "WatchApprovals": stream(
                    _method("WatchApprovals", "watch_approvals"), v1.WatchApprovalsRequest, self._watch
                ),
            },
        )

    async def _list(self, call: Call, request: approval_pb2.ListApprovalsRequest) -> approval_pb2.ListApprovalsResponse:
        asked = ListApprovalsCall(
            context=call.context,
            states=tuple(map(state_of, request.states)),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        found = await self.reception.ask(call, self.reception.issuer.list_approvals(asked))
        return approval_pb2.ListApprovalsResponse(
            approvals=[approval(each) for each in found.approvals], next_page_token=found.next_page_token
        )

    async def _get(self, call: Call, request: approval_pb2.GetApprovalRequest) -> approval_pb2.GetApprovalResponse:
        asked = ApprovalCall(context=call.context, approval=request.approval_id)
        shown = await self.reception.ask(call, self.reception.issuer.get_approval(asked))
        return approval_pb2.GetApprovalResponse(approval=approval(shown))

    async def _approve(self, call: Call, request: approval_pb2.ApproveRequest) -> approval_pb2.ApproveResponse:
        try:
            bypass = convert.duration(request.bypass) if request.HasField("bypass") else None
        except Refusal as refusal:
            raise await self.reception.recorded(call, refusal) from refusal
        asked = ApproveCall(context=call.context, approval=request.approval_id, digest=request.digest, bypass=bypass)
        done = await self.reception.ask(call, self.reception.issuer.approve(asked))
        return approval_pb2.ApproveResponse(approval=approval(done.shown), position=done.position)

    async def _deny(self, call: Call, request: approval_pb2.DenyRequest) -> approval_pb2.DenyResponse:
        asked = ApprovalCall(context=call.context, approval=request.approval_id, text=request.reason)
        done = await self.reception.ask(call, self.reception.issuer.deny(asked))
        return approval_pb2.DenyResponse(approval=approval(done.shown), position=done.position or 0)

    async def _withdraw(
        self, call: Call, request: approval_pb2.WithdrawApprovalRequest
    ) -> approval_pb2.WithdrawApprovalResponse:
        asked = ApprovalCall(context=call.context, approval=request.approval_id, text=request.reason)
        done = await self.reception.ask(call, self.reception.issuer.withdraw_approval(asked))
        return approval_pb2.WithdrawApprovalResponse(approval=approval(done.shown), position=done.position or 0)

    async def _list_drifted(
        self, call: Call, request: approval_pb2.ListDriftedTasksRequest
    ) -> approval_pb2.ListDriftedTasksResponse:
        asked = ListDriftedCall(context=call.context, page_size=request.page_size, page_token=request.page_token)
        found = await self.reception.ask(call, self.reception.issuer.list_drifted(asked))
        return approval_pb2.ListDriftedTasksResponse(
            drifted_tasks=[drifted_task(each) for each in found.drifted], next_page_token=found.next_page_token
        )

    async def _watch(self, call: Call, request: approval_pb2.WatchApprovalsRequest) -> None:
        reader = Reader(
            cursor=request.cursor,
            page=self._pages(call),
            encode=lambda found, _: approval_page(found),
            has_news=lambda found: bool(found.approvals or found.drifted),
            forever=True,
            wakes_for=News.APPROVALS,
        )
        await self.follow(call, reader)

    def _pages(self, call: Call) -> Callable[[str, bool], Coroutine[Any, Any, ApprovalPage]]:
        async def page(cursor: str, _: bool) -> ApprovalPage:  # noqa: FBT001 - as Reader has it
            asked = ApprovalPageCall(context=call.context, cursor=cursor)
            return await self.reception.issuer.approval_page(asked)

        return page
