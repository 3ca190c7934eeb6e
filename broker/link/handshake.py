"""The client's side of a TLS handshake between SPIFFE workloads."""

import os
import ssl
from datetime import datetime

from cryptography.hazmat.primitives import serialization

from broker.link.identity import Identity, IdentityUnavailable
from broker.svid.leaf import examine
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId

_ALPN = "h2"


class PeerRefused(Exception):
    """The server is not who it has to be, or does not speak what it has to."""


def client_context(identity: Identity, bundles: TrustBundles, server_id: SpiffeId, now: datetime) -> ssl.SSLContext:
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
    context.set_alpn_protocols([_ALPN])
    context.load_verify_locations(
        cadata=b"".join(authority.public_bytes(serialization.Encoding.DER) for authority in authorities)
    )
    _load(context, identity)
    return context


def check_server(connection: ssl.SSLObject, server_id: SpiffeId, now: datetime) -> None:
    """Check who answered, before a byte is sent.

    OpenSSL has verified the path to the server's trust domain; the leaf is judged by the code that judges callers.

    Raises:
        PeerRefused: it is somebody else, out of time, or without HTTP/2.
        Refusal: its certificate is not an X.509-SVID.

    """
    der = connection.getpeercert(binary_form=True)
    svid = examine(ssl.DER_cert_to_PEM_cert(der).encode("ascii") if der else b"", b"")
    if svid.spiffe_id != server_id:
        raise PeerRefused(f"The server is {svid.spiffe_id}, not {server_id}.")
    if not svid.not_before <= now < svid.not_after:
        raise PeerRefused(f"The SVID of {svid.spiffe_id} has expired or is not valid yet.")
    if connection.selected_alpn_protocol() != _ALPN:
        raise PeerRefused("The server does not speak HTTP/2 (ALPN h2).")


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    """Load key and chain; ssl takes only paths, so they pass through memory that has one, and never through a disk."""
    descriptor = os.memfd_create("svid", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(identity.private_key + identity.certificate_chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
