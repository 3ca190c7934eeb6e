"""What is fuzzed, and the inputs that each target begins with."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

CORPORA: Final = Path(__file__).with_name("corpora")
# name: the longest input that is tried, bytes. Each is a module target_<name> beside this one.
TARGETS: Final = {
    "bundle": 4096,
    "cursor": 1200,
    "door": 2048,
    "parameters": 4096,
    "port": 2048,
    "spiffe_id": 2200,
    "token": 4096,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One target.

    Attributes:
        one: takes one input; raises (mostly AssertionError) when something is wrong.
        seeds: inputs written by hand.

    """

    one: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def target(name: str) -> Target:
    """Return a target; its module is imported now, so that whoever instruments imports can."""
    module = import_module(f"tests.fuzz.target_{name}")
    return Target(one=module.one, seeds=module.SEEDS)


def text_of(data: bytes) -> str:
    """Return bytes as text, lone surrogates included: no decoder lets them through, a caller in Python can."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def read_corpus(name: str) -> tuple[bytes, ...]:
    """Return the inputs that earlier runs have kept: one a line, in base64."""
    path = CORPORA / f"{name}.txt"
    return tuple(map(b64decode, path.read_text().split())) if path.exists() else ()


def write_corpus(name: str, inputs: Iterable[bytes]) -> None:
    """Keep inputs, in an order that makes a small difference a small diff."""
    lines = sorted((b64encode(each).decode() for each in set(inputs)), key=lambda line: (len(line), line))
    (CORPORA / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines if line))
