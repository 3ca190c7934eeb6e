"""SPIFFE IDs: the grammar of the standard, and nothing more."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import Reason, Refusal
from broker.svid.spiffe_id import SpiffeId

# Written from SPIFFE-ID 2.1 to 2.3 without a look at the parser.
ORACLE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|\Z))[a-zA-Z0-9._-]+)*\Z", re.ASCII)

GOOD = {
    "workload": ("spiffe://example.org/agent", "example.org", "/agent"),
    "bare-trust-domain": ("spiffe://example.org", "example.org", ""),
    "deep": ("spiffe://example.org/ns/prod/sa/web", "example.org", "/ns/prod/sa/web"),
    "path-keeps-case": ("spiffe://example.org/NS/Prod", "example.org", "/NS/Prod"),
    "underscore-and-dash": ("spiffe://a_b-c.d/x_y-z.0", "a_b-c.d", "/x_y-z.0"),
    "address-as-name": ("spiffe://10.0.0.1/a", "10.0.0.1", "/a"),
    "dots-within-a-segment": ("spiffe://example.org/..a/b../...", "example.org", "/..a/b../..."),
    "trust-domain-of-255": (f"spiffe://{'a' * 255}/x", "a" * 255, "/x"),
    "length-2048": ("spiffe://a/" + "b" * 2037, "a", "/" + "b" * 2037),
}

BAD = {
    "empty": "",
    "scheme-only": "spiffe://",
    "scheme-upper-case": "SPIFFE://example.org/a",
    "scheme-mixed-case": "Spiffe://example.org/a",
    "scheme-https": "https://example.org/a",
    "scheme-prefix": "spiffes://example.org/a",
    "scheme-one-slash": "spiffe:/example.org/a",
    "scheme-three-slashes": "spiffe:///a",
    "leading-space": " spiffe://example.org/a",
    "trailing-newline": "spiffe://example.org/a\n",
    "trailing-nul": "spiffe://example.org/a\0",
    "D2-trust-domain-upper-case": "spiffe://Example.org/a",
    "trust-domain-port": "spiffe://example.org:8443/a",
    "trust-domain-empty-port": "spiffe://example.org:/a",
    "trust-domain-userinfo": "spiffe://user@example.org/a",
    "trust-domain-password": "spiffe://user:pw@example.org/a",
    "trust-domain-ipv6": "spiffe://[::1]/a",
    "trust-domain-percent": "spiffe://example%2eorg/a",
    "trust-domain-unicode": "spiffe://exämple.org/a",
    "trust-domain-cyrillic-twin": "spiffe://ex\u0430mple.org/a",
    "trust-domain-fullwidth-dot": "spiffe://example\uff0eorg/a",
    "trust-domain-kelvin-sign": "spiffe://\u212a8s.example/a",
    "trust-domain-arabic-digit": "spiffe://example\u0663/a",
    "trust-domain-256": f"spiffe://{'a' * 256}/x",
    "query": "spiffe://example.org/a?b",
    "query-on-trust-domain": "spiffe://example.org?b",
    "fragment": "spiffe://example.org/a#b",
    "fragment-on-trust-domain": "spiffe://example.org#b",
    "D2-dot-segment": "spiffe://example.org/ns/./x",
    "D2-dot-dot-segment": "spiffe://example.org/ns/prod/../x",
    "D2-dot-dot-last": "spiffe://example.org/ns/..",
    "D2-percent-dot-dot": "spiffe://example.org/ns/%2e%2e/x",
    "D2-percent-slash": "spiffe://example.org/ns%2fprod",
    "empty-segment": "spiffe://example.org/a//b",
    "trailing-slash": "spiffe://example.org/a/",
    "trailing-slash-on-trust-domain": "spiffe://example.org/",
    "backslash": "spiffe://example.org/a\\b",
    "space": "spiffe://example.org/a b",
    "tilde": "spiffe://example.org/~a",
    "colon-in-path": "spiffe://example.org/a:b",
    "star": "spiffe://example.org/*",
    "path-unicode": "spiffe://example.org/ä",
    "path-zero-width": "spiffe://example.org/a\u200bb",
    "path-right-to-left": "spiffe://example.org/a\u202eb",
    "path-arabic-digit": "spiffe://example.org/\u0663",
    "path-surrogate": "spiffe://example.org/\ud800",
    "length-2049": "spiffe://a/" + "b" * 2038,
    "length-a-million": "spiffe://a" + "/b" * 500_000,
}


@pytest.mark.parametrize(("text", "trust_domain", "path"), GOOD.values(), ids=GOOD)
def test_parses(text: str, trust_domain: str, path: str) -> None:
    parsed = SpiffeId.parse(text)
    assert (parsed.trust_domain, parsed.path, str(parsed)) == (trust_domain, path, text)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_refuses(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        SpiffeId.parse(text)
    assert refused.value.reason is Reason.SVID_ID_INVALID
    assert text[9:] not in str(refused.value) or len(text) < 12, "a refusal repeats nothing of the input"


def test_cannot_be_built_unparsed() -> None:
    with pytest.raises(Refusal):
        SpiffeId("anything")
    parsed = SpiffeId.parse("spiffe://example.org/a")
    with pytest.raises(AttributeError):
        parsed.path = "/b"  # type: ignore[misc]  # that is the test


def test_ids_are_equal_by_their_text() -> None:
    assert SpiffeId.parse("spiffe://example.org/a") == SpiffeId.parse("spiffe://example.org/a")
    assert len({SpiffeId.parse("spiffe://example.org/a"), SpiffeId.parse("spiffe://example.org/A")}) == 2


PIECES = st.sampled_from(
    [
        "spiffe://",
        "spiffe:",
        "/",
        "//",
        ".",
        "..",
        "a",
        "Z",
        "9",
        "_",
        "-",
        "%2e",
        ":",
        "@",
        "?",
        "#",
        "\n",
        "ä",
        "\u212a",
        "~",
    ]
)
NEARLY = st.lists(PIECES, max_size=12).map("".join) | st.lists(PIECES, max_size=10).map(
    lambda rest: "spiffe://a" + "".join(rest)
)


@given(NEARLY | st.text(max_size=40) | st.from_regex(ORACLE, fullmatch=True).map(lambda text: text[:2060]))
def test_agrees_with_a_regular_expression_written_from_the_standard(text: str) -> None:
    expected = ORACLE.match(text) is not None and len(text) <= 2048
    try:
        SpiffeId.parse(text)
    except Refusal:
        assert not expected
    else:
        assert expected
