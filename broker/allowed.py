"""What the texts of a configuration may be; each check says what puts a wrong one right."""

import re
from typing import Final
from urllib.parse import urlsplit

from broker.errors import Refusal
from broker.policy.persons import is_issuer
from broker.svid.spiffe_id import SpiffeId

MAX_PORT: Final = 65535
# (uid_t)-1 means "leave it as it is" to the kernel, and would leave a half root.
MAX_UID: Final = 2**32 - 2
_CLAIM_TEXT: Final = re.compile(r"[!-~]{1,255}")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?")


def spiffe_id(text: str) -> str:
    """Return a SPIFFE ID with a path; raises ValueError, which says what it has to be."""
    try:
        parsed = SpiffeId.parse(text)
    except Refusal as refusal:
        raise ValueError("not a SPIFFE ID such as spiffe://example.org/broker") from refusal
    if not parsed.path:
        raise ValueError("a bare trust domain; give the broker's own ID, such as spiffe://example.org/broker")
    return text


def issuer(text: str) -> str:
    """Return the broker's own name as an issuer; raises ValueError, which says what it has to be."""
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or text.endswith("/"):
        raise ValueError("an https URL without query, fragment or trailing slash, such as https://broker.example.org")
    return text


def address(text: str) -> str:
    """Return a host and a port; raises ValueError, which says what it has to be."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise ValueError("host:port, such as 127.0.0.1:8443 or [::1]:8443")
    return text


def socket(text: str) -> str:
    """Return a unix socket; raises ValueError, which says what it has to be."""
    if not text.startswith("unix:"):
        raise ValueError("unix: and an absolute path, such as unix:/run/spire/agent.sock")
    return text


def store_url(text: str) -> str:
    """Return where the store is; raises ValueError, which says what it has to be."""
    if not text.startswith("sqlite:///"):
        raise ValueError("sqlite:/// and a path, such as sqlite:////var/lib/broker/broker.sqlite3")
    return text


def identity_issuer(text: str) -> str:
    """Return an issuer of identity tokens; raises ValueError, which says what it has to be."""
    if not is_issuer(text):
        raise ValueError("an https URL without query or fragment, exactly as its tokens have it in iss")
    return text


def claim_text(text: str) -> str:
    """Return text as it stands in tokens; raises ValueError, which says what it has to be."""
    if not _CLAIM_TEXT.fullmatch(text):
        raise ValueError("1 to 255 characters of ASCII, exactly as tokens have it")
    return text


def text_of(user: object) -> object:
    """Return a number of TOML's as text, too."""
    return str(user) if isinstance(user, int) and not isinstance(user, bool) else user


def user(text: str) -> str:
    """Return a user who is not root; raises ValueError, which says what it has to be."""
    if not _USER.fullmatch(text):
        raise ValueError('the name of a user, such as "broker-issuer", or a number, such as 990')
    if text.isdigit() and (int(text) > MAX_UID or text != str(int(text))):
        raise ValueError(f"a number from 1 to {MAX_UID}, without leading zeros")
    if text in {"0", "root"}:
        raise ValueError("not root, who may read and change everything; name a user of its own, such as broker-issuer")
    return text
