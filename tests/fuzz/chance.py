"""Mutations by chance: what stands in where atheris has no wheel, and in the short test that runs everywhere."""

import random
from collections.abc import Callable, Sequence
from typing import Final

_TOKENS: Final = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b".", b"..", b"/", b"//", b"\n", b"\x00", b"\xff", b"=", b"-",
    b"0",
    b"1", b"9007199254740992", b"null", b"true", b"1e5", b"\\ud800", b"\xed\xa0\x80", b"\xe2\x80\xae", b"%2f", b"*",
    b"\x80\x01", b"\xff" * 9 + b"\x01",
)  # fmt: skip


def mutated(chance: random.Random, data: bytes, others: Sequence[bytes], longest: int) -> bytes:
    """Return an input that is a few steps away from another."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(changed) + 1)
        to = min(len(changed), at + chance.choice((1, 1, 2, 8, 64)))
        match chance.randrange(6):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << chance.randrange(8)
            case 1:
                changed[at:to] = b""
            case 2:
                changed[at:at] = chance.choice(_TOKENS)
            case 3:
                changed[at:at] = bytes(changed[at:to])
            case 4:
                other = chance.choice(others)
                begin = chance.randrange(len(other) + 1)
                changed[at:to] = other[begin : begin + chance.choice((1, 4, 32, 256))]
            case _:
                changed[at:to] = chance.randbytes(to - at)
    return bytes(changed[:longest])


def attempt(one: Callable[[bytes], None], data: bytes) -> None:
    """Try one input; what is raised says with which."""
    try:
        one(data)
    except BaseException as problem:
        problem.add_note(f"input: {data!r}")
        raise
