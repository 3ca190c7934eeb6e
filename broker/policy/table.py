"""Reads TOML strictly: what is missing, unknown or of the wrong type is a problem with a place, never a default."""

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from broker.errors import Refusal
from broker.intent import Level, is_text, require_name
from broker.policy.problem import Findings
from broker.svid.spiffe_id import SpiffeId

_LINE: Final = re.compile(r"\(at line (\d+),")
_LEVELS: Final = {level.name.lower(): level for level in Level}


class Table:
    """One TOML table; every reader notes a problem and returns something harmless when the value is not right."""

    def __init__(
        self, values: Mapping[str, object], *, file: str, name: str, line: int | None, found: Findings
    ) -> None:
        self._values = values
        self._file = file
        self._name = name
        self.line = line
        self._found = found
        self._read: set[str] = set()

    def problem(self, sentence: str) -> None:
        """Note a problem of this table."""
        self._found.add(self._file, f"{self._name}: {sentence}", line=self.line)

    def has(self, key: str) -> bool:
        """Whether the key stands in the table."""
        return key in self._values

    def value(self, key: str) -> object:
        """Return the value as TOML has it, or None."""
        self._read.add(key)
        return self._values.get(key)

    def text(self, key: str, *, default: str | None = None) -> str:
        """Return printable text; a missing key without default is a problem."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and is_text(value) and value.isprintable():
            return value
        self.problem(f"{key} is missing; give it as text" if value is None else f"{key} must be printable text")
        return ""

    def name(self, key: str, *, default: str | None = None) -> str:
        """Return a name that can stand in a rule."""
        text = self.text(key, default=default)
        return self._fit(key, text) if text else text

    def names(self, key: str, *, at_least: int = 1, repeating: bool = False) -> tuple[str, ...]:
        """Return a list of names; of different ones, unless they may repeat."""
        value = self.value(key)
        if value is None and not at_least:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or len(value) < at_least:
            self.problem(f'{key} must be a list of names such as ["one"], at least {at_least} long')
            return ()
        if len(set(value)) != len(value) and not repeating:
            self.problem(f"{key} names one thing twice; name it once")
        return tuple(self._fit(key, item) for item in value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of text."""
        value = self.value(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.problem(f'{key} must be a list of text such as ["one"]')
            return ()
        return tuple(value)

    def level(self, key: str) -> Level:
        """Return low, moderate or high."""
        text = self.text(key)
        if text not in _LEVELS and text:
            self.problem(f"{key} must be one of {', '.join(_LEVELS)}")
        return _LEVELS.get(text, Level.HIGH)

    def one_of(self, key: str, values: Collection[str]) -> str:
        """Return one of these values; for anything else, which is a problem, the first of them."""
        text = self.text(key)
        if text not in values and text:
            self.problem(f"{key} must be one of {', '.join(values)}")
        return text if text in values else next(iter(values))

    def flag(self, key: str) -> bool:
        """Return a boolean; absent is false."""
        value = self.value(key)
        if value is not None and not isinstance(value, bool):
            self.problem(f"{key} must be true or false")
        return value is True

    def spiffe_id(self, key: str) -> str:
        """Return a SPIFFE ID with a path."""
        text = self.text(key)
        if text and not _is_spiffe_id(text):
            self.problem(f"{key} must be a SPIFFE ID with a path, such as spiffe://example.org/agent/name")
        return text

    def spiffe_ids(self, key: str) -> tuple[str, ...]:
        """Return a list of different SPIFFE IDs with a path, one at the least."""
        value = self.value(key)
        if not isinstance(value, list) or not value or not all(map(self.is_spiffe_id, value)):
            self.problem(f'{key} must be a list of SPIFFE IDs such as ["spiffe://example.org/agent/name"]')
            return ()
        if len(set(value)) != len(value):
            self.problem(f"{key} names one thing twice; name it once")
        return tuple(value)

    def is_spiffe_id(self, value: object) -> bool:
        """Whether a value of this table is a SPIFFE ID with a path."""
        return isinstance(value, str) and _is_spiffe_id(value)

    def tables(self, key: str) -> "tuple[Table, ...]":
        """Return an array of tables within this one."""
        inner = _array(self.value(key))
        if inner is None:
            self.problem(f"{key} must be written as [[...{key}]] tables")
            return ()
        where = f"{self._name}, {key}"
        return tuple(
            Table(values, file=self._file, name=f"{where} {number}", line=self.line, found=self._found)
            for number, values in enumerate(inner, 1)
        )

    def inner(self, key: str) -> "Table":
        """Return a table within this one."""
        value = self.value(key)
        if not isinstance(value, dict):
            self.problem(f"{key} must be a table such as {{ name = ... }}")
            value = {}
        return Table(value, file=self._file, name=f"{self._name}, {key}", line=self.line, found=self._found)

    def done(self) -> None:
        """Refuse, by name, the keys that nobody asked for."""
        for key in self._values.keys() - self._read:
            known = ", ".join(sorted(self._read))
            self.problem(f"unknown key {key!r}; remove it or correct it to one of {known}")

    def _fit(self, key: str, text: str) -> str:
        try:
            return require_name(text, key)
        except Refusal:
            self.problem(f"{key}: {text!r} is not a name; names match [a-z0-9][a-z0-9._/-]* and are at most 128 long")
            return text


def read_tables(content: bytes, *, file: str, kinds: Iterable[str], found: Findings) -> dict[str, tuple[Table, ...]]:
    """Parse a file that consists of arrays of tables of the given kinds, and nothing else."""
    known = tuple(kinds)
    tables: dict[str, tuple[Table, ...]] = dict.fromkeys(known, ())
    try:
        text = content.decode()
        document = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        place = _LINE.search(str(problem))
        found.add(file, f"is not TOML: {problem}", line=int(place[1]) if place else None)
        return tables
    except RecursionError:
        found.add(file, "nests too deeply; the file consists of tables of names and lists")
        return tables
    for kind, value in document.items():
        array = _array(value)
        if kind not in tables or array is None:
            found.add(file, f"unknown entry {kind!r}; the file consists of {', '.join(f'[[{k}]]' for k in known)}")
            continue
        lines = _headers(text, kind)
        tables[kind] = tuple(
            Table(
                values,
                file=file,
                name=f"{kind} {number}",
                line=lines[number - 1] if len(lines) == len(array) else None,
                found=found,
            )
            for number, values in enumerate(array, 1)
        )
    return tables


def _is_spiffe_id(text: str) -> bool:
    try:
        return bool(SpiffeId.parse(text).path)
    except Refusal:
        return False


def _array(value: object) -> list[dict[str, object]] | None:
    """Return an array of tables; absent is an empty one."""
    if value is None:
        return []
    return value if isinstance(value, list) and all(isinstance(item, dict) for item in value) else None


def _headers(text: str, kind: str) -> list[int]:
    """Return the lines of the [[kind]] headers: the TOML parser does not tell them."""
    header = re.compile(rf"\s*\[\[\s*{re.escape(kind)}\s*\]\]")
    return [number for number, line in enumerate(text.splitlines(), 1) if header.match(line)]
