"""TLS credentials of a gRPC server that follow the identity source."""

import logging
import threading
from collections.abc import Callable

import grpc
from cryptography.hazmat.primitives import serialization

from broker.link.identity import IdentityUnavailable, Snapshot
from broker.link.source import IdentitySource

_log = logging.getLogger(__name__)


def server_credentials(
    source: IdentitySource,
    *,
    on_handshake: Callable[[], None],
    on_failure: Callable[[], None],
) -> grpc.ServerCredentials:
    """Make credentials that demand a client certificate and rotate by themselves.

    The client certificates are checked against ALL bundles in one pool, because gRPC knows no other way, and TLS 1.2
    is accepted, because gRPC cannot be told not to: `svid.authenticate` closes both on every RPC. Connections that are
    open when a certificate or an authority changes stay open.

    Args:
        source: of leaf and bundles.
        on_handshake: called for every handshake that begins, on a thread of gRPC's.
        on_failure: called when a change could not be taken over; the credentials before it stay in use, which gRPC
            itself would not tell anybody.

    Raises:
        IdentityUnavailable: there is no identity to begin with.

    """
    changed = threading.Event()
    # Before the first read, so that no change falls between the two.
    source.subscribe(changed.set)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        on_handshake()
        if not changed.is_set():
            return None
        changed.clear()
        try:
            return _configuration(source.snapshot())
        except Exception:  # noqa: BLE001 - gRPC would swallow it, whatever it is
            changed.set()
            _log.exception("the server's TLS credentials could not be renewed; the ones before stay in use")
            on_failure()
            return None

    return grpc.dynamic_ssl_server_credentials(
        _configuration(source.snapshot()),
        fetch,  # type: ignore[arg-type]  # None means "no change", which the stubs do not know
        require_client_authentication=True,
    )


def _configuration(snapshot: Snapshot) -> grpc.ServerCertificateConfiguration:
    authorities = [authority for found in snapshot.bundles.authorities.values() for authority in found]
    if not authorities:
        raise IdentityUnavailable("The Workload API gave no trust bundle.", fix="Check the SPIRE agent.")
    roots = b"".join(authority.public_bytes(serialization.Encoding.PEM) for authority in authorities)
    identity = snapshot.identity
    return grpc.ssl_server_certificate_configuration([(identity.private_key, identity.certificate_chain)], roots)
