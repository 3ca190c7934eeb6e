"""TaskService: begin, follow and end tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from broker.errors import Refusal
from broker.issuer.port import EndTaskCall, HeartbeatCall, NarrowTaskCall, ResumeTaskCall
from broker.server import convert_tasks
from broker.server.reception import Call, Method, Reception, service
from broker.v1 import task_pb2

NAME = "broker.v1.TaskService"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskServicer:
    """Serves tasks."""

    reception: Reception

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        begin = Method(path=f"/{NAME}/BeginTask", operation="begin_task")
        end = Method(path=f"/{NAME}/EndTask", operation="end_task")
        cancel = Method(path=f"/{NAME}/CancelTask", operation="cancel_task")
        heartbeat = Method(path=f"/{NAME}/HeartbeatTask", operation="heartbeat_task")
        narrow = Method(path=f"/{NAME}/NarrowTask", operation="narrow_task")
        resume = Method(path=f"/{NAME}/ResumeTask", operation="resume_task", takes_identity=True)
        return service(
            NAME,
            {
                "BeginTask": self.reception.unary(begin, task_pb2.BeginTaskRequest, self._begin),
                "EndTask": self.reception.unary(end, task_pb2.EndTaskRequest, self._end),
                "CancelTask": self.reception.unary(cancel, task_pb2.CancelTaskRequest, self._cancel),
                "HeartbeatTask": self.reception.unary(heartbeat, task_pb2.HeartbeatTaskRequest, self._heartbeat),
                "NarrowTask": self.reception.unary(narrow, task_pb2.NarrowTaskRequest, self._narrow),
                "ResumeTask": self.reception.unary(resume, task_pb2.ResumeTaskRequest, self._resume),
            },
        )

    async def _begin(self, call: Call, request: task_pb2.BeginTaskRequest) -> task_pb2.BeginTaskResponse:
        asked = await self._understood(call, lambda: convert_tasks.begin_task_call(request, call.context))
        begun = await self.reception.ask(call, self.reception.issuer.begin_task(asked))
        return task_pb2.BeginTaskResponse(task=convert_tasks.task(begun))

    async def _end(self, call: Call, request: task_pb2.EndTaskRequest) -> task_pb2.EndTaskResponse:
        asked = EndTaskCall(context=call.context, task=request.task_id)
        ended = await self.reception.ask(call, self.reception.issuer.end_task(asked))
        return task_pb2.EndTaskResponse(position=ended.position, revoked_credentials=ended.revoked)

    async def _cancel(self, call: Call, request: task_pb2.CancelTaskRequest) -> task_pb2.CancelTaskResponse:
        asked = EndTaskCall(context=call.context, task=request.task_id, cancelled=True, text=request.reason)
        ended = await self.reception.ask(call, self.reception.issuer.end_task(asked))
        return task_pb2.CancelTaskResponse(position=ended.position, revoked_credentials=ended.revoked)

    async def _heartbeat(self, call: Call, request: task_pb2.HeartbeatTaskRequest) -> task_pb2.HeartbeatTaskResponse:
        asked = HeartbeatCall(context=call.context, task=request.task_id)
        going = await self.reception.ask(call, self.reception.issuer.heartbeat_task(asked))
        return task_pb2.HeartbeatTaskResponse(task=convert_tasks.task(going.task), revoked_credentials=going.revoked)

    async def _narrow(self, call: Call, request: task_pb2.NarrowTaskRequest) -> task_pb2.NarrowTaskResponse:
        wanted = await self._understood(call, lambda: convert_tasks.boundary(request.boundary))
        asked = NarrowTaskCall(context=call.context, task=request.task_id, boundary=wanted, text=request.reason)
        going = await self.reception.ask(call, self.reception.issuer.narrow_task(asked))
        return task_pb2.NarrowTaskResponse(task=convert_tasks.task(going.task), revoked_credentials=going.revoked)

    async def _resume(self, call: Call, request: task_pb2.ResumeTaskRequest) -> task_pb2.ResumeTaskResponse:
        asked = ResumeTaskCall(context=call.context, task=request.task_id, text=request.reason)
        resumed = await self.reception.ask(call, self.reception.issuer.resume_task(asked))
        return task_pb2.ResumeTaskResponse(position=resumed.position)

    async def _understood(self, call: Call, read: Callable[[], T]) -> T:
        """Return what a request means, or record that it means nothing."""
        try:
            return read()
        except Refusal as refusal:
            raise await self.reception.recorded(call, refusal) from refusal
