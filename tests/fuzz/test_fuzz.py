"""The targets themselves: what earlier runs kept still passes, some mutations by chance do, and each target can see.

`make fuzz` tries far more; this is what runs everywhere, with or without atheris.
"""

import hmac
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from broker import intent
from broker.credential import verify
from broker.issuer import convert, convert_calls
from broker.policy import bundle
from broker.svid import spiffe_id
from tests.fuzz import target_door
from tests.fuzz.chance import attempt, mutated
from tests.fuzz.targets import TARGETS, read_corpus, target

RUNS = 150


def every_input(name: str) -> list[bytes]:
    return sorted({*target(name).seeds, *read_corpus(name)})


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_and_what_is_near_it(name: str) -> None:
    one, inputs = target(name).one, every_input(name)
    for data in inputs:
        attempt(one, data)
    chance = random.Random(20261121)  # noqa: S311 - chance, no secret
    for _ in range(RUNS):
        attempt(one, mutated(chance, chance.choice(inputs), inputs, TARGETS[name]))


def _lax_parse(raw: bytes, kind: Any) -> Any:
    """The door's decoding without its look for fields that it does not know."""
    return kind.FromString(raw)


def _without_trace(call: Any) -> Any:
    return _encode_context(replace(call, trace=""))


_encode_context = convert.encode_context

# A safeguard taken out, for each target one: (module, name, what stands there instead).
BLIND: dict[str, tuple[Any, str, Any]] = {
    "bundle": (bundle, "bundle_digest", lambda _: "sha-256:the same for all"),
    "cursor": (hmac, "compare_digest", lambda *_: True),
    "door": (target_door, "parse", _lax_parse),
    "parameters": (intent, "_members", dict),
    "port": (convert_calls, "encode_context", _without_trace),
    "spiffe_id": (spiffe_id, "_DOT_SEGMENTS", frozenset()),
    "token": (verify, "check_time", lambda *_: None),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_safeguard_that_is_gone_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among what is kept, at least one input tells; a fuzzer whose oracle sees nothing finds nothing."""
    module, attribute, instead = BLIND[name]
    one, inputs = target(name).one, every_input(name)
    monkeypatch.setattr(module, attribute, instead)
    assert any(_found(one, data) for data in inputs)


def _found(one: Callable[[bytes], None], data: bytes) -> bool:
    try:
        one(data)
    except Exception:
        return True
    return False


def test_every_corpus_belongs_to_a_target() -> None:
    assert all(read_corpus(name) for name in TARGETS)
