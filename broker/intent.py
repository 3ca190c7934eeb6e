"""Intent: what an agent declares it is about to do.

It has one canonical form (RFC 8785) and one digest, the same in policy input, grant and token, and in audit as a
commitment. What cannot be given one meaning is refused here, with its reason.
"""

import hashlib
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeAlias

import rfc8785

from broker.errors import Reason, Refusal

Json: TypeAlias = "bool | int | str | Sequence[Json] | Mapping[str, Json]"

MAX_AUDIENCE_LENGTH: Final = 2048
MAX_ID_BYTES: Final = 256
MAX_INTEGER: Final = 2**53 - 1
MAX_PARAMETER_BYTES: Final = 32 * 1024
MAX_PARAMETER_DEPTH: Final = 16
MAX_PARAMETER_MEMBERS: Final = 512

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._/-]{0,127}")
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?')
_AUDIENCE: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+")
# What an opaque id cannot hold, because it does not show or changes how others show. A table and not str.isprintable,
# whose answer changes with Python's version: docs/formats/intent.md has the same one, and it is frozen.
UNSHOWN: Final = re.compile(
    r"[\x00-\x1f\x7f-\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f"
    r"\u2028-\u202f\u205f-\u206f\u3000\ud800-\uf8ff\ufdd0-\ufdef\ufeff\ufff0-\ufffb\U000110bd\U000110cd"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000f0000-\U0010ffff"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(15))
    + "]"
)


class Level(IntEnum):
    """A level of sensitivity or risk; ordered, so that the higher of two counts."""

    LOW = 1
    MODERATE = 2
    HIGH = 3


def require_name(text: str, what: str) -> str:
    """Return text when it can stand in a rule position.

    Raises:
        Refusal: INTENT_NAME_INVALID, with `what` as its detail.

    """
    if not _NAME.fullmatch(text):
        raise Refusal(Reason.INTENT_NAME_INVALID, what)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource by its opaque id, or a set that the policy bundle declares."""

    type: str
    id: str = ""
    set: str = ""

    def __post_init__(self) -> None:
        """Refuse what is neither one resource nor one set."""
        require_name(self.type, "resource.type")
        if bool(self.id) == bool(self.set):
            raise Refusal(Reason.INTENT_RESOURCE_INVALID, "either id or set")
        if self.set:
            require_name(self.set, "resource.set")
        elif not is_opaque_id(self.id):
            raise Refusal(Reason.INTENT_RESOURCE_INVALID, "resource.id")

    def canonical(self) -> dict[str, Json]:
        """Return the members that are set."""
        return {"type": self.type, "id": self.id} if self.id else {"type": self.type, "set": self.set}


def is_opaque_id(text: str) -> bool:
    """Unicode of at most 256 bytes that shows as what it is; compared byte for byte, never normalised."""
    return not UNSHOWN.search(text) and len(text.encode()) <= MAX_ID_BYTES


def is_text(text: str) -> bool:
    """Whether text is well-formed Unicode: no lone surrogate."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What an agent declares it is about to do, valid once it exists.

    Attributes:
        action: the action's name.
        resource: what is touched.
        parameters: the call's parameters, parsed by `parse_parameters`.
        purpose: why; registered for the agent in the bundle.
        audience: the SPIFFE ID of the service, as registered.
        task: id of the task, or empty.
        on_behalf_of: an unverified statement of the agent; personal.
        sensitivity: raises the bundle's own level; None leaves it.
        risk: raises the bundle's own level; None leaves it.

    """

    action: str
    resource: Resource
    parameters: Mapping[str, Json] = field(default_factory=dict)
    purpose: str
    audience: str
    task: str = ""
    on_behalf_of: str = ""
    sensitivity: Level | None = None
    risk: Level | None = None

    def __post_init__(self) -> None:
        """Refuse names that cannot stand in a rule."""
        require_name(self.action, "action")
        require_name(self.purpose, "purpose")
        if len(self.audience) > MAX_AUDIENCE_LENGTH or not _AUDIENCE.fullmatch(self.audience):
            raise Refusal(Reason.INTENT_NAME_INVALID, "audience")
        if self.task and not re.fullmatch(r"task_[0-9a-f-]{36}", self.task):
            raise Refusal(Reason.TASK_UNKNOWN, "task_id")
        if not is_opaque_id(self.on_behalf_of):
            raise Refusal(Reason.INTENT_NAME_INVALID, "on_behalf_of")

    def canonical_object(self) -> dict[str, Json]:
        """Return the fixed object whose RFC 8785 form is the intent's canonical form; empty members are left out."""
        members: dict[str, Json] = {
            "v": 1,
            "action": self.action,
            "resource": self.resource.canonical(),
            "parameters": self.parameters,
            "purpose": self.purpose,
            "audience": self.audience,
            "task": self.task,
            "on_behalf_of": self.on_behalf_of,
            "sensitivity": self.sensitivity.name.lower() if self.sensitivity else "",
            "risk": self.risk.name.lower() if self.risk else "",
        }
        return {name: value for name, value in members.items() if value not in ("", {})}

    def digest(self) -> str:
        """Return SHA-256 over the canonical form, as "sha-256:" and base64url."""
        return digest(canonical_json(self.canonical_object()))


_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Json) -> bytes:
    """Return the RFC 8785 form.

    For ASCII without floats the standard library writes the same bytes, seven times as fast; the order of keys (UTF-16
    against code points) can differ only beyond ASCII.
    """
    text = _ENCODER.encode(value)
    return text.encode() if text.isascii() else rfc8785.dumps(value)


def digest(content: bytes) -> str:
    """Return SHA-256 as this project writes it: "sha-256:" and unpadded base64url."""
    return "sha-256:" + urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def call_digest(*, action: str, resource: Resource, tenant: str, parameters: Mapping[str, Json]) -> str:
    """Return the digest of one call, as a service is about to do it (docs/formats/call.md). No member is left out."""
    members: dict[str, Json] = {
        "v": 1,
        "action": action,
        "resource": resource.canonical(),
        "tenant": tenant,
        "parameters": parameters,
    }
    return digest(canonical_json(members))


def parse_parameters(text: str) -> dict[str, Json]:
    """Parse the parameters of an intent: strictly, so that policy, digest and service see one meaning.

    Args:
        text: one JSON object (RFC 8259) as text; empty stands for {}.

    Raises:
        Refusal: INTENT_PARAMETERS_* for what has no single meaning or is too large.

    """
    if len(text.encode(errors="surrogatepass")) > MAX_PARAMETER_BYTES or _nests_too_deep(text):
        raise Refusal(Reason.INTENT_PARAMETERS_SIZE)
    try:
        parsed = json.loads(
            text or "{}",
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except ValueError as problem:
        raise Refusal(Reason.INTENT_PARAMETERS_SYNTAX) from problem
    if not isinstance(parsed, dict):
        raise Refusal(Reason.INTENT_PARAMETERS_SYNTAX, "not an object")
    if _count(parsed) > MAX_PARAMETER_MEMBERS:
        raise Refusal(Reason.INTENT_PARAMETERS_SIZE)
    return parsed


def _nests_too_deep(text: str) -> bool:
    """Bound the depth before a recursive parser meets the text; brackets within strings do not nest."""
    if text.count("[") + text.count("{") <= MAX_PARAMETER_DEPTH:
        return False
    depth = deepest = 0
    for character in _STRING.sub("", text):
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest > MAX_PARAMETER_DEPTH


def _members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Refusal(Reason.INTENT_PARAMETERS_DUPLICATE)
    return members


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text) or text == "-0" or abs(int(text)) > MAX_INTEGER:
        raise Refusal(Reason.INTENT_PARAMETERS_NUMBER)
    return int(text)


def _no_number(_: str) -> int:
    raise Refusal(Reason.INTENT_PARAMETERS_NUMBER)


def _count(value: "Json | None") -> int:
    """Count members and elements; refuse null and malformed text on the way."""
    if value is None:
        raise Refusal(Reason.INTENT_PARAMETERS_NULL)
    if isinstance(value, str):
        if not is_text(value):
            raise Refusal(Reason.INTENT_PARAMETERS_TEXT)
        return 0
    if isinstance(value, Mapping):
        return sum(1 + _count(name) + _count(member) for name, member in value.items())
    if isinstance(value, Sequence):
        return sum(1 + _count(element) for element in value)
    return 0
