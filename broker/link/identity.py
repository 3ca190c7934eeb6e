"""The process's own identity as plain values, and how it is chosen when the Workload API gives several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from cryptography.hazmat.primitives import serialization
from spiffe import X509Svid

from broker.svid.leaf import thumbprint_of
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId


class IdentityUnavailable(Exception):
    """This process has no identity to act with.

    Args:
        message: what is the case.
        fix: what a person can do about it, in one sentence.

    """

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(f"{message} {fix}")
        self.message = message
        self.fix = fix


class IdentityAmbiguous(IdentityUnavailable):
    """There are several SVIDs and nothing says which one is wanted; waiting does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One X.509-SVID of this process, with its key.

    Attributes:
        spiffe_id: who this process is.
        certificate_chain: PEM, leaf first.
        private_key: PEM (PKCS #8, not encrypted); not in the repr.
        not_after: UTC; the earliest end in the chain.
        thumbprint: base64url SHA-256 of the leaf's DER, without padding.

    """

    spiffe_id: SpiffeId
    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    not_after: datetime
    thumbprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Identity and bundles of one and the same Workload API message."""

    identity: Identity
    bundles: TrustBundles


class IdentitySupply(Protocol):
    """What TLS is made from: IdentitySource, or a stand-in."""

    def identity(self) -> Identity:
        """Return the current identity, or raise IdentityUnavailable."""
        ...

    def bundles(self) -> TrustBundles:
        """Return the current trust bundles; no authorities when there are none."""
        ...


@runtime_checkable
class ChangingSupply(IdentitySupply, Protocol):
    """A supply that says when it has changed."""

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have a callback called, on any thread, after each change; returns what ends that."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One SVID out of a Workload API message, with the operator's hint ("" without)."""

    svid: X509Svid
    hint: str


def choose(offers: Sequence[Offer], *, spiffe_id: str | None, hint: str | None) -> X509Svid:
    """Take the SVID that was named; never guess (the Workload API's "default" is merely the first).

    Raises:
        IdentityAmbiguous: several, and none named.
        IdentityUnavailable: none of them is the one that was named.

    """
    named = [
        offer
        for offer in offers
        if (spiffe_id is None or str(offer.svid.spiffe_id) == spiffe_id) and (hint is None or offer.hint == hint)
    ]
    listed = ", ".join(f"{offer.svid.spiffe_id} (hint {offer.hint!r})" for offer in offers)
    if not named:
        wanted = " with ".join(filter(None, (spiffe_id, hint and f"hint {hint!r}")))
        raise IdentityUnavailable(
            f"The Workload API gives {listed or 'nothing'}, but not {wanted or 'an SVID'}.",
            fix="Name one of these, or create a registration entry for the one you want.",
        )
    # Workload API 5.2.1: among several with one hint, the first. Without any name there is nothing to go by.
    if len(named) > 1 and hint is None:
        raise IdentityAmbiguous(
            f"This workload has several SVIDs: {listed}.",
            fix="Name the one to use by spiffe_id, or by hint.",
        )
    return named[0].svid


def identity_of(svid: X509Svid) -> Identity:
    """Turn py-spiffe's SVID into plain values."""
    chain = svid.cert_chain
    return Identity(
        spiffe_id=SpiffeId.parse(str(svid.spiffe_id)),
        certificate_chain=b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain),
        private_key=svid.private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        not_after=min(certificate.not_valid_after_utc for certificate in chain),
        thumbprint=thumbprint_of(svid.leaf),
    )
