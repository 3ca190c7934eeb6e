"""Cursors: a text is accepted only when it is, byte for byte, the one that stands for its position.

The oracle makes that text itself, with hashlib and hmac, from docs/formats/cursor.md.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import Final

from broker.audit.cursor import Place, seal, short_leaf, unseal
from broker.errors import Category, Refusal
from tests.fuzz.oracle_json import canonical

_KEY: Final = bytes(range(32))
_SIZE: Final = 1000
PLACE: Final = Place(log="log_1", stream="audit", reader="spiffe://example.org/operator/security", view="sha-256:v")
OTHERS: Final = (
    Place(log="log_2", stream=PLACE.stream, reader=PLACE.reader, view=PLACE.view),
    Place(log=PLACE.log, stream="revocations", reader=PLACE.reader, view=PLACE.view),
    Place(log=PLACE.log, stream=PLACE.stream, reader="spiffe://example.org/operator/other", view=PLACE.view),
    Place(log=PLACE.log, stream=PLACE.stream, reader=PLACE.reader, view=""),
)


def leaf_before(position: int) -> str:
    """The entry before a position of this log."""
    return short_leaf(b"entry %d" % position)


def sealed(place: Place, position: int, key: bytes = _KEY) -> bytes:
    """A cursor as the broker gives it."""
    return seal(place, position, leaf_before(position) if position else "", key).encode()


SEEDS: Final = (
    *(sealed(PLACE, position) for position in (0, 1, 999, 1000, 1001, 2**62)),
    *(sealed(place, 5) for place in OTHERS),
    sealed(PLACE, 5, b"another key"),
    seal(PLACE, 5, "", _KEY).encode(),
    seal(PLACE, 5, short_leaf(b"another history"), _KEY).encode(),
    sealed(PLACE, 5) + b"=",
    sealed(PLACE, 5).replace(b".", b".."),
    b".",
    b"",
    b"e30.e30",
)


def one(data: bytes) -> None:
    """Open one cursor."""
    text = data.decode("utf-8", "replace")
    try:
        position = unseal(text, PLACE, _KEY, _SIZE, leaf_before)
    except Refusal as refusal:
        assert refusal.reason.category is Category.OUT_OF_RANGE
        assert refusal.reason.name.startswith("CURSOR_")
        assert text not in _good(), refusal
        return
    assert 0 <= position <= _SIZE
    assert text in _good_at(position), text


def _good() -> set[str]:
    if not _ALL:
        for position in range(_SIZE + 1):
            _ALL.update(_good_at(position))
    return _ALL


_ALL: Final[set[str]] = set()


def _good_at(position: int) -> set[str]:
    """With the leaf before it, or without, as an earlier release wrote it."""
    leaf = hashlib.sha256(b"\x00entry %d" % position).digest()[:16]
    reader = "sha-256:" + _encoded(hashlib.sha256(PLACE.reader.encode()).digest())
    members = {"log": PLACE.log, "position": position, "reader": reader, "stream": PLACE.stream, "view": PLACE.view}
    forms = [canonical(members)] + ([canonical(members | {"leaf": _encoded(leaf)})] if position else [])
    return {f"{_encoded(form.encode())}.{_encoded(_mac(form.encode()))}" for form in forms}


def _mac(content: bytes) -> bytes:
    return hmac.new(_KEY, content, hashlib.sha256).digest()


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")
