"""Tasks ⇄ messages of the port: calls, which the issuer decodes and trusts nothing of, and answers."""

from datetime import timedelta
from typing import Final

from broker.boundary import Boundary, boundary_from_json
from broker.intent import canonical_json, parse_parameters
from broker.issuer.convert import (
    MAX_ID,
    MAX_NAME,
    MAX_SPIFFE_ID,
    MAX_TEXT,
    Malformed,
    bounded,
    decode_context,
    encode_context,
    from_microseconds,
    lifetime_of,
    to_duration,
    to_microseconds,
)
from broker.issuer.port import (
    BeginTaskCall,
    Continued,
    EndTaskCall,
    HeartbeatCall,
    NarrowTaskCall,
    ResumeTaskCall,
    Task,
)
from broker.issuer.v1 import port_pb2 as v1

# A person's name is as long as what an intent says of on whose behalf it is.
MAX_PERSON: Final = 1024


def encode_boundary(boundary: Boundary) -> str:
    """Return a boundary as JSON text; empty when it restricts nothing."""
    members = boundary.to_json()
    return canonical_json(members).decode() if members else ""


def decode_boundary(text: str) -> Boundary:
    """Return the boundary.

    Raises:
        ValueError: it is none.
        Refusal: the same.

    """
    return boundary_from_json(parse_parameters(text))


def encode_begin_task(call: BeginTaskCall) -> v1.BeginTaskCall:
    """Return the message of a task to begin."""
    return v1.BeginTaskCall(
        context=encode_context(call.context),
        purpose=call.purpose,
        tenant=call.tenant,
        lifetime_us=to_duration(call.lifetime),
        conversation=call.conversation,
        type=call.type,
        boundary=encode_boundary(call.boundary),
        heartbeat_us=to_duration(call.heartbeat),
        agent=call.agent,
        person=call.person,
        asked=call.asked,
    )


def decode_begin_task(message: v1.BeginTaskCall) -> BeginTaskCall:
    """Return a task to begin."""
    return BeginTaskCall(
        context=decode_context(message.context),
        purpose=bounded(message.purpose, MAX_NAME, "purpose"),
        tenant=bounded(message.tenant, MAX_NAME, "tenant"),
        lifetime=lifetime_of(message),
        conversation=bounded(message.conversation, MAX_NAME, "conversation"),
        type=bounded(message.type, MAX_NAME, "type"),
        boundary=decode_boundary(message.boundary),
        heartbeat=_heartbeat(message),
        agent=bounded(message.agent, MAX_SPIFFE_ID, "agent"),
        person=bounded(message.person, MAX_PERSON, "person"),
        asked=bounded(message.asked, MAX_ID, "asked"),
    )


def _heartbeat(message: v1.BeginTaskCall | v1.Task) -> timedelta | None:
    if not message.HasField("heartbeat_us"):
        return None
    if message.heartbeat_us <= 0:
        raise Malformed("heartbeat_us")
    return timedelta(microseconds=message.heartbeat_us)


def encode_end_task(call: EndTaskCall) -> v1.EndTaskCall:
    """Return the message of a task to end."""
    return v1.EndTaskCall(
        context=encode_context(call.context), task=call.task, cancelled=call.cancelled, text=call.text
    )


def decode_end_task(message: v1.EndTaskCall) -> EndTaskCall:
    """Return a task to end."""
    return EndTaskCall(
        context=decode_context(message.context),
        task=bounded(message.task, MAX_ID, "task"),
        cancelled=message.cancelled,
        text=bounded(message.text, MAX_TEXT, "text"),
    )


def encode_heartbeat(call: HeartbeatCall) -> v1.HeartbeatCall:
    """Return the message of a heartbeat."""
    return v1.HeartbeatCall(context=encode_context(call.context), task=call.task)


def decode_heartbeat(message: v1.HeartbeatCall) -> HeartbeatCall:
    """Return a heartbeat."""
    return HeartbeatCall(context=decode_context(message.context), task=bounded(message.task, MAX_ID, "task"))


def encode_narrow_task(call: NarrowTaskCall) -> v1.NarrowTaskCall:
    """Return the message of a task to narrow."""
    return v1.NarrowTaskCall(
        context=encode_context(call.context), task=call.task, boundary=encode_boundary(call.boundary), text=call.text
    )


def decode_narrow_task(message: v1.NarrowTaskCall) -> NarrowTaskCall:
    """Return a task to narrow."""
    return NarrowTaskCall(
        context=decode_context(message.context),
        task=bounded(message.task, MAX_ID, "task"),
        boundary=decode_boundary(message.boundary),
        text=bounded(message.text, MAX_TEXT, "text"),
    )


def encode_resume_task(call: ResumeTaskCall) -> v1.ResumeTaskCall:
    """Return the message of a task to resume."""
    return v1.ResumeTaskCall(context=encode_context(call.context), task=call.task, text=call.text)


def decode_resume_task(message: v1.ResumeTaskCall) -> ResumeTaskCall:
    """Return a task to resume."""
    return ResumeTaskCall(
        context=decode_context(message.context),
        task=bounded(message.task, MAX_ID, "task"),
        text=bounded(message.text, MAX_TEXT, "text"),
    )


def encode_task(task: Task) -> v1.Task:
    """Return the message of a task."""
    return v1.Task(
        id=task.id,
        agent=task.agent,
        begun_by=task.begun_by,
        tenant=task.tenant,
        purpose=task.purpose,
        conversation=task.conversation,
        begun_at_us=to_microseconds(task.begun_at),
        deadline_us=to_microseconds(task.deadline),
        ended_at_us=None if task.ended_at is None else to_microseconds(task.ended_at),
        type=task.type,
        boundary=encode_boundary(task.boundary),
        heartbeat_us=to_duration(task.heartbeat),
        silent_at_us=None if task.silent_at is None else to_microseconds(task.silent_at),
        revision=task.revision,
        person=task.person,
        asked=task.asked,
        suspended_at_us=None if task.suspended_at is None else to_microseconds(task.suspended_at),
    )


def decode_task(message: v1.Task) -> Task:
    """Return a task."""
    return Task(
        id=message.id,
        agent=message.agent,
        begun_by=message.begun_by,
        tenant=message.tenant,
        purpose=message.purpose,
        conversation=message.conversation,
        begun_at=from_microseconds(message.begun_at_us),
        deadline=from_microseconds(message.deadline_us),
        ended_at=from_microseconds(message.ended_at_us) if message.HasField("ended_at_us") else None,
        type=message.type,
        boundary=decode_boundary(message.boundary),
        heartbeat=_heartbeat(message),
        silent_at=from_microseconds(message.silent_at_us) if message.HasField("silent_at_us") else None,
        revision=message.revision,
        person=message.person,
        asked=message.asked,
        suspended_at=from_microseconds(message.suspended_at_us) if message.HasField("suspended_at_us") else None,
    )


def encode_continued(continued: Continued) -> v1.Continued:
    """Return the message of a task that goes on."""
    return v1.Continued(task=encode_task(continued.task), revoked=continued.revoked)


def decode_continued(message: v1.Continued) -> Continued:
    """Return a task that goes on."""
    return Continued(task=decode_task(message.task), revoked=message.revoked)
