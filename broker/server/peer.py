"""Peer: what the TLS session presented, as Evidence. Nothing is judged here."""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from broker.svid.principal import Evidence

# No SVID is that long; what is, is replaced by text that is not a certificate, and refused as malformed by the issuer.
_MAX_CERTIFICATES: Final = 64 * 1024
_OVERLONG: Final = b"overlong"


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


def _first(presented: Mapping[str, Iterable[bytes]], key: str) -> bytes:
    return next(iter(presented.get(key, ())), b"")
