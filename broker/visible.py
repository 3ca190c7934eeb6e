r"""Visible: what somebody else wrote, as a person can safely read it on a terminal or in a tool.

Whatever hides, changes how its neighbours show, or passes for another character stands there as \u{202e}. Nothing is
left out: the text can be had back (a backslash is doubled), and what is cut says how much.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final

from broker.intent import UNSHOWN, Json

_NAMED: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Scripts with letters that look like Latin ones; beside Latin letters they are shown as what they are.
_LOOKALIKE: Final = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU")
# What passes for a slash or a colon and has no compatibility form that says so.
_PUNCTUATION: Final = frozenset("\u2044\u2215\u29f8\u2236\u0589\ua789")
_PLAIN: Final = re.compile(r"[ -\[\]-~]*")
_ASCII_WORD: Final = re.compile(r"[A-Za-z0-9]")
# More marks on one letter than any language has climb over what stands around it.
_MOST_MARKS: Final = 2
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


def visible(text: str) -> str:
    """Return text on one line in which nothing hides: other people's words before they are shown."""
    return "".join(_characters(text)) if not _PLAIN.fullmatch(text) else text


def shortened(text: str, limit: int) -> str:
    """Return visible text of about that many columns at most; what is cut off is counted, never hidden.

    Args:
        text: of any length, as somebody wrote it.
        limit: characters as shown, without the count.

    """
    kept = 0
    for number, character in enumerate(_characters(text)):
        kept += len(character)
        if kept > limit:
            shown = "".join(character for character, _ in zip(_characters(text), range(number), strict=False))
            return f"{shown}... (+{len(text) - number} characters)"
    return visible(text)


def rows(value: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each member of parsed parameters as path and value, visible; text stands in quotes, numbers do not."""
    match value:
        case str():
            yield path, '"' + visible(value).replace('"', '\\"') + '"'
        case bool():
            yield path, "true" if value else "false"
        case int():
            yield path, str(value)
        case Mapping():
            for name, member in value.items():
                yield from rows(member, f"{path}.{_name(name)}" if path else _name(name))
            if not value:
                yield path, "{}"
        case _:
            for number, member in enumerate(value):
                yield from rows(member, f"{path}[{number}]")
            if not value:
                yield path, "[]"


def _name(name: str) -> str:
    """Return a member's name; one that could be read as a path stands in quotes."""
    return name if _PLAIN_NAME.fullmatch(name) else '"' + visible(name).replace('"', '\\"') + '"'


def _characters(text: str) -> Iterator[str]:
    beside_latin = bool(_ASCII_WORD.search(text))
    marks, before = 0, ""
    for character in text:
        if unicodedata.category(character) in {"Mn", "Mc", "Me"}:
            marks += 1
            # On a letter of its own script a mark is spelling; anywhere else it changes a sign that is not its own.
            plain = before.isalpha() and not before.isascii() and marks <= _MOST_MARKS
            yield character if plain and not UNSHOWN.search(character) and not _varies(character) else _code(character)
            continue
        marks, before = 0, character
        yield _NAMED.get(character) or (_code(character) if _misleads(character, beside_latin) else character)


def _misleads(character: str, beside_latin: bool) -> bool:  # noqa: FBT001  # one fact about the whole text
    if character.isascii():
        return not character.isprintable()
    if UNSHOWN.search(character) or not character.isprintable() or character in _PUNCTUATION:
        return True
    if unicodedata.normalize("NFKC", character).isascii():  # a full-width letter, a mathematical one, a ligature
        return True
    if not beside_latin:
        return False
    return unicodedata.category(character) == "Nd" or unicodedata.name(character, "").startswith(_LOOKALIKE)


def _varies(character: str) -> bool:
    """Whether it chooses among forms of the letter before it, and shows nothing of its own."""
    return unicodedata.name(character, "").startswith(("VARIATION SELECTOR", "MONGOLIAN FREE"))


def _code(character: str) -> str:
    return f"\\u{{{ord(character):x}}}"
