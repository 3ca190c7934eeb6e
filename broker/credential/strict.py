"""Strict JSON and base64url: text that has one meaning, whoever parses it."""

import json
import re
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from json.scanner import make_scanner
from typing import Final

from broker.intent import MAX_INTEGER, is_text

MAX_DEPTH: Final = 24

_BASE64URL: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# To the alphabet that binascii reads; what base64url does not have becomes something that it does not read.
_ALPHABET: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
_LAST: Final = {1: b"", 2: _BASE64URL[::16], 3: _BASE64URL[::4]}
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?')


def decode_segment(segment: bytes) -> bytes:
    """Decode unpadded base64url (RFC 7515 section 2), of which every content has exactly one form.

    Raises:
        ValueError: it is anything else.

    """
    beyond = len(segment) % 4
    if beyond and segment[-1:] not in _LAST[beyond]:  # bits of the last character that no byte takes in
        raise ValueError("not canonical base64url")
    return a2b_base64(segment.translate(_ALPHABET) + b"=" * (-beyond % 4), strict_mode=True)


def parse_object(content: bytes, *, max_depth: int = MAX_DEPTH) -> dict[str, object]:
    """Parse one JSON object: UTF-8, no duplicate keys, no floats, nothing before or after it.

    Null, the size of integers and lone surrogates are for whoever reads the members: see `require_plain`.

    Raises:
        ValueError: it is anything else, or nests deeper than `max_depth`.

    """
    text = content.decode("utf-8")
    if text.count("[") + text.count("{") > max_depth and _depth(text) > max_depth:
        raise ValueError("too deep")
    try:
        parsed, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text) or not isinstance(parsed, dict):
        raise ValueError("not one object")
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


def _no_number(_: str) -> int:
    raise ValueError("not an integer")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_members, parse_float=_no_number, parse_constant=_no_number)
# What `decode` calls, without its search for blanks around the object.
_scan: Final[Callable[[str, int], tuple[object, int]]] = make_scanner(_DECODER)  # type: ignore[arg-type]  # its stub names itself


def require_plain(value: object) -> None:
    """Refuse what parameters cannot hold: null, floats, integers beyond 2^53-1, lone surrogates.

    Raises:
        ValueError: something of it is in there.

    """
    match value:
        case str() if value.isascii() or is_text(value):
            return
        case bool():
            return
        case int() if abs(value) <= MAX_INTEGER:
            return
        case dict() | Mapping():
            for name, member in value.items():
                if not isinstance(name, str):
                    raise ValueError("a name that is not text")  # noqa: TRY004 - bad input, not a misuse
                require_plain(name)
                require_plain(member)
        case list() | tuple():
            for member in value:
                require_plain(member)
        case _:
            raise ValueError("a value that parameters cannot hold")
