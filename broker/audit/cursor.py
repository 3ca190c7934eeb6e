"""Cursor: where a reader of a stream goes on. Opaque to the reader, sealed by the broker.

Form: base64url of the RFC 8785 form of {"leaf", "log", "position", "reader", "stream", "view"}, a dot, base64url of
HMAC-SHA256 over that form under the store's cursor key; no padding (docs/formats/cursor.md). The reader stands in it as
a digest, since a SPIFFE ID can be longer than a cursor; the leaf tells a log that was restored from a backup and has
grown again from the one that was read.
"""

import binascii
import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker.audit.tree import leaf_hash
from broker.errors import Reason, Refusal
from broker.intent import Json, canonical_json, digest

MAX_LENGTH: Final = 1024
LEAF_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which stream a cursor belongs to.

    Attributes:
        log: id of the log.
        stream: "audit" or "revocations".
        reader: SPIFFE ID of the reader.
        view: digest of what the reader asked to see.

    """

    log: str
    stream: str
    reader: str
    view: str


def short_leaf(content: bytes) -> str:
    """Return what a cursor holds of the entry before its position."""
    return _encode(leaf_hash(content)[:LEAF_BYTES])


def seal(place: Place, position: int, leaf: str, key: bytes) -> str:
    """Return the cursor that resumes at `position`.

    Args:
        place: the stream that it belongs to.
        position: the first one that was not scanned.
        leaf: of the entry before it, as `short_leaf` gives it; empty at position 0.
        key: the store's cursor key.

    """
    content = canonical_json(_members(place) | {"position": position} | ({"leaf": leaf} if leaf else {}))
    return f"{_encode(content)}.{_encode(_mac(content, key))}"


def unseal(cursor: str, place: Place, key: bytes, size: int, leaf_before: Callable[[int], str]) -> int:
    """Return the position that a cursor of this place resumes at.

    Args:
        cursor: as the reader gave it.
        place: the stream that it must belong to.
        key: the store's cursor key.
        size: size of the log now.
        leaf_before: the short leaf of the entry before a position; asked for positions up to `size` only.

    Raises:
        Refusal: CURSOR_MALFORMED, CURSOR_TAMPERED, CURSOR_FOREIGN or CURSOR_FROM_THE_FUTURE.

    """
    content, mac = _parts(cursor)
    if not hmac.compare_digest(mac, _mac(content, key)):
        raise Refusal(Reason.CURSOR_TAMPERED)
    members = json.loads(content)  # ours: the seal matched
    position: int = members.pop("position")
    leaf: str = members.pop("leaf", "")  # a cursor of an earlier release has none
    if members != _members(place):
        raise Refusal(Reason.CURSOR_FOREIGN)
    if position > size:
        raise Refusal(Reason.CURSOR_FROM_THE_FUTURE)
    if leaf and leaf != leaf_before(position):
        raise Refusal(Reason.CURSOR_FOREIGN, "another history: was the store restored from a backup?")
    return position


def _members(place: Place) -> dict[str, Json]:
    reader = digest(place.reader.encode())
    return {"log": place.log, "reader": reader, "stream": place.stream, "view": place.view}


def _parts(cursor: str) -> tuple[bytes, bytes]:
    content, dot, mac = cursor.partition(".")
    if len(cursor) > MAX_LENGTH or not dot:
        raise Refusal(Reason.CURSOR_MALFORMED)
    try:
        parts = _decode(content), _decode(mac)
    except (binascii.Error, ValueError) as problem:
        raise Refusal(Reason.CURSOR_MALFORMED) from problem
    if f"{_encode(parts[0])}.{_encode(parts[1])}" != cursor:
        raise Refusal(Reason.CURSOR_MALFORMED, "not in its one form")
    return parts


def _mac(content: bytes, key: bytes) -> bytes:
    return hmac.digest(key, content, hashlib.sha256)


def _encode(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
