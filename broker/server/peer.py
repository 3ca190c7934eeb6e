"""Peer: what the TLS session presented, as Evidence, and an identity token that came along. Nothing is judged here."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from broker.credential.token import Token
from broker.errors import Reason, Refusal
from broker.person.identity_token import MAX_TOKEN_LENGTH
from broker.svid.principal import Evidence

# No SVID is that long; what is, is replaced by text that is not a certificate, and refused as malformed by the issuer.
_MAX_CERTIFICATES: Final = 64 * 1024
_OVERLONG: Final = b"overlong"
# RFC 6750 section 2.1; the scheme's case does not count (RFC 9110 section 11.1).
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")


class Connection(Protocol):
    """The part of a servicer's context that says who is at the other end."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what the security handshake established."""
        ...

    def peer(self) -> str:
        """Return the peer's address."""
        ...


def evidence_of(connection: Connection) -> Evidence:
    """Return what the peer presented; empty where it presented nothing (no TLS, or no certificate)."""
    presented = connection.auth_context()
    leaf, chain = _first(presented, "x509_pem_cert"), _first(presented, "x509_pem_cert_chain")
    if len(leaf) + len(chain) > _MAX_CERTIFICATES:
        leaf, chain = _OVERLONG, b""
    return Evidence(
        leaf=leaf,
        chain=chain,
        tls_version=_first(presented, "ssl_tls_version").decode("ascii", "replace"),
        session_reused=_first(presented, "ssl_session_reused") == b"true",
        source=connection.peer(),
    )


def identity_token_of(metadata: Iterable[tuple[str, str | bytes]]) -> Token | None:
    """Return the token of `authorization: Bearer`; None when nothing of that name was sent.

    Raises:
        Refusal: IDENTITY_TOKEN_REFUSED, something else of that name was sent, or several, or it is too long.

    """
    values = [value for key, value in metadata if key == "authorization"]
    if not values:
        return None
    if len(values) != 1 or not isinstance(values[0], str):
        raise Refusal(Reason.IDENTITY_TOKEN_REFUSED, "authorization: more than one")
    found = _BEARER.fullmatch(values[0])
    if found is None:
        raise Refusal(Reason.IDENTITY_TOKEN_REFUSED, "authorization: not Bearer and a token")
    if len(found[1]) > MAX_TOKEN_LENGTH:
        raise Refusal(Reason.IDENTITY_TOKEN_REFUSED, "size")
    return Token(found[1], credential_id="a person")


def _first(presented: Mapping[str, Iterable[bytes]], key: str) -> bytes:
    return next(iter(presented.get(key, ())), b"")
