"""Bookmarks: what is no bookmark is refused, however it came to be."""

import json

import pytest

from broker.client.bookmark import Bookmark, BookmarkInvalid, leaf_of

WITHIN = Bookmark(cursor="abc.def", start=256, position=300, leaf=leaf_of(b"event"))
BETWEEN = Bookmark(cursor="abc.def", start=256, position=256)
FIRST = Bookmark(cursor="", start=0, position=1, leaf=leaf_of(b"event"))


@pytest.mark.parametrize("mark", [WITHIN, BETWEEN, FIRST], ids=["within", "between", "within-the-first"])
def test_a_bookmark_survives_as_one_line_of_ascii(mark: Bookmark) -> None:
    assert mark.text.isascii()
    assert len(mark.text.splitlines()) == 1
    assert Bookmark.parse(mark.text) == mark


def changed(**members: object) -> str:
    return json.dumps(json.loads(WITHIN.text) | members, separators=(",", ":"))


BROKEN = {
    "empty": "",
    "zeros": "\0" * 64,
    "a-plain-cursor": "abc.def",
    "another-file": "[broker]\n",
    "a-list": "[]",
    "null": "null",
    "deep": "[" * 4000,
    "long": changed(cursor="x" * 5000),
    "another-version": changed(v=2),
    "a-version-that-is-true": changed(v=True),
    "another-member": changed(more=1),
    "a-member-missing": json.dumps({"v": 1, "cursor": "", "start": 0}),
    "text-for-a-number": changed(start="256"),
    "true-for-a-number": changed(start=True),
    "a-fraction": changed(start=256.0),
    "negative": changed(start=-1),
    "backwards": changed(position=255),
    "no-leaf-within": changed(leaf=""),
    "a-leaf-cut": changed(leaf="abc"),
    "a-leaf-between": changed(position=256),
    "no-cursor-between": json.dumps({"v": 1, "cursor": "", "start": 9, "position": 9, "leaf": ""}),
    "other-spacing": WITHIN.text.replace(":", ": "),
    "two-lines": WITHIN.text + "\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_is_no_bookmark(text: str) -> None:
    with pytest.raises(BookmarkInvalid):
        Bookmark.parse(text)


def test_no_part_of_a_bookmark_is_one() -> None:
    for end in range(len(WITHIN.text)):
        with pytest.raises(BookmarkInvalid):
            Bookmark.parse(WITHIN.text[:end])
