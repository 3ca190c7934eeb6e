"""Saved: a log as lines of JSON, the form of `broker audit tail --json`; docs/formats/log.md defines it."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from broker.audit.entry import Opening
from broker.audit.shape import EventMalformed
from broker.audit.verify import LoggedEntry

MAX_LINE_CHARACTERS: Final = 32 * 1024 * 1024


class SavedLogInvalid(ValueError):
    """A line is not one of a saved log. The message names the line, never its content."""


def to_line(position: int, content: bytes, openings: Sequence[Opening] = ()) -> str:
    """Return one entry as one line, without its newline; the event's bytes survive as text.

    Raises:
        EventMalformed: they are none.

    """
    try:
        text = content.decode()
    except UnicodeDecodeError as problem:
        raise EventMalformed(f"the event at {position} cannot be read: it is not text") from problem
    members: dict[str, object] = {"position": position, "event": text}
    if openings:
        members["openings"] = [
            {
                "field": opening.field,
                "value": opening.value.decode(),
                "salt": urlsafe_b64encode(opening.salt).rstrip(b"=").decode(),
            }
            for opening in openings
        ]
    return json.dumps(members, separators=(",", ":"))


def entries(lines: Iterable[str]) -> Iterator[LoggedEntry]:
    """Yield the entries of a saved log in order; lines that only state a range that was scanned carry none.

    Raises:
        SavedLogInvalid: a line is none of a saved log.

    """
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise SavedLogInvalid(f"line {number} is too long")
        try:
            found = _entry(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError) as problem:
            raise SavedLogInvalid(f"line {number} is no line of `broker audit tail --json`") from problem
        if found is not None:
            yield found


def _entry(members: object) -> LoggedEntry | None:
    """Return the entry of a line; None when it only states a range."""
    if not isinstance(members, dict):
        raise TypeError
    if "position" not in members and "from" in members:
        return None
    position, event, openings = members["position"], members["event"], members.get("openings", [])
    if type(position) is not int or not isinstance(event, str) or not isinstance(openings, list):
        raise TypeError
    return LoggedEntry(
        position=position,
        content=event.encode(),
        openings=tuple(
            Opening(
                field=str(each["field"]),
                value=str(each["value"]).encode(),
                salt=urlsafe_b64decode(str(each["salt"]) + "=="),
            )
            for each in openings
        ),
    )
