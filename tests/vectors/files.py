"""The vectors as tests take them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from broker.errors import Refusal

VECTORS: Final = Path(__file__).parent
FILES: Final[dict[str, Any]] = {path.stem: json.loads(path.read_text("utf-8")) for path in VECTORS.glob("*.json")}


def rows(name: str, part: str) -> pytest.MarkDecorator:
    """Return a test's parameter: the vectors of one part of one file, each with its id."""
    found = FILES[name][part]
    ids = [each["id"] for each in found]
    if not found or len(set(ids)) != len(ids):
        raise ValueError(f"{name}.{part}: no vectors, or an id stands twice")
    return pytest.mark.parametrize("vector", [pytest.param(each, id=each["id"]) for each in found])


def reason_of(act: Callable[[], object]) -> str:
    """Return the reason for which something is refused, and fail when it is not, or not by a Refusal."""
    with pytest.raises(Refusal) as refused:
        act()
    return refused.value.reason.name
