"""Cursors: sealed, and good for one log, stream, reader and view only (threat H1)."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.cursor import Place, seal, short_leaf, unseal
from broker.errors import Reason, Refusal

KEY = b"k" * 32
PLACE = Place(log="log_1", stream="audit", reader="spiffe://example.org/operator/security", view="sha-256:x")


ENTRY = b'{"type":"task.begun"}'


def entry_before(position: int) -> str:
    assert 0 < position <= 10, "nothing is asked for beyond the log"
    return short_leaf(ENTRY)


def reason_of(cursor: str, *, place: Place = PLACE, key: bytes = KEY, size: int = 10) -> Reason:
    with pytest.raises(Refusal) as refused:
        unseal(cursor, place, key, size, entry_before)
    return refused.value.reason


def test_a_cursor_resumes_where_it_was_made() -> None:
    for position, leaf in ((0, ""), (7, short_leaf(ENTRY)), (10, short_leaf(ENTRY))):
        assert unseal(seal(PLACE, position, leaf, KEY), PLACE, KEY, 10, entry_before) == position


def test_a_cursor_after_another_entry_is_foreign() -> None:
    """The log was restored from a backup and has grown again: the position is there, and means something else."""
    assert reason_of(seal(PLACE, 7, short_leaf(b"another history"), KEY)) is Reason.CURSOR_FOREIGN
    assert reason_of(seal(PLACE, 11, short_leaf(ENTRY), KEY)) is Reason.CURSOR_FROM_THE_FUTURE


def test_a_cursor_of_an_earlier_release_names_no_entry_and_is_good() -> None:
    assert unseal(seal(PLACE, 7, "", KEY), PLACE, KEY, 10, entry_before) == 7


@pytest.mark.parametrize("part", ["log", "stream", "reader", "view"])
def test_a_cursor_of_another_place_is_foreign(part: str) -> None:
    other = replace(PLACE, **{part: "another"})
    assert reason_of(seal(other, 3, "", KEY)) is Reason.CURSOR_FOREIGN


def test_a_cursor_ahead_of_the_log_is_from_the_future() -> None:
    assert reason_of(seal(PLACE, 11, "", KEY)) is Reason.CURSOR_FROM_THE_FUTURE


def test_a_cursor_under_another_key_is_tampered_with() -> None:
    assert reason_of(seal(PLACE, 3, "", b"other" * 8)) is Reason.CURSOR_TAMPERED


def test_moving_the_position_by_hand_is_noticed() -> None:
    content, _, mac = seal(PLACE, 3, "", KEY).partition(".")
    moved = urlsafe_b64decode(content + "=" * (-len(content) % 4)).replace(b'"position":3', b'"position":4')
    assert reason_of(urlsafe_b64encode(moved).rstrip(b"=").decode() + "." + mac) is Reason.CURSOR_TAMPERED


@pytest.mark.parametrize(
    "cursor",
    ["", "x", ".", "a.b.c", "é.é", "=.=", "YQ.YQ==", "YR.YQ", " " * 2000, "A" * 5000 + ".A", "\ud800.a"],
)
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    assert reason_of(cursor) in {Reason.CURSOR_MALFORMED, Reason.CURSOR_TAMPERED}


@given(st.integers(0, 400), st.integers(0, 7))
def test_every_flipped_bit_is_noticed(index: int, bit: int) -> None:
    cursor = seal(PLACE, 3, "", KEY)
    index %= len(cursor)
    flipped = cursor[:index] + chr(ord(cursor[index]) ^ (1 << bit)) + cursor[index + 1 :]
    assert reason_of(flipped) in {Reason.CURSOR_MALFORMED, Reason.CURSOR_TAMPERED}


@given(st.text())
def test_nothing_but_a_refusal_comes_of_any_text(cursor: str) -> None:
    assert reason_of(cursor) in {Reason.CURSOR_MALFORMED, Reason.CURSOR_TAMPERED}
