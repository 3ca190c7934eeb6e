"""What parameters an action takes, learned from the type checker: the engine does not hand out a schema as data.

A condition that is not a truth value makes the checker say which type it saw. Where that cannot be read, the shape is
unknown, and whoever asked does without it: nothing is decided on it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import cedarpy

from broker.intent import Json

_SAW: Final = re.compile(r"unexpected type: expected Bool but saw (.*)", re.DOTALL)
# The checker writes names as they are, unquoted; those that hold its own signs make the shape unknown, or wrong.
_TOKEN: Final = re.compile(r"\s*([^\s{}<>:,?](?:[^{}<>:,?]|::)*|[{}<>:,?])")
_SAMPLES: Final[Mapping[str, Json]] = {
    "Long": 1,
    "String": "x",
    "Bool": True,
    "ipaddr": "192.0.2.1",
    "decimal": "1.0",
    "datetime": "2026-01-01",
    "duration": "1h",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A type without members; `name` as Cedar calls it."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Several:
    """A set of values of one type; None for a set that nothing is known about."""

    element: "Shape | None"

    def __str__(self) -> str:
        return f"Set<{self.element or '?'}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """A record: its members' types, and which of them must be there."""

    types: "Mapping[str, Shape]"
    required: frozenset[str]

    def __str__(self) -> str:
        inner = (f"{name}{'' if name in self.required else '?'}: {kind}" for name, kind in self.types.items())
        return f"{{ {', '.join(inner)} }}" if self.types else "{}"


Shape: TypeAlias = Scalar | Several | Members


def parameters_of(schema: cedarpy.Schema, action: str, cedar_type: str) -> Members | None:
    """Return what parameters an action takes for a type of resource; None when that cannot be told."""
    scope = f'principal is Agent, action == Action::"{action}", resource is {cedar_type}'
    result = cedarpy.validate_policies(f"permit({scope}) when {{ context.parameters }};", schema)
    saw = next((found for error in result.errors if (found := _SAW.search(str(error.error)))), None)
    try:
        shape = _Reader(saw[1]).whole() if saw else None
    except ValueError:
        return None
    return shape if isinstance(shape, Members) else None


def sample(shape: Shape) -> "Json | None":
    """Return a value of that type with every optional member left out; None when none can be made up."""
    match shape:
        case Scalar(name=name):
            return _SAMPLES.get(name)
        case Several():
            return []
        case Members(types=types, required=required):
            made = {name: sample(types[name]) for name in types if name in required}
            return {name: value for name, value in made.items() if value is not None}


def fits(shape: Shape, value: object) -> bool:
    """Whether a value can be of that type; text stands for what Cedar writes as text."""
    match shape:
        case Scalar(name="Long"):
            return isinstance(value, int) and not isinstance(value, bool)
        case Scalar(name="Bool"):
            return isinstance(value, bool)
        case Scalar():
            return isinstance(value, str)
        case Several(element=element):
            return isinstance(value, list) and all(element is None or fits(element, item) for item in value)
        case Members(types=types, required=required):
            return (
                isinstance(value, dict)
                and required <= value.keys() <= types.keys()
                and all(fits(types[name], member) for name, member in value.items())
            )


def repaired(shape: Members, value: Mapping[str, Json]) -> dict[str, Json]:
    """Return the nearest record of that shape: what fits stays, the rest is dropped or made up."""
    kept = {name: member for name, member in value.items() if name in shape.types and fits(shape.types[name], member)}
    missing = sample(shape)
    return {**missing, **kept} if isinstance(missing, dict) else kept


class _Reader:
    """Reads a type as the checker writes it, such as {amount: Long,note?: String,}."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        at, text = 0, text.strip()
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise ValueError("not a type")
            self._tokens.append(token[1])
            at = token.end()
        self._at = 0

    def whole(self) -> Shape:
        """Read all of it."""
        shape = self._shape()
        if self._at != len(self._tokens):
            raise ValueError("more than a type")
        return shape

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise ValueError("the type ends early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, token: str) -> bool:
        found = self._at < len(self._tokens) and self._tokens[self._at] == token
        self._at += found
        return found

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise ValueError(f"expected {token}")

    def _shape(self) -> Shape:
        if self._take("{"):
            return self._members()
        name = self._next()
        if name == "Set":
            self._expect("<")
            element = self._shape()
            self._expect(">")
            return Several(element=element)
        return Scalar(name=name)

    def _members(self) -> Members:
        types: dict[str, Shape] = {}
        required: set[str] = set()
        while not self._take("}"):
            name = self._next()
            if not self._take("?"):
                required.add(name)
            self._expect(":")
            types[name] = self._shape()
            self._take(",")
        return Members(types=types, required=frozenset(required))
