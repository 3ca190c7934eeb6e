"""Form: is this content an event as the broker writes them?

The closed set of types is not asked: a verifier outlives releases, and a later one may have added types and members.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from broker.audit.entry import VERSION
from broker.intent import MAX_INTEGER, canonical_json

_TYPE: Final = re.compile(r"[a-z]+\.[a-z_]+")
_AT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What was read of an event: the first problem, or the empty string and its commitments."""

    problem: str = ""
    commitments: Mapping[str, object] = field(default_factory=dict)


def form_problem(content: bytes) -> Form:
    """Return what is wrong with the form of an event's content, and its commitments."""
    try:
        members = json.loads(content.decode(), parse_int=_integer, parse_float=_refuse, parse_constant=_refuse)
        canonical = canonical_json(members)
    except (ValueError, RecursionError):
        return Form(problem="it is not JSON of integers, text, lists and objects")
    if canonical != content:
        return Form(problem="it is not in RFC 8785 form")
    return _members_form(members)


def _members_form(members: object) -> Form:
    if not isinstance(members, dict) or members.get("v") is True or members.get("v") != VERSION:
        return Form(problem="it is not an event of this version")
    if not (isinstance(members.get("type"), str) and _TYPE.fullmatch(members["type"])):
        return Form(problem="it has no type")
    if not (isinstance(members.get("at"), str) and _AT.fullmatch(members["at"])):
        return Form(problem="it has no time")
    commitments = members.get("commitments", {})
    if not isinstance(commitments, dict):
        return Form(problem="its commitments are no object")
    return Form(commitments=commitments)


def _integer(text: str) -> int:
    number = int(text)
    if abs(number) > MAX_INTEGER:
        _refuse(text)
    return number


def _refuse(_: str) -> NoReturn:
    raise ValueError("not a number that an event has")
