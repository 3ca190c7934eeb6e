"""SPIFFE IDs: the parser, the audience of an intent and the names in a token against the standard's grammar.

The oracles: a grammar written from SPIFFE-ID section 2, and py-spiffe. All of them must draw the same line, else one
name would be somebody at one place and nobody at another.
"""

import re
from typing import Final

from spiffe import SpiffeId as Theirs
from spiffe.errors import PySpiffeError

from broker.credential import claims
from broker.errors import Reason, Refusal
from broker.intent import Intent, Resource
from broker.svid.spiffe_id import SpiffeId
from tests.fuzz.targets import text_of

SEEDS: Final = tuple(
    text.encode()
    for text in (
        "spiffe://example.org",
        "spiffe://example.org/agent/support-assistant",
        "spiffe://example.org/a/b.c_D-9/...",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/./b",
        "spiffe://example.org//b",
        "spiffe://example.org/b/",
        "spiffe://EXAMPLE.org/b",
        "SPIFFE://example.org/b",
        "spiffe://user@example.org:443/b?q#f",
        "spiffe://example.org/%61",
        "spiffe://exämple.org/b",
        "spiffe:///b",
        "spiffe://" + "a" * 256,
        "spiffe://example.org/" + "a" * 2030,
        "spiffe://example.org/a\n",
        "spiffe://example.org/\u0130\u212a",
    )
)
# SPIFFE-ID 2.1: lower-case letters, digits, dots, dashes, underscores. 2.2: segments of letters, digits, dots, dashes
# and underscores, none empty, none a dot segment, no slash at the end. 2.3: at most 2048 bytes, the trust domain 255.
_GRAMMAR: Final = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[a-zA-Z0-9._-]+)*)", re.ASCII)


def one(data: bytes) -> None:
    """Hold one text against all of them."""
    text = text_of(data)
    wanted = _by_the_standard(text)
    found = _ours(text)
    assert found == wanted, (text, found, wanted)
    # py-spiffe's expressions end with "$", which takes a line end for the end; nothing here judges by it.
    assert _by_py_spiffe(text) == (wanted is not None) or "\n" in text, text
    with_path = bool(wanted and wanted[1])
    assert _is_audience(text) == with_path, text
    assert bool(re.fullmatch(claims._SPIFFE_ID, text)) == with_path, text


def _by_the_standard(text: str) -> tuple[str, str] | None:
    match = _GRAMMAR.fullmatch(text)
    if match is None or len(text.encode("utf-8", "surrogatepass")) > 2048:
        return None
    segments = match[2].split("/")
    return None if "." in segments or ".." in segments else (match[1], match[2])


def _ours(text: str) -> tuple[str, str] | None:
    try:
        parsed = SpiffeId.parse(text)
    except Refusal as refusal:
        assert refusal.reason is Reason.SVID_ID_INVALID
        return None
    assert str(parsed) == text
    assert parsed == SpiffeId.parse(text)
    return parsed.trust_domain, parsed.path


def _by_py_spiffe(text: str) -> bool:
    try:
        return str(Theirs(text)) == text and len(text) <= 2048 and len(Theirs(text).trust_domain.name) <= 255
    except PySpiffeError:
        return False


def _is_audience(text: str) -> bool:
    try:
        Intent(action="a", resource=Resource(type="a", id="1"), purpose="p", audience=text)
    except Refusal as refusal:
        assert (refusal.reason, refusal.detail) == (Reason.INTENT_NAME_INVALID, "audience")
        return False
    return True
