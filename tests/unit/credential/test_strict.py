"""Strict JSON: one meaning, or a ValueError."""

import pytest

from broker.credential.strict import MAX_DEPTH, parse_object, require_plain


def test_an_object_is_parsed() -> None:
    assert parse_object(b'{"a":[1,"[[[",{"b":true}]}') == {"a": [1, "[[[", {"b": True}]}


def test_brackets_in_text_are_no_depth() -> None:
    assert parse_object(b'{"a":"' + b"[" * 200 + b'\\"[["}')["a"] == "[" * 200 + '"[['


def test_the_deepest_that_is_allowed_is_parsed() -> None:
    inner = MAX_DEPTH - 1
    assert parse_object(b'{"a":' + b"[" * inner + b"]" * inner + b"}")


BAD = {
    "empty": b"",
    "array": b"[]",
    "text": b'"a"',
    "duplicate": b'{"a":1,"a":1}',
    "duplicate-deep": b'{"a":[{"b":1,"b":2}]}',
    "duplicate-by-escape": b'{"a":1,"\\u0061":1}',
    "float": b'{"a":1.0}',
    "exponent": b'{"a":1e3}',
    "nan": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "trailing": b"{}x",
    "trailing-blank": b"{} ",
    "leading-blank": b" {}",
    "byte-order-mark": b"\xef\xbb\xbf{}",
    "not-utf-8": b'{"a":"\xff"}',
    "utf-8-surrogate": b'{"a":"\xed\xa0\x80"}',
    "cut": b'{"a":',
    "single-quotes": b"{'a':1}",
    "leading-zero": b'{"a":01}',
    "too-deep": b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    "far-too-deep": b'{"a":' + b"[" * 100_000,
    "ten-thousand-digits": b'{"a":' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_what_has_no_single_meaning_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any
        parse_object(content)


@pytest.mark.parametrize(
    "value", [None, 1.5, 2**53, -(2**53), "\ud800", {"\ud800": 1}, {1: 1}, [None], (1.5,), b"x", {1}]
)
def test_what_parameters_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any
        require_plain(value)


def test_what_parameters_can_hold_passes() -> None:
    require_plain({"a": [1, True, "ü", {"b": (2**53 - 1,)}], "c": {}})
