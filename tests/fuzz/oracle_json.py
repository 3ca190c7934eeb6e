"""A JSON reader written from RFC 8259 and docs/formats/intent.md alone, and RFC 8785's form of what it reads.

It shares no code with the broker or with Python's json: what it says about a text is a second opinion.
"""

from typing import Any, Final

MAX_INTEGER: Final = 9007199254740991
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SHORT: Final = {character: letter for letter, character in _ESCAPES.items() if letter != "/"}


class NotOne(Exception):
    """The text is no JSON object with exactly one meaning."""


class Reader:
    """Reads one text from left to right.

    Args:
        text: what to read.
        depth: how deep arrays and objects may nest.
        null: whether null has a meaning.
        bounded: whether integers have to lie within 2^53-1.
        spaced: whether blanks may stand around the object.

    """

    def __init__(self, text: str, *, depth: int, null: bool = False, bounded: bool = True, spaced: bool = True) -> None:
        self._text = text
        self._at = 0
        self._depth = depth
        self._null = null
        self._bounded = bounded
        self._spaced = spaced
        self.members = 0

    def read(self) -> dict[str, Any]:
        """Return the object that the text is.

        Raises:
            NotOne: it is none.

        """
        if self._spaced:
            self._skip()
        if self._peek() != "{":
            raise NotOne("not an object")
        found: dict[str, Any] = self._value(0)
        if self._spaced:
            self._skip()
        if self._at != len(self._text):
            raise NotOne("something after it")
        return found

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self) -> None:
        while self._peek() and self._peek() in " \t\n\r":
            self._at += 1

    def _take(self, expected: str) -> None:
        if not self._text.startswith(expected, self._at):
            raise NotOne(expected)
        self._at += len(expected)

    def _value(self, depth: int) -> Any:  # noqa: PLR0911 - one for each kind of value
        match self._peek():
            case "{":
                return self._object(depth + 1)
            case "[":
                return self._array(depth + 1)
            case '"':
                return self._string()
            case "t":
                self._take("true")
                return True
            case "f":
                self._take("false")
                return False
            case "n" if self._null:
                self._take("null")
                return None
            case _:
                return self._number()

    def _object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for _ in self._elements(depth, "{", "}"):
            name = self._string()
            self._skip()
            self._take(":")
            self._skip()
            if name in members:
                raise NotOne("twice")
            members[name] = self._value(depth)
        return members

    def _array(self, depth: int) -> list[Any]:
        return [self._value(depth) for _ in self._elements(depth, "[", "]")]

    def _elements(self, depth: int, opening: str, closing: str) -> Any:
        """Yield before every element; whoever iterates reads it."""
        if depth > self._depth:
            raise NotOne("too deep")
        self._take(opening)
        self._skip()
        if self._peek() == closing:
            self._take(closing)
            return
        while True:
            self.members += 1
            yield
            self._skip()
            if self._peek() == closing:
                self._take(closing)
                return
            self._take(",")
            self._skip()

    def _string(self) -> str:
        self._take('"')
        units: list[int] = []  # UTF-16, so that a pair of escapes is one character
        while (character := self._peek()) != '"':
            if not character or ord(character) < 0x20:
                raise NotOne("a control character, or no end")
            self._at += 1
            units += self._escaped() if character == "\\" else _utf16(character)
        self._at += 1
        return self._joined(units)

    def _escaped(self) -> list[int]:
        letter = self._peek()
        self._at += 1
        if letter == "u":
            digits = self._text[self._at : self._at + 4]
            self._at += 4
            if len(digits) != 4 or not set(digits) <= set("0123456789abcdefABCDEF"):
                raise NotOne("escape")
            return [int(digits, 16)]
        if letter not in _ESCAPES or not letter:
            raise NotOne("escape")
        return [ord(_ESCAPES[letter])]

    def _joined(self, units: list[int]) -> str:
        content = b"".join(unit.to_bytes(2, "big") for unit in units)
        try:
            return content.decode("utf-16-be")
        except UnicodeDecodeError as problem:
            if not self._bounded:  # whoever reads the members refuses it
                return content.decode("utf-16-be", "surrogatepass")
            raise NotOne("a lone surrogate") from problem

    def _number(self) -> int:
        start = self._at
        if self._peek() == "-":
            self._at += 1
        digits = self._at
        while self._peek() and self._peek() in "0123456789":
            self._at += 1
        figures = self._text[digits : self._at]
        if not figures or (figures[0] == "0" and len(figures) > 1) or (self._peek() and self._peek() in ".eE"):
            raise NotOne("not an integer")
        if len(figures) > 4000:
            raise NotOne("longer than Python reads")
        number = int(self._text[start : self._at])
        if self._bounded and (abs(number) > MAX_INTEGER or self._text[start : self._at] == "-0"):
            raise NotOne("out of bounds")
        return number


def _utf16(character: str) -> list[int]:
    content = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(content[at : at + 2], "big") for at in range(0, len(content), 2)]


def canonical(value: Any) -> str:
    """Return the RFC 8785 form of booleans, integers, text, arrays and objects."""
    match value:
        case True:
            return "true"
        case False:
            return "false"
        case int():
            return str(value)
        case str():
            return _quoted(value)
        case dict():
            names = sorted(value, key=lambda name: name.encode("utf-16-be"))
            return "{" + ",".join(f"{_quoted(name)}:{canonical(value[name])}" for name in names) + "}"
        case _:
            return "[" + ",".join(canonical(each) for each in value) + "]"


def _quoted(text: str) -> str:
    return '"' + "".join(map(_written, text)) + '"'


def _written(character: str) -> str:
    if character in _SHORT:
        return f"\\{_SHORT[character]}"
    return f"\\u{ord(character):04x}" if character < " " else character


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, types and all: 1 is not true."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
