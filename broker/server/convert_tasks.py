"""Tasks: protobuf ⇄ nouns."""

from google.protobuf.duration_pb2 import Duration

from broker.boundary import Boundary, Extent, limits_from_json, limits_to_json
from broker.intent import canonical_json, parse_parameters, require_name
from broker.issuer.port import BeginTaskCall, Context, Task
from broker.server.convert import duration, timestamp
from broker.v1 import task_pb2, types_pb2


def begin_task_call(request: task_pb2.BeginTaskRequest, context: Context) -> BeginTaskCall:
    """Return the call of a task to begin.

    Raises:
        Refusal: REQUEST_INVALID, INTENT_*.

    """
    return BeginTaskCall(
        context=context,
        purpose=request.purpose,
        tenant=request.tenant,
        lifetime=duration(request.lifetime) if request.HasField("lifetime") else None,
        conversation=request.conversation,
        type=request.type,
        boundary=boundary(request.boundary),
        heartbeat=duration(request.heartbeat) if request.HasField("heartbeat") else None,
        agent=request.agent,
        person=request.person,
        asked=request.asked_digest,
    )


def boundary(message: types_pb2.TaskBoundary) -> Boundary:
    """Return a boundary; an empty member does not restrict.

    Raises:
        Refusal: REQUEST_INVALID, INTENT_*: a name is none, a limit has no meaning, or it is too large as a whole.

    """
    asked = Boundary(
        actions=frozenset(require_name(name, "boundary.actions") for name in message.actions) or None,
        resources=frozenset(Extent(type=each.type, id=each.id, set=each.set) for each in message.resources) or None,
        services=frozenset(message.services) or None,
        limits=limits_from_json(parse_parameters(message.limits)),
    )
    parse_parameters(canonical_json(asked.to_json()).decode())  # what is stored must be readable
    return asked


def task(begun: Task) -> types_pb2.Task:
    """Return a task."""
    message = types_pb2.Task(
        task_id=begun.id,
        purpose=begun.purpose,
        tenant=begun.tenant,
        begun_at=timestamp(begun.begun_at),
        deadline=timestamp(begun.deadline),
        conversation=begun.conversation,
        type=begun.type,
        boundary=_boundary(begun.boundary),
        agent=begun.agent,
    )
    if begun.heartbeat is not None:
        every = Duration()
        every.FromTimedelta(begun.heartbeat)
        message.heartbeat.CopyFrom(every)
    if begun.suspended_at is not None:
        message.suspended_at.CopyFrom(timestamp(begun.suspended_at))
    return message


def _boundary(held: Boundary) -> types_pb2.TaskBoundary:
    extents = sorted(held.resources or (), key=lambda each: (each.type, each.id, each.set))
    return types_pb2.TaskBoundary(
        actions=sorted(held.actions or ()),
        resources=map(_extent_message, extents),
        services=sorted(held.services or ()),
        limits=canonical_json(limits_to_json(held.limits)).decode() if held.limits else "",
    )


def _extent_message(each: Extent) -> types_pb2.Extent:
    message = types_pb2.Extent(type=each.type)
    if each.id:
        message.id = each.id
    if each.set:
        message.set = each.set
    return message
