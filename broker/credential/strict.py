"""Strict JSON: text that has one meaning, whoever parses it."""

import json
import re
from collections.abc import Mapping
from typing import Final, cast

from broker.intent import MAX_INTEGER, is_text

MAX_DEPTH: Final = 24

_INTEGER: Final = re.compile("-?(?:0|[1-9][0-9]{0,15})")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?')


def parse_object(content: bytes) -> dict[str, object]:
    """Parse one JSON object that has one meaning: UTF-8, no duplicate keys, no floats, integers within 2^53-1.

    Raises:
        ValueError: it is anything else, or nests deeper than MAX_DEPTH.

    """
    text = content.decode("utf-8")
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise ValueError("too deep")
    parsed = _DECODER.decode(text)
    if not isinstance(parsed, dict):
        raise ValueError("not an object")
    return parsed


def _depth(text: str) -> int:
    """Return how deep brackets nest outside of strings, before a recursive parser meets them."""
    depth = deepest = 0
    for character in _STRING.sub("", text):
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice")
    return members


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text) or text == "-0" or abs(int(text)) > MAX_INTEGER:
        raise ValueError("not an integer within 2^53-1")
    return int(text)


def _no_number(_: str) -> int:
    raise ValueError("not an integer")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_no_number, parse_constant=_no_number
)


def require_plain(value: object) -> None:
    """Refuse what parameters cannot hold: null, floats, integers beyond 2^53-1, lone surrogates.

    Raises:
        ValueError: something of it is in there.

    """
    kind = type(value)
    if kind is bool or (kind is int and abs(cast(int, value)) <= MAX_INTEGER) or (kind is str and is_text(cast(str, value))):
        return
    if isinstance(value, Mapping):
        for name, member in value.items():
            if type(name) is not str or not is_text(name):
                raise ValueError("a name that is not text")
            require_plain(member)
    elif isinstance(value, list | tuple):
        for member in value:
            require_plain(member)
    else:
        raise ValueError("a value that parameters cannot hold")
