"""Workload: one look at what the SPIRE agent gives to this process, errors and all.

`link.source` waits, retries and chooses, as a broker must; a doctor asks once and wants to see everything.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from spiffe import TrustDomain, X509Bundle, X509Svid
from spiffe._proto import workload_pb2, workload_pb2_grpc
from spiffe.errors import PySpiffeError

from broker.supervisor.reach import becoming, last_line
from broker.supervisor.user import User
from broker.svid.principal import TrustBundles

_ASK: Final = "from broker.cli.doctor.workload import tell; tell()"
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


def fetch_as(user: User, socket: str, seconds: float) -> Given | NotGiven:
    """Ask the Workload API once as another user, which only root can; the private key stays in that process.

    Args:
        user: who asks.
        socket: unix:/path.
        seconds: to wait for the answer.

    """
    run = subprocess.run(
        [*becoming(user), sys.executable, "-P", "-c", _ASK, socket, str(seconds)],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        return NotGiven(denied=False, detail=f"user {user} cannot ask: {last_line(run.stderr)}")
    said = json.loads(run.stdout)
    if "detail" in said:
        return NotGiven(**said)
    authorities = {
        domain: tuple(x509.load_pem_x509_certificates(text.encode())) if text else ()
        for domain, text in said["authorities"].items()
    }
    offers = (offer | {"leaf": offer["leaf"].encode(), "chain": offer["chain"].encode()} for offer in said["offers"])
    return Given(
        offers=tuple(Offer(**offer) for offer in offers),
        bundles=TrustBundles(authorities=MappingProxyType(authorities), epoch=1),
    )


def tell() -> None:
    """Ask, and print the answer for `fetch_as`."""
    answer = fetch(sys.argv[1], float(sys.argv[2]))
    match answer:
        case NotGiven():
            said: dict[str, object] = {"denied": answer.denied, "detail": answer.detail}
        case Given():
            shown = [
                {"spiffe_id": each.spiffe_id, "hint": each.hint, "leaf": each.leaf.decode(),
                 "chain": each.chain.decode(), "defect": each.defect}
                for each in answer.offers
            ]  # fmt: skip
            pem = serialization.Encoding.PEM
            said = {
                "offers": shown,
                "authorities": {
                    domain: "".join(each.public_bytes(pem).decode() for each in authorities)
                    for domain, authorities in answer.bundles.authorities.items()
                },
            }
    json.dump(said, sys.stdout)


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
