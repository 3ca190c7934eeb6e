"""Step 0 of every verb, everywhere: who calls, and may anyone of that name be served at all.

What people have stopped comes first, before any rule and any policy. It stops agents and what is done in their name.
Operators and the services that check credentials go on: somebody must be able to look, to stop more and to lift, and
services must hear what was revoked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.credential.revocation import Rule, RuleKind
from broker.errors import Reason, Refusal
from broker.override import Stop
from broker.policy.bundle import CompiledPolicy
from broker.policy.entities import Agent
from broker.store.interface import Store
from broker.svid.authenticate import Authenticator
from broker.svid.principal import Evidence, Principal, TrustBundles


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Lets a caller in, or refuses.

    Attributes:
        authenticator: the X.509-SVID checks.
        trust: the trust bundles as they are now.
        store: knows the overrides and revocations in force.
        policy: the active bundle, which says who is what; raises Refusal POLICY_UNAVAILABLE when there is none.

    """

    authenticator: Authenticator
    trust: Callable[[], TrustBundles]
    store: Store
    policy: Callable[[], CompiledPolicy]

    def identify(self, evidence: Evidence, now: datetime) -> Principal:
        """Return who calls.

        Raises:
            Refusal: TLS_*, SVID_*, TRUST_UNAVAILABLE.

        """
        return self.authenticator.authenticate(evidence, self.trust(), now)

    def admit(self, principal: Principal) -> None:
        """Return when this caller may be served at all.

        Raises:
            Refusal: OVERRIDE_IN_FORCE, AGENT_REVOKED.

        """
        who = str(principal.spiffe_id)
        stops = self._stops()
        if stops:
            self._require_going(who, stops)
        if self.store.is_revoked([Rule(kind=RuleKind.AGENT, name=who)]):
            raise Refusal(Reason.AGENT_REVOKED)

    def admit_act(self, *, agent: str, tenant: str, action: str) -> None:
        """Return when nobody has stopped what an agent wants to do; who has passed `admit` is asked this as well.

        Args:
            agent: SPIFFE ID.
            tenant: empty when none is settled yet.
            action: as the intent names it.

        Raises:
            Refusal: OVERRIDE_IN_FORCE.

        """
        stops = self._stops()
        if stops:
            kind = self.class_of(action)
            _refuse_if(
                [stop for stop in stops if stop.covers(agent=agent, tenant=tenant, action=action, action_class=kind)]
            )

    def class_of(self, action: str) -> str:
        """Return the class of an action; empty when nobody knows it, which every stopped class covers."""
        policy = self._policy()
        known = policy.actions.get(action) if policy else None
        return known.action_class.value if known else ""

    def _stops(self) -> Sequence[Stop]:
        return [override.stop for override in self.store.overrides()]

    def _require_going(self, who: str, stops: Sequence[Stop]) -> None:
        policy = self._policy()
        if policy is None and who in {each.spiffe_id for each in self.store.stoppers()}:
            return
        known = policy.register.principal(who) if policy else None
        if known is not None and not isinstance(known, Agent):
            return
        # An agent of several tenants is stopped as a whole once each of them is; until then, act by act.
        for tenant in known.tenants if known else ("",):
            covering = [stop for stop in stops if stop.covers(agent=who, tenant=tenant)]
            if not covering:
                return
        _refuse_if(covering)

    def _policy(self) -> CompiledPolicy | None:
        try:
            return self.policy()
        except Refusal:
            return None


def _refuse_if(covering: Sequence[Stop]) -> None:
    if covering:
        raise Refusal(Reason.OVERRIDE_IN_FORCE, covering[0].kind.value)
