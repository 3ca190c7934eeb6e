"""TaskService: begin and end tasks."""

from dataclasses import dataclass

import grpc

from broker.issuer.port import BeginTaskCall, EndTaskCall
from broker.server import convert
from broker.server.reception import Call, Method, Reception, service
from broker.v1 import task_pb2

NAME = "broker.v1.TaskService"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskServicer:
    """Serves tasks."""

    reception: Reception

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the service."""
        begin = Method(path=f"/{NAME}/BeginTask", operation="begin_task")
        end = Method(path=f"/{NAME}/EndTask", operation="end_task")
        return service(
            NAME,
            {
                "BeginTask": self.reception.unary(begin, task_pb2.BeginTaskRequest, self._begin),
                "EndTask": self.reception.unary(end, task_pb2.EndTaskRequest, self._end),
            },
        )

    async def _begin(self, call: Call, request: task_pb2.BeginTaskRequest) -> task_pb2.BeginTaskResponse:
        asked = BeginTaskCall(
            context=call.context,
            purpose=request.purpose,
            tenant=request.tenant,
            lifetime=convert.duration(request.lifetime) if request.HasField("lifetime") else None,
            conversation=request.conversation,
        )
        begun = await self.reception.ask(call, self.reception.issuer.begin_task(asked))
        return task_pb2.BeginTaskResponse(task=convert.task(begun))

    async def _end(self, call: Call, request: task_pb2.EndTaskRequest) -> task_pb2.EndTaskResponse:
        asked = EndTaskCall(context=call.context, task=request.task_id)
        ended = await self.reception.ask(call, self.reception.issuer.end_task(asked))
        return task_pb2.EndTaskResponse(position=ended.position, revoked_credentials=ended.revoked)
