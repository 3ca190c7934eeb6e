r"""Visible: nothing that an agent writes hides from whoever decides on it (threat B5)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.intent import UNSHOWN, parse_parameters
from broker.visible import rows, shortened, visible


@pytest.mark.parametrize(
    "text",
    [
        "",
        "refund of 10.00 EUR, as agreed (ticket 4711)",
        "Grüße aus Köln, señor Łukasz",
        "Привет",
        "Ελλάδα",
        "こんにちは世界",
        "iPhone 充电",
        "हिन्दी",
        "tiếng Việt",
        "مرحبا",
        "€ 12 – 15",
    ],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pay \u202e01\u202c now", r"pay \u{202e}01\u{202c} now"),  # right-to-left override
        ("a\u2066b\u2069", r"a\u{2066}b\u{2069}"),
        ("a\u200fb", r"a\u{200f}b"),
        ("ac\u200bct", r"ac\u{200b}ct"),
        ("ac\u200dct\ufeff", r"ac\u{200d}ct\u{feff}"),
        ("a\u00adb", r"a\u{ad}b"),
        ("a\u00a0b\u3000c", r"a\u{a0}b\u{3000}c"),
        ("a\u2028b\u2029c", r"a\u{2028}b\u{2029}c"),
        ("a\x1b[2Jb", r"a\u{1b}[2Jb"),
        ("a\x00\x07\x7f\x9bb", r"a\u{0}\u{7}\u{7f}\u{9b}b"),
        ("one\ntwo\r\tthree", r"one\ntwo\r\tthree"),
        ("\U000e0041\U000e0042", r"\u{e0041}\u{e0042}"),  # tags
        ("a\ufe0fb", r"a\u{fe0f}b"),
        ("\u6f22\U000e0100", "\u6f22" + r"\u{e0100}"),
        ("1\u033600", r"1\u{336}00"),  # struck out
        ("amount 1\u20e3", r"amount 1\u{20e3}"),
        ("e\u0301", r"e\u{301}"),  # not the letter that is one character
        ("\u0301", r"\u{301}"),
        ("\u0915\u094d\u0937\u093f\u0301\u0301\u0301", "\u0915\u094d\u0937\u093f\u0301" + r"\u{301}\u{301}"),
        ("p\u0430ypal", r"p\u{430}ypal"),  # Cyrillic
        ("\u0410BC", r"\u{410}BC"),
        ("g\u03bfogle", r"g\u{3bf}ogle"),  # Greek
        ("\u13a0BC", r"\u{13a0}BC"),  # Cherokee
        ("\uff41\uff10", r"\u{ff41}\u{ff10}"),  # full width
        ("\U0001d5d4", r"\u{1d5d4}"),  # mathematical
        ("e\ufb01n", r"e\u{fb01}n"),
        ("10\u00b2", r"10\u{b2}"),
        ("1\u0663", r"1\u{663}"),  # an Arabic three
        ("a\u2215b\u2044c\u037e", r"a\u{2215}b\u{2044}c\u{37e}"),
        ("\u212a", r"\u{212a}"),  # the sign for Kelvin
        (r"\u{202e}", r"\\u{202e}"),  # written out by who hopes to be taken for an escape
        ("\\", "\\\\"),
        ("\udc80", r"\u{dc80}"),
        ("\ue000\U000f0000", r"\u{e000}\u{f0000}"),
    ],
)
def test_what_hides_or_misleads_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


ESCAPE = re.compile(r"\\u\{([0-9a-f]+)\}|\\(.)")
NAMED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


def back(shown: str) -> str:
    return ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else NAMED[found[2]], shown)


@given(st.text())
def test_nothing_is_lost_and_nothing_of_the_kind_is_left(text: str) -> None:
    shown = visible(text)
    assert back(shown) == text
    assert not UNSHOWN.search(shown.replace(" ", ""))
    assert shown.isprintable()


@given(st.text(max_size=80), st.integers(0, 60))
def test_what_is_cut_is_counted(text: str, limit: int) -> None:
    shown = shortened(text, limit)
    head, cut, count = shown.rpartition("... (+")
    if shown == visible(text) and len(shown) <= limit:
        return
    assert cut
    assert len(head) <= limit
    assert back(head) == text[: len(text) - int(count.removesuffix(" characters)"))]


def test_a_long_text_says_how_much_more_there_is() -> None:
    assert shortened("x" * 10_000, 10) == "xxxxxxxxxx... (+9990 characters)"
    assert shortened("\u202e" * 5, 9) == r"\u{202e}... (+4 characters)"
    assert shortened("short", 10) == "short"


def test_ten_thousand_lines_are_one() -> None:
    shown = visible("\n".join(["pay"] * 10_000))
    assert "\n" not in shown
    assert len(shown) == 10_000 * 3 + 9_999 * 2


def test_parameters_are_shown_with_what_tells_them_apart() -> None:
    found = parse_parameters(
        '{"amount": 10, "text": "10", "flag": true, "to": {"iban": "DE\\u202e", "tags": ["a", 1, []]}, '
        '"a.b": "x\\"y", "p\\u0430y": {}}'
    )
    assert list(rows(found)) == [
        ("amount", "10"),
        ("text", '"10"'),
        ("flag", "true"),
        ("to.iban", r'"DE\u{202e}"'),
        ("to.tags[0]", '"a"'),
        ("to.tags[1]", "1"),
        ("to.tags[2]", "[]"),
        ('"a.b"', r'"x\"y"'),
        (r'"p\u{430}y"', "{}"),
    ]
