"""What a text may hold."""

import pytest

from broker.text import is_fit

UNFIT = {
    "NUL": "\0",
    "line feed": "\n",
    "carriage return": "\r",
    "tab": "\t",
    "escape": "\x1b",
    "the last of C0": "\x1f",
    "delete": "\x7f",
    "the first of C1": "\x80",
    "next line": "\x85",
    "a terminal's command in one byte": "\x9b",
    "the last of C1": "\x9f",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "half of a pair": "\ud800",
    "the other half": "\udfff",
}
FIT = {
    "nothing": "",
    "a sentence": 'Paid twice; see "ticket" #12 (50 %).',
    "the first that shows": " ",
    "the last of ASCII": "~",
    "just after C1": "\xa0",
    "other languages": "Zahlung zurück, 返金, استرداد",
    "beyond the first plane": "\U0001f642",
    "what only misleads": "a\u202eb",
}


@pytest.mark.parametrize("character", UNFIT.values(), ids=UNFIT)
def test_what_moves_a_line_is_unfit_wherever_it_stands(character: str) -> None:
    assert not any(is_fit(text) for text in (character, f"a{character}", f"{character}a", f"a{character}b"))


@pytest.mark.parametrize("text", FIT.values(), ids=FIT)
def test_everything_else_is_fit(text: str) -> None:
    assert is_fit(text)
