"""What a connection presented, what it is judged by, and the caller that is proven from both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from broker.svid.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the peer of a TLS connection presented. Nothing in it has been verified by us.

    gRPC's auth context holds exactly this (measured on grpcio 1.85.1): `x509_pem_cert` is one value, the leaf alone.
    `x509_pem_cert_chain` is one value with every FURTHER certificate the peer sent, in the order sent and without the
    leaf; the key is absent when the peer sent only its leaf. A root that the peer sends along is in it.
    `ssl_tls_version` is "TLSv1.3", `ssl_session_reused` is "true" or "false". `peer_spiffe_id` must not be used: gRPC
    fills it in for a CA certificate as well, and for IDs that another trust domain's authority has signed.

    Attributes:
        leaf: PEM of the leaf; empty when the peer presented no certificate.
        chain: PEM of the further certificates, without the leaf; may be empty.
        tls_version: as gRPC names it.
        session_reused: whether the TLS session was resumed (the certificates are then those of the first handshake).
        source: the peer's address; personal, for the audit log's erasable part only.

    """

    leaf: bytes
    chain: bytes
    tls_version: str
    session_reused: bool
    source: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller whose X.509-SVID was verified.

    Attributes:
        spiffe_id: who it is.
        thumbprint: base64url SHA-256 of the leaf's DER, without padding: the `x5t#S256` of RFC 8705.
        not_after: UTC; the earliest end in the presented chain, leaf included.
        login: how it proved itself.

    """

    spiffe_id: SpiffeId
    thumbprint: str
    not_after: datetime
    login: str = "x509"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustBundles:
    """The authorities of every trust domain that is trusted, each for its own names only.

    Attributes:
        authorities: trust domain name to the certificates that may vouch for IDs in it.
        epoch: rises with each change, so that what was verified against an older set is verified again.

    """

    authorities: Mapping[str, tuple[x509.Certificate, ...]]
    epoch: int
