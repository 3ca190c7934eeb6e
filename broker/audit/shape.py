"""Shape: an event's members, as far as anything here looks into them, hold what the formats promise.

Events come from a server, or out of a file, and either may lie. What is checked here once is relied upon by whatever
shows, traces or exports an event. Members that are not known here may be anything.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeAlias

from broker.audit.entry import VERSION
from broker.intent import MAX_INTEGER, canonical_json

# Deeper than an intent's parameters may be, with what stands around them.
MAX_DEPTH: Final = 24

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS: Final = 1_000_000
_AT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z", re.ASCII)

_Check: TypeAlias = Callable[[Any], bool]


class EventMalformed(Exception):
    """What was given as an event is none that can be read; the message says where and why, never what."""


def parsed(content: bytes) -> Any:  # noqa: ANN401 - a JSON value
    """Return JSON of integers, truth values, text, lists and objects.

    Raises:
        EventMalformed: it is something else, or too deep.

    """
    try:
        value = json.loads(content.decode(), parse_int=_integer, parse_float=_refuse, parse_constant=_refuse)
        canonical_json(value)
    except (ValueError, RecursionError) as problem:
        raise EventMalformed("it is not JSON of integers, text, lists and objects") from problem
    if not _plain(value, MAX_DEPTH):
        raise EventMalformed("it is too deep, or holds null")
    return value


def members_of(content: bytes) -> Mapping[str, Any]:
    """Return the members of an event.

    Raises:
        EventMalformed: they are not what they have to be.

    """
    members = parsed(content)
    if not isinstance(members, dict):
        raise EventMalformed("it is no object")
    _check(members, _MEMBERS)
    needed = _REQUIRED.get(members.get("type", ""), ()) if members.get("v") == VERSION else ()
    for name in (*_ALWAYS, *needed):
        if name not in members:
            raise EventMalformed(f"it has no {name}")
    return members


def opened_of(values: Mapping[str, bytes]) -> Mapping[str, Any]:
    """Return the personal values of an event.

    Raises:
        EventMalformed: they are not what they have to be.

    """
    opened = {name: parsed(value) for name, value in values.items()}
    _check(opened, _OPENED)
    return opened


def microseconds(at: str) -> int:
    """Return an event's time, as it is written in events, in microseconds since 1970.

    Raises:
        ValueError: it is no time.

    """
    since = datetime.strptime(at, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * _MICROSECONDS + since.microseconds


def _check(members: Mapping[str, Any], shapes: Mapping[str, _Check]) -> None:
    for name, holds in shapes.items():
        if name in members and not holds(members[name]):
            raise EventMalformed(f"its {name} is none")


def _integer(text: str) -> int:
    number = int(text) if len(text) <= len(str(-MAX_INTEGER)) else MAX_INTEGER + 1
    if abs(number) > MAX_INTEGER:
        _refuse(text)
    return number


def _refuse(_: str) -> NoReturn:
    raise ValueError("not a number that an event has")


def _plain(value: object, levels: int) -> bool:
    match value:
        case None:
            return False
        case list():
            return levels > 0 and all(_plain(each, levels - 1) for each in value)
        case dict():
            return levels > 0 and all(_plain(each, levels - 1) for each in value.values())
        case _:
            return True


# --- what a member holds ----------------------------------------------------------------------------------------------


def _text(value: Any) -> bool:  # noqa: ANN401 - a JSON value, as below
    return isinstance(value, str)


def _number(value: Any) -> bool:  # noqa: ANN401
    return type(value) is int


def _flag(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, bool)


def _time(value: Any) -> bool:  # noqa: ANN401
    if not isinstance(value, str) or not _AT.fullmatch(value):
        return False
    try:
        microseconds(value)
    except ValueError:  # of the right form, such as the 31st of February
        return False
    return True


def _list_of(holds: _Check) -> _Check:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _object(members: Mapping[str, _Check], *needed: str) -> _Check:
    """Return what holds of an object with these members, as far as it has them."""

    def holds(value: Any) -> bool:  # noqa: ANN401
        if not isinstance(value, dict) or not all(name in value for name in needed):
            return False
        return all(of(value[name]) for name, of in members.items() if name in value)

    return holds


def _object_of(holds: _Check) -> _Check:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


def _range(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and len(value) == 2 and all(map(_number, value))  # noqa: PLR2004 - first and last


_TEXTS: Final = (
    "action", "agent", "approval", "audience", "bundle", "bypass", "cause", "credential", "group", "imposed_by", "key",
    "kid", "login", "name", "note", "operation", "outcome", "override", "presented_by", "purpose", "reason", "replaced",
    "replaces", "report", "request", "resource_type", "revocation", "rule", "spiffe_id", "state", "stream", "task",
    "task_type", "tenant", "token_digest", "trace", "transaction", "type", "use", "version", "was",
)  # fmt: skip
_NUMBERS: Final = ("count", "heartbeat", "position", "refusals", "revoked", "status_index", "v", "within")
_TIMES: Final = ("at", "deadline", "expires_at", "pending_until", "until", "usable_until", "used_at")
_RESOURCE: Final = _object({"type": _text, "id": _text, "set": _text})
_INTENT: Final = _object({"action": _text, "resource": _RESOURCE, "purpose": _text, "audience": _text}, "action")
_DECISION: Final = _object({"id": _text, "policies": _list_of(_text), "bundle": _text}, "id", "policies")
_MEMBERS: Final[Mapping[str, _Check]] = MappingProxyType(
    dict.fromkeys(_TEXTS, _text)
    | dict.fromkeys(_NUMBERS, _number)
    | dict.fromkeys(_TIMES, _time)
    | dict.fromkeys(("by_token", "complete", "suspended"), _flag)
    | {
        "commitments": _object_of(_text),
        "decision": _DECISION,
        "intent": _INTENT,
        "reasons": _list_of(_text),
        "status_indexes": _object_of(_list_of(_range)),
    }
)
_OPENED: Final[Mapping[str, _Check]] = MappingProxyType(
    dict.fromkeys(
        ("asked", "call_digest", "conversation", "detail", "intent_digest", "on_behalf_of", "person", "problem",
         "reference", "rolled_back_by", "source", "text"),
        _text,
    )
    | {"approved_by": _list_of(_text), "trail": _object_of(_text), "parameters": _object({})}
)  # fmt: skip
_ALWAYS: Final = ("v", "type", "at")
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "credential.granted": ("intent", "decision", "credential", "audience", "status_index", "expires_at"),
        "credential.redeemed": ("credential",),
        "exchange.refused": ("reason",),
        "outcome.reported": ("credential", "use", "outcome"),
        "refusals.suppressed": ("count",),
        "reports.dropped": ("count",),
        "stream.opened": ("stream",),
        "usage.accepted": ("credential", "use"),
        "usage.refused": ("reason",),
    }
)
