"""A SPIFFE ID by the standard's grammar and nothing more.

The rules are those of SPIFFE-ID sections 2, 2.1 (trust domain name), 2.2 (path) and 2.3 (length). The parser works on
the text as it stands: it never decodes, folds case or normalises, so two different texts are two different IDs.
"""

import string
from dataclasses import dataclass, field
from typing import Self

from broker.errors import Reason, Refusal

MAX_ID_LENGTH = 2048
MAX_TRUST_DOMAIN_LENGTH = 255

_SCHEME = "spiffe://"
_TRUST_DOMAIN_CHARACTERS = frozenset(string.ascii_lowercase + string.digits + "._-")
_SEGMENT_CHARACTERS = frozenset(string.ascii_letters + string.digits + "._-")
_DOT_SEGMENTS = frozenset({".", ".."})


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A SPIFFE ID that has been parsed; there is no other way to have one.

    Attributes:
        text: the ID as it stands in the SVID, at most 2048 ASCII characters.
        trust_domain: the trust domain's name, without scheme.
        path: "" for a bare trust domain, else "/" and segments.

    Raises:
        Refusal: SVID_ID_INVALID, when the text is not a SPIFFE ID.

    """

    text: str
    trust_domain: str = field(init=False, compare=False, repr=False)
    path: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        trust_domain, path = _parts(self.text)
        object.__setattr__(self, "trust_domain", trust_domain)
        object.__setattr__(self, "path", path)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a SPIFFE ID.

        Raises:
            Refusal: SVID_ID_INVALID, with the rule that is broken.

        """
        return cls(text)

    def __str__(self) -> str:
        return self.text


def _parts(text: str) -> tuple[str, str]:
    """Split into trust domain and path, each checked."""
    if len(text) > MAX_ID_LENGTH:
        raise _invalid("longer than 2048 bytes")
    if not text.startswith(_SCHEME):
        raise _invalid("the scheme is not spiffe://")
    trust_domain, slash, rest = text.removeprefix(_SCHEME).partition("/")
    _check_trust_domain(trust_domain)
    if not slash:
        return trust_domain, ""
    for segment in rest.split("/"):
        _check_segment(segment)
    return trust_domain, "/" + rest


def _check_trust_domain(name: str) -> None:
    # The set holds no ":", "@", "?", "#" or "%": neither port, userinfo, query, fragment nor percent-encoding.
    if not name:
        raise _invalid("no trust domain")
    if len(name) > MAX_TRUST_DOMAIN_LENGTH:
        raise _invalid("trust domain longer than 255 bytes")
    if not _TRUST_DOMAIN_CHARACTERS.issuperset(name):
        raise _invalid("a character that trust domain names do not have")


def _check_segment(segment: str) -> None:
    if not segment:
        raise _invalid("an empty path segment or a trailing slash")
    if segment in _DOT_SEGMENTS:
        raise _invalid("a relative path segment")
    if not _SEGMENT_CHARACTERS.issuperset(segment):
        raise _invalid("a character that path segments do not have")


def _invalid(detail: str) -> Refusal:
    return Refusal(Reason.SVID_ID_INVALID, detail)
