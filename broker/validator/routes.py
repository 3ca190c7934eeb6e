"""Routes: "GET /orders/{order_id}", and which of them one request is. Strict, so that no router behind reads more."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from broker.validator.bounds import Entry, Mapped, mapped
from broker.validator.guard import MappingError, require_none

_ROUTE: Final = re.compile(
    r"([A-Z]+) (/(?:[^/{}\s?#]+|\{[A-Za-z_]\w*\})(?:/(?:[^/{}\s?#]+|\{[A-Za-z_]\w*\}))*|/)", re.ASCII
)
_DOTS: Final = frozenset({"", ".", ".."})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method and path template.

    Attributes:
        method: in capitals.
        parts: the segments of the path; one in braces stands for any one segment.
        entry: its mapping; None: open to anybody.

    """

    method: str
    parts: tuple[str, ...]
    entry: Mapped | None

    def match(self, method: str, parts: tuple[str, ...]) -> dict[str, str] | None:
        """Return what the template's names stand for; None when it is another route."""
        if method != self.method or len(parts) != len(self.parts):
            return None
        named = {}
        for own, given in zip(self.parts, parts, strict=True):
            if own.startswith("{"):
                named[own[1:-1]] = given
            elif own != given:
                return None
        return named


class Routes:
    """Every route of a service.

    Args:
        calls: "METHOD /path/{name}" to its mapping.
        open_to: routes that anybody may ask.
        routes: all that the service has, when it can say: each must then be in one of the two, and nothing else.

    Raises:
        MappingError: they do not fit together, or two could mean one request.

    """

    def __init__(
        self, *, calls: Mapping[str, Entry], open_to: Collection[str] = (), routes: Collection[str] | None = None
    ) -> None:
        if isinstance(open_to, str) or isinstance(routes, str):
            raise MappingError("a collection of routes, not one text")
        require_none("both mapped and open to anybody", calls.keys() & set(open_to))
        if routes is not None:
            known = calls.keys() | set(open_to)
            require_none("without a mapping", set(routes) - known)
            require_none("mapped, but of no route here", known - set(routes))
        self._routes = [_route(name, mapped(entry)) for name, entry in calls.items()]
        self._routes += [_route(name, None) for name in open_to]
        require_none("which of two routes is not clear", set(_unclear(self._routes)))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route of a request and what its names stand for; None when it has none."""
        parts = tuple(path[1:].split("/")) if path != "/" else ()
        if not path.startswith("/") or not _DOTS.isdisjoint(parts):
            return None
        for route in self._routes:
            found = route.match(method, parts)
            if found is not None:
                return route, found
        return None


def _route(name: str, entry: Mapped | None) -> Route:
    match = _ROUTE.fullmatch(name)
    if match is None:
        raise MappingError(f'not "METHOD /path/{{name}}": {name!r}')
    parts = tuple(match[2][1:].split("/")) if match[2] != "/" else ()
    names = [part for part in parts if part.startswith("{")]
    if len(set(names)) != len(names) or not _DOTS.isdisjoint(parts):
        raise MappingError(f"a name twice, or dots: {name!r}")
    return Route(method=match[1], parts=parts, entry=entry)


def _unclear(routes: Iterable[Route]) -> Iterable[str]:
    for one, other in combinations(routes, 2):
        alike = one.method == other.method and len(one.parts) == len(other.parts)
        pairs = zip(one.parts, other.parts, strict=False)
        if alike and all(a == b or a.startswith("{") or b.startswith("{") for a, b in pairs):
            yield f"{one.method} /{'/'.join(one.parts)} and /{'/'.join(other.parts)}"
