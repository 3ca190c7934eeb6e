"""Tasks: the piece of work that an agent's credentials belong to and die with."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final, TypeAlias

from broker.boundary import Boundary, Extent, limits_from_json
from broker.client.cache import ReadCache
from broker.client.credential import Continued, Ending, Task
from broker.client.decode import boundary_message, duration_of, plain_parameters, task_of
from broker.client.errors import refused
from broker.client.waiting import Waiting
from broker.client.work import running
from broker.errors import Refusal
from broker.intent import Json, Resource
from broker.v1 import task_pb2, task_pb2_grpc

# How often a task is heard of that is a block, unless it says otherwise.
HEARTBEAT: Final = timedelta(seconds=30)

Touched: TypeAlias = str | tuple[str, str] | Resource
"""All resources of a type; one, by its type and id; or a declared set."""


class Tasks(Waiting):
    """What a session does about tasks."""

    _cache: ReadCache

    def task(  # noqa: PLR0913 - a boundary has that many members, and all are named
        self,
        *,
        purpose: str,
        type: str = "",  # noqa: A002 - what it is called everywhere else
        tenant: str = "",
        lifetime: timedelta | None = None,
        conversation: str = "",
        actions: Iterable[str] | None = None,
        resources: Iterable[Touched] | None = None,
        services: Iterable[str] | None = None,
        limits: Mapping[str, Mapping[str, Json]] | None = None,
        heartbeat: timedelta | None = HEARTBEAT,
    ) -> AbstractAsyncContextManager[Task]:
        """Begin a task that ends with its `async with` block, whatever happens in it, cancellation included.

        It is heard of by itself as long as the block runs; when this process dies, or its loop stands still, the broker
        misses three heartbeats and ends it. A task that could not be ended raises what `end_task` raises; when the
        block raised itself, a note on its exception and a warning in the log say so. It then ends by itself.

        Args:
            purpose: registered for this agent.
            type: of task, as the bundle declares it; may be left out when only one fits.
            tenant: for which, when this agent works for several.
            lifetime: as configured when None; never longer than its type allows.
            conversation: your own name for it, for the audit log.
            actions: the only ones; like the next three, all that the type allows when None.
            resources: the only ones: a type, (type, id), or a Resource for a declared set.
            services: SPIFFE IDs of the only ones.
            limits: by action, on parameters: a list of allowed values, or {"min": n, "max": n}.
            heartbeat: how often it is heard of; None: as its type says.

        """
        boundary = _boundary(actions, resources, services, limits)
        return running(
            lambda: self._begin(
                task_pb2.BeginTaskRequest(
                    purpose=purpose,
                    type=type,
                    tenant=tenant,
                    lifetime=duration_of(lifetime),
                    conversation=conversation,
                    boundary=boundary_message(boundary),
                    heartbeat=duration_of(heartbeat),
                )
            ),
            self.end_task,
            self.heartbeat_task,
        )

    async def begin_task(  # noqa: PLR0913 - the same
        self,
        *,
        purpose: str,
        type: str = "",  # noqa: A002 - the same
        tenant: str = "",
        lifetime: timedelta | None = None,
        conversation: str = "",
        actions: Iterable[str] | None = None,
        resources: Iterable[Touched] | None = None,
        services: Iterable[str] | None = None,
        limits: Mapping[str, Mapping[str, Json]] | None = None,
        heartbeat: timedelta | None = None,
        agent: str = "",
        person: str = "",
        asked_digest: str = "",
    ) -> Task:
        """Begin a task that somebody else will end; an agent of several tenants names one here.

        Args:
            purpose: as for `task`, and so are the others that it has.
            type: as there.
            tenant: as there.
            lifetime: as there.
            conversation: as there.
            actions: as there.
            resources: as there.
            services: as there.
            limits: as there.
            heartbeat: how often it will be heard of, by `heartbeat_task`; None: as its type says.
            agent: for a front end: whose task it is.
            person: for a front end: for whom; a customer by issuer and subject of their ID token, "#" between the two.
            asked_digest: for a front end: digest of what that person asked, "sha-256:" and base64url.

        """
        request = task_pb2.BeginTaskRequest(
            purpose=purpose,
            type=type,
            tenant=tenant,
            lifetime=duration_of(lifetime),
            conversation=conversation,
            boundary=boundary_message(_boundary(actions, resources, services, limits)),
            heartbeat=duration_of(heartbeat),
            agent=agent,
            person=person,
            asked_digest=asked_digest,
        )
        return await self._begin(request)

    async def _begin(self, request: task_pb2.BeginTaskRequest) -> Task:
        answer = await self._ask(lambda channel: task_pb2_grpc.TaskServiceStub(channel).BeginTask, request)
        return task_of(answer.task)

    async def end_task(self, task: Task | str) -> Ending:
        """End a task, and its credentials with it."""
        name = self._ending(task)
        request = task_pb2.EndTaskRequest(task_id=name)
        answer = await self._ask(lambda channel: task_pb2_grpc.TaskServiceStub(channel).EndTask, request)
        return Ending(position=answer.position, revoked=answer.revoked_credentials)

    async def cancel_task(self, task: Task | str, *, reason: str = "") -> Ending:
        """End a task because it is not wanted any more, and its credentials with it."""
        request = task_pb2.CancelTaskRequest(task_id=self._ending(task), reason=reason)
        answer = await self._ask(lambda channel: task_pb2_grpc.TaskServiceStub(channel).CancelTask, request)
        return Ending(position=answer.position, revoked=answer.revoked_credentials)

    async def heartbeat_task(self, task: Task | str) -> Continued:
        """Say that a task is still worked on; its credentials are judged again by the policy in force."""
        request = task_pb2.HeartbeatTaskRequest(task_id=_name(task))
        answer = await self._ask(lambda channel: task_pb2_grpc.TaskServiceStub(channel).HeartbeatTask, request)
        return self._going(
            answer.task.task_id, Continued(task=task_of(answer.task), revoked=answer.revoked_credentials)
        )

    async def narrow_task(
        self,
        task: Task | str,
        *,
        actions: Iterable[str] | None = None,
        resources: Iterable[Touched] | None = None,
        services: Iterable[str] | None = None,
        limits: Mapping[str, Mapping[str, Json]] | None = None,
        reason: str = "",
    ) -> Continued:
        """Let a task go on within less; what no longer fits has ended when this returns.

        Args:
            task: which one.
            actions: the only ones from now on; like the next three, as it is when None.
            resources: the only ones.
            services: SPIFFE IDs of the only ones.
            limits: by action, on parameters.
            reason: why, for the audit log.

        """
        boundary = boundary_message(_boundary(actions, resources, services, limits))
        request = task_pb2.NarrowTaskRequest(task_id=_name(task), boundary=boundary, reason=reason)
        answer = await self._ask(lambda channel: task_pb2_grpc.TaskServiceStub(channel).NarrowTask, request)
        return self._going(
            answer.task.task_id, Continued(task=task_of(answer.task), revoked=answer.revoked_credentials)
        )

    async def resume_task(self, task: Task | str, *, reason: str, identity_token: str | None = None) -> Ending:
        """Let a task go on that drifted, as who was told of it or as an operator; what ended with that stays ended.

        Args:
            task: which one.
            reason: why, for the audit log.
            identity_token: of the person who decides; None: the operator whose SVID the session has.

        """
        request = task_pb2.ResumeTaskRequest(task_id=_name(task), reason=reason)
        answer = await self._ask(
            lambda channel: task_pb2_grpc.TaskServiceStub(channel).ResumeTask, request, identity_token
        )
        return Ending(position=answer.position)

    def _ending(self, task: Task | str) -> str:
        self._cache.forget_task(_name(task))
        return _name(task)

    def _going(self, name: str, continued: Continued) -> Continued:
        if continued.revoked:
            self._cache.forget_task(name)
        return continued


def _name(task: Task | str) -> str:
    return task.id if isinstance(task, Task) else task


def _boundary(
    actions: Iterable[str] | None,
    resources: Iterable[Touched] | None,
    services: Iterable[str] | None,
    limits: Mapping[str, Mapping[str, Json]] | None,
) -> Boundary:
    """Return a boundary.

    Raises:
        RefusedError: a name is none, or a limit has no meaning.
        ValueError: a member is there and names nothing, which the broker would read as no restriction.

    """
    try:
        boundary = Boundary(
            actions=None if actions is None else frozenset(actions),
            resources=None if resources is None else frozenset(map(_extent, resources)),
            services=None if services is None else frozenset(services),
            limits=limits_from_json(plain_parameters(limits or {})),
        )
    except Refusal as refusal:
        raise refused(refusal) from refusal
    if frozenset() in {boundary.actions, boundary.resources, boundary.services}:
        raise ValueError("A boundary within which nothing lies: end the task instead.")
    return boundary


def _extent(touched: Touched) -> Extent:
    match touched:
        case str():
            return Extent(type=touched)
        case Resource():
            return Extent(type=touched.type, id=touched.id, set=touched.set)
        case (kind, name):
            return Extent(type=kind, id=name)
