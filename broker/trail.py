"""Trail: what led an agent to an intent, as far as it says so: names of its own and digests, never the text."""

import re
from dataclasses import dataclass, field, fields
from typing import Final

from broker.errors import Reason, Refusal
from broker.intent import Json, is_opaque_id

_DIGEST: Final = re.compile(r"(?:sha-256:[A-Za-z0-9_-]{43})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """Statements of the agent that nobody verifies; personal. No part of the intent: policy does not see them.

    Attributes:
        prompt_reference: the agent's own name for the prompt; opaque.
        prompt_digest: "sha-256:" and base64url, over the prompt.
        tool_call_reference: the agent's own name for the tool call; opaque.
        tool_call_digest: the same form, over the tool call.

    """

    prompt_reference: str = field(default="", repr=False)
    prompt_digest: str = field(default="", repr=False)
    tool_call_reference: str = field(default="", repr=False)
    tool_call_digest: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Refuse what does not show as what it is, and what is no digest.

        Raises:
            Refusal: REQUEST_INVALID, with the member's name.

        """
        for name in ("prompt_reference", "tool_call_reference"):
            if not is_opaque_id(getattr(self, name)):
                raise Refusal(Reason.REQUEST_INVALID, f"trail.{name}")
        for name in ("prompt_digest", "tool_call_digest"):
            if not _DIGEST.fullmatch(getattr(self, name)):
                raise Refusal(Reason.REQUEST_INVALID, f"trail.{name}")

    def to_json(self) -> dict[str, Json]:
        """Return the members that are set."""
        members = {each.name: str(getattr(self, each.name)) for each in fields(self)}
        return {name: value for name, value in members.items() if value}


NO_TRAIL: Final = Trail()
