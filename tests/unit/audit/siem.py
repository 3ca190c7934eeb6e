"""Events of every type, taken apart, as a reader with and one without personal values is shown them."""

from base64 import urlsafe_b64decode
from typing import Any

from broker.audit.entry import Opening
from broker.audit.shown import Shown
from tests.vectors.files import FILES

ACCEPTED: list[dict[str, Any]] = FILES["event"]["accepted"]
IDS = [each["id"] for each in ACCEPTED]


def openings_of(vector: dict[str, Any]) -> list[Opening]:
    """Return what stands beside an event."""
    return [
        Opening(field=each["field"], value=each["value"].encode(), salt=bytes.fromhex(each["salt"]))
        for each in vector["openings"]
    ]


def shown(vector: dict[str, Any], *, personal: bool, position: int = 7) -> Shown:
    return Shown.read(position, vector["content"].encode(), openings_of(vector) if personal else ())


def event_of(event_type: str, *, personal: bool = True) -> Shown:
    """Return the first vector of a type."""
    return shown(next(each for each in ACCEPTED if each["type"] == event_type), personal=personal)


def future(content: str = '{"at":"2026-11-21T12:00:00.000001Z","more":{"a":[1]},"type":"duty.claimed","v":1}') -> Shown:
    """Return an event of a type that this release does not know."""
    return Shown.read(9, content.encode(), [Opening(field="text", value=b'"why"', salt=bytes(32))])


def unpadded(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")
