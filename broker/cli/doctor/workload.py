"""Workload: one look at what the SPIRE agent gives to this process, errors and all.

`link.source` waits, retries and chooses, as a broker must; a doctor asks once and wants to see everything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import grpc
from cryptography.hazmat.primitives import serialization
from spiffe import TrustDomain, X509Bundle, X509Svid
from spiffe._proto import workload_pb2, workload_pb2_grpc
from spiffe.errors import PySpiffeError

from broker.svid.principal import TrustBundles

_METADATA = (("workload.spiffe.io", "true"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One SVID as the agent gave it; `defect` says why it cannot be read, and then there are no certificates."""

    spiffe_id: str
    hint: str
    leaf: bytes = field(default=b"", repr=False)
    chain: bytes = field(default=b"", repr=False)
    defect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An answer of the Workload API."""

    offers: tuple[Offer, ...]
    bundles: TrustBundles

    def own(self, spiffe_id: str) -> tuple[Offer, ...]:
        """Return the SVIDs of this ID."""
        return tuple(offer for offer in self.offers if offer.spiffe_id == spiffe_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotGiven:
    """No answer, or a "no"; `denied` when the agent knows no entry for this process."""

    denied: bool
    detail: str


def fetch(socket: str, seconds: float) -> Given | NotGiven:
    """Ask the Workload API once.

    Args:
        socket: unix:/path.
        seconds: to wait for the answer.

    """
    with grpc.insecure_channel(socket) as channel:
        stub = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)  # type: ignore[no-untyped-call]
        call = stub.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=_METADATA, timeout=seconds)
        try:
            return _given(next(iter(call)))
        except StopIteration:
            return NotGiven(denied=False, detail="the stream ended without an answer")
        except grpc.RpcError as error:
            return NotGiven(
                denied=error.code() is grpc.StatusCode.PERMISSION_DENIED,
                detail=f"{error.code().name}: {error.details()}",
            )
        finally:
            call.cancel()


def _given(answer: workload_pb2.X509SVIDResponse) -> Given:
    bundles = {svid.spiffe_id: svid.bundle for svid in answer.svids} | dict(answer.federated_bundles)
    authorities = {}
    for name, content in bundles.items():
        domain = name.removeprefix("spiffe://").partition("/")[0]
        try:
            found = X509Bundle.parse_raw(TrustDomain(domain), content).x509_authorities
        except PySpiffeError:
            continue  # a bundle that cannot be read vouches for nobody; the checks find it missing
        authorities[domain] = tuple(sorted(found, key=lambda authority: authority.serial_number))
    trust: Mapping[str, tuple[object, ...]] = MappingProxyType(authorities)
    return Given(
        offers=tuple(_offer(svid) for svid in answer.svids),
        bundles=TrustBundles(authorities=trust, epoch=1),  # type: ignore[arg-type]  # py-spiffe's are certificates
    )


def _offer(given: workload_pb2.X509SVID) -> Offer:
    try:
        svid = X509Svid.parse_raw(given.x509_svid, given.x509_svid_key)
    except PySpiffeError as error:
        return Offer(spiffe_id=given.spiffe_id, hint=given.hint, defect=str(error))
    leaf, *chain = [certificate.public_bytes(serialization.Encoding.PEM) for certificate in svid.cert_chain]
    return Offer(spiffe_id=given.spiffe_id, hint=given.hint, leaf=leaf, chain=b"".join(chain))
