"""Evidence, trust bundles and the time give a principal, or a refusal.

Nothing that TLS or gRPC verified is relied on. gRPC knows one pool of roots, so every federated authority could
vouch for every name; it goes on serving a connection, or resumes a session, after the SVID's end; and it accepts leaves
that may sign. Hence the whole judgement is made here, on every call.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from threading import Lock

from cryptography.x509 import verification

from broker.errors import Reason, Refusal
from broker.svid.leaf import UnverifiedSvid, examine
from broker.svid.principal import Evidence, Principal, TrustBundles
from broker.svid.spiffe_id import SpiffeId

MAX_CHAIN_DEPTH = 4
REMEMBERED = 1024
TLS_VERSION = "TLSv1.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class _PathKey:
    """What a verified path depends on, apart from the time."""

    leaf: bytes
    chain: bytes
    epoch: int


class SvidVerifier:
    """Verifies X.509-SVIDs of callers and of servers; remembers what it has verified.

    Only what cannot change is remembered: the form of the very bytes presented, and that a path from them to a bundle
    exists. The time, and the epoch of the bundles, are looked at on every call. One verifier judges by the bundles of
    one source, because epochs of different sources cannot be compared. Threads may share a verifier.
    """

    def __init__(self, *, remembered: int = REMEMBERED) -> None:
        self._form = lru_cache(maxsize=remembered)(_form)
        self._paths: OrderedDict[_PathKey, datetime] = OrderedDict()
        self._remembered = remembered
        self._lock = Lock()

    def verify(self, leaf: bytes, chain: bytes, bundles: TrustBundles, now: datetime) -> Principal:
        """Verify an X.509-SVID for authentication (X509-SVID section 5).

        Args:
            leaf: PEM of the leaf.
            chain: PEM of the further certificates that the peer sent, may be empty.
            bundles: what is trusted now.
            now: UTC.

        Raises:
            Refusal: an SVID_* reason, or TRUST_UNAVAILABLE.

        """
        # 1. Form: one URI SAN, a strict SPIFFE ID with a path, a leaf that cannot sign (X509-SVID 2, 3.1, 4, 5.2).
        svid = self._form(leaf, chain)
        if isinstance(svid, Refusal):
            raise Refusal(svid.reason, svid.detail)  # anew: a remembered one would gather tracebacks
        # 2. Time, also on an old connection or a resumed session (RFC 5280 6.1.3 (a)(2)).
        _check_time(svid, now)
        # 3. Path to the bundle of the ID's own trust domain and of no other (X509-SVID 5.1, Workload API 4.6).
        self._check_path(svid, _PathKey(leaf=leaf, chain=chain, epoch=bundles.epoch), bundles, now)
        return Principal(spiffe_id=svid.spiffe_id, thumbprint=svid.thumbprint, not_after=svid.not_after)

    def _check_path(self, svid: UnverifiedSvid, key: _PathKey, bundles: TrustBundles, now: datetime) -> None:
        with self._lock:
            until = self._paths.get(key)
            if until is not None and now < until:
                self._paths.move_to_end(key)
                return
        until = _verify_path(svid, bundles, now)
        with self._lock:
            self._paths[key] = until
            self._paths.move_to_end(key)
            while len(self._paths) > self._remembered:
                self._paths.popitem(last=False)


class Authenticator:
    """Says who calls. For the broker, and for any service that guards itself with the same checks.

    Args:
        own_id: the ID of who authenticates; nobody else may come with it.

    """

    def __init__(self, *, own_id: SpiffeId) -> None:
        self._own_id = own_id
        self._verifier = SvidVerifier()

    def authenticate(self, evidence: Evidence, bundles: TrustBundles, now: datetime) -> Principal:
        """Say who presented this evidence. Called for every RPC, and again while a stream lasts.

        Raises:
            Refusal: TLS_VERSION_REFUSED, an SVID_* reason, or TRUST_UNAVAILABLE.

        """
        # 1. TLS 1.3 only; gRPC's server accepts 1.2 and cannot be told not to.
        if evidence.tls_version != TLS_VERSION:
            raise Refusal(Reason.TLS_VERSION_REFUSED)
        # 2. The SVID itself (X509-SVID 5.1 and 5.2).
        principal = self._verifier.verify(evidence.leaf, evidence.chain, bundles, now)
        # 3. Whoever authenticates is nobody's caller: an agent registered under its ID would be a second broker.
        if principal.spiffe_id == self._own_id:
            raise Refusal(Reason.SVID_IS_BROKER)
        return principal


def _form(leaf: bytes, chain: bytes) -> UnverifiedSvid | Refusal:
    """Examine, with the refusal as a value, so that it is remembered too: a bad certificate is parsed once."""
    try:
        return examine(leaf, chain)
    except Refusal as refusal:
        return Refusal(refusal.reason, refusal.detail)


def _check_time(svid: UnverifiedSvid, now: datetime) -> None:
    if now < svid.not_before:
        raise Refusal(Reason.SVID_NOT_YET_VALID)
    if now >= svid.not_after:
        raise Refusal(Reason.SVID_EXPIRED)


def _verify_path(svid: UnverifiedSvid, bundles: TrustBundles, now: datetime) -> datetime:
    """Find a path to the ID's own bundle; return until when it holds, the authority included."""
    if not bundles.authorities:
        raise Refusal(Reason.TRUST_UNAVAILABLE)
    authorities = bundles.authorities.get(svid.spiffe_id.trust_domain)
    if not authorities:
        raise Refusal(Reason.SVID_TRUST_DOMAIN_UNKNOWN)
    # The client verifier serves for servers as well: the server verifier would demand a DNS name, an SVID carries both
    # purposes (X509-SVID 4.4), and the name that counts is the SPIFFE ID.
    try:
        store = verification.Store(list(authorities))
        policy = verification.PolicyBuilder().store(store).time(now).max_chain_depth(MAX_CHAIN_DEPTH)
        verified = policy.build_client_verifier().verify(svid.leaf, list(svid.intermediates))
    except Exception as error:
        # VerificationError, and whatever a parser raises on the way: see examine().
        raise Refusal(Reason.SVID_CHAIN_INVALID, type(error).__name__) from error
    return min(certificate.not_valid_after_utc for certificate in verified.chain)
