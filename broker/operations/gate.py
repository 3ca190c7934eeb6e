"""Step 0 of every verb, everywhere: who calls, and may anyone of that name be served at all."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from broker.credential.revocation import Rule, RuleKind
from broker.errors import Reason, Refusal
from broker.store.interface import Store
from broker.svid.authenticate import Authenticator
from broker.svid.principal import Evidence, Principal, TrustBundles


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Lets a caller in, or refuses.

    Attributes:
        authenticator: the X.509-SVID checks.
        trust: the trust bundles as they are now.
        store: knows the revocations in force.

    """

    authenticator: Authenticator
    trust: Callable[[], TrustBundles]
    store: Store

    def identify(self, evidence: Evidence, now: datetime) -> Principal:
        """Return who calls.

        Raises:
            Refusal: TLS_*, SVID_*, TRUST_UNAVAILABLE.

        """
        return self.authenticator.authenticate(evidence, self.trust(), now)

    def admit(self, principal: Principal) -> None:
        """Return when this caller may be served at all.

        Raises:
            Refusal: AGENT_REVOKED.

        """
        if self.store.is_revoked([Rule(kind=RuleKind.AGENT, name=str(principal.spiffe_id))]):
            raise Refusal(Reason.AGENT_REVOKED)
