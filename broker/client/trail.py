"""Trail: what led an agent to an intent, for the audit log: names of its own and digests, never the text.

    with led_by(trail_of(prompt=message, prompt_reference="message 12")):
        answer = await agent.run(message)

Tools (broker.client.tools) add the call that each of them is. Policy does not see any of it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Final

from broker.client.decode import plain_parameters
from broker.client.errors import refused
from broker.errors import Refusal
from broker.intent import Json, canonical_json, digest
from broker.trail import NO_TRAIL, Trail

__all__ = ["Trail", "led_by", "trail_of"]

_current: Final[ContextVar[Trail]] = ContextVar("trail", default=NO_TRAIL)


def trail_of(
    *,
    prompt: str = "",
    prompt_reference: str = "",
    tool_call: str | Mapping[str, Json] = "",
    tool_call_reference: str = "",
) -> Trail:
    """Return a trail with the digests of these texts, which themselves go nowhere.

    Args:
        prompt: what was asked; its digest is SHA-256 over its UTF-8.
        prompt_reference: your own name for it, of at most 256 bytes, such as the id of a message.
        tool_call: the call, as text, or as an object, of which the RFC 8785 form is taken.
        tool_call_reference: your own name for that.

    Raises:
        RefusedError: a reference holds what does not show as what it is, or the object has no single meaning.

    """
    try:
        called = canonical_json(plain_parameters(tool_call)) if isinstance(tool_call, Mapping) else tool_call.encode()
        return Trail(
            prompt_reference=prompt_reference,
            prompt_digest=digest(prompt.encode()) if prompt else "",
            tool_call_reference=tool_call_reference,
            tool_call_digest=digest(called) if tool_call else "",
        )
    except Refusal as refusal:
        raise refused(refusal) from refusal


@contextmanager
def led_by(trail: Trail) -> Iterator[None]:
    """Let the tools that are called within a `with` block say what led to them."""
    before = _current.set(trail)
    try:
        yield
    finally:
        _current.reset(before)


def of_call(name: str, arguments: Mapping[str, Json]) -> Trail:
    """Return what led to a tool call: what the block around it says, and the call itself where that says nothing.

    Args:
        name: of the tool.
        arguments: as they were given; what has no single meaning is left without a digest.

    """
    trail = _current.get()
    if trail.tool_call_digest:
        return trail
    try:
        called = digest(canonical_json(plain_parameters({"tool": name, "arguments": arguments})))
    except Refusal:
        called = ""
    return replace(trail, tool_call_digest=called, tool_call_reference=trail.tool_call_reference or name)
