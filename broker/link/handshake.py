"""The client's side of a TLS handshake between SPIFFE workloads."""

import os
import ssl
from datetime import datetime
from enum import StrEnum

from cryptography.hazmat.primitives import serialization

from broker.link.identity import Identity, IdentityUnavailable
from broker.svid.leaf import examine
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId


class Protocol(StrEnum):
    """What is spoken over a connection, by its ALPN name (RFC 7301)."""

    HTTP_2 = "h2"
    HTTP_1_1 = "http/1.1"


class PeerRefused(Exception):
    """The server is not who it has to be, or does not speak what it has to."""


def client_context(
    identity: Identity,
    bundles: TrustBundles,
    server_id: SpiffeId,
    now: datetime,
    protocol: Protocol = Protocol.HTTP_2,
) -> ssl.SSLContext:
    """Make a context for one connection to one server.

    Only the authorities of the server's own trust domain are loaded (Workload API 4.6), so none but they can vouch for
    it. OpenSSL's host name check is off because an X.509-SVID carries its name as a URI; `check_server` stands in.

    Raises:
        IdentityUnavailable: our own SVID is over, or there is no bundle for the server's trust domain.

    """
    # A server only closes the connection on an expired client, without a word: say it here.
    if now >= identity.not_after:
        raise IdentityUnavailable(
            f"The SVID of {identity.spiffe_id} has expired.",
            fix="Check that the SPIRE agent runs and can renew it.",
        )
    authorities = bundles.authorities.get(server_id.trust_domain)
    if not authorities:
        raise IdentityUnavailable(
            f"There is no trust bundle for {server_id.trust_domain}.",
            fix=f"Federate this workload's registration entry with it (-federatesWith spiffe://{server_id.trust_domain}).",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # An authority need not be self-signed (X509-SVID 6.1: SHOULD).
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols([protocol])
    context.load_verify_locations(
        cadata=b"".join(authority.public_bytes(serialization.Encoding.DER) for authority in authorities)
    )
    load(context, identity)
    return context


def check_server(
    connection: ssl.SSLObject, server_id: SpiffeId, now: datetime, protocol: Protocol = Protocol.HTTP_2
) -> None:
    """Check who answered, before a byte is sent.

    OpenSSL has verified the path to the server's trust domain; the leaf is judged by the code that judges callers.

    Raises:
        PeerRefused: it is somebody else, out of time, or does not speak what was asked for.
        Refusal: its certificate is not an X.509-SVID.

    """
    der = connection.getpeercert(binary_form=True)
    svid = examine(ssl.DER_cert_to_PEM_cert(der).encode("ascii") if der else b"", b"")
    if svid.spiffe_id != server_id:
        raise PeerRefused(f"The server is {svid.spiffe_id}, not {server_id}.")
    if not svid.not_before <= now < svid.not_after:
        raise PeerRefused(f"The SVID of {svid.spiffe_id} has expired or is not valid yet.")
    spoken = connection.selected_alpn_protocol()
    # HTTP/1.1 is what a server speaks that knows no ALPN; HTTP/2 has to be agreed upon (RFC 9113 section 3.2).
    if spoken != protocol and not (spoken is None and protocol is Protocol.HTTP_1_1):
        raise PeerRefused(f"The server does not speak what it has to (ALPN {protocol}).")


def load(context: ssl.SSLContext, identity: Identity) -> None:
    """Load key and chain; ssl takes only paths, so they pass through memory that has one, and never through a disk."""
    descriptor = os.memfd_create("svid", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(identity.private_key + identity.certificate_chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
