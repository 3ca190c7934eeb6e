"""Revoke and LiftRevocation: from the commit on, no new grant under the rule, and what lives under it is dead."""

from dataclasses import dataclass, replace

from broker.audit.event import Decided, Entry, RevocationLifted, RevocationMade
from broker.credential.revocation import Revocation, Rule, RuleKind
from broker.errors import Reason, Refusal
from broker.operations.attempt import Attempt, Visit
from broker.operations.calls import Ended, LiftCall, RevokeCall
from broker.operations.record import position_of, ranges_by_audience
from broker.policy.decision import Target, TargetKind
from broker.store.interface import AddRevocation, Effects, Item, LiftRevocation, RevocationInForce


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    """Puts a rule in force."""

    attempt: Attempt

    def __call__(self, call: RevokeCall) -> Ended:
        """Return what it ended, durable by then."""
        return self.attempt(call.context, "revoke", lambda visit: self._revoke(visit, call))

    def _revoke(self, visit: Visit, call: RevokeCall) -> Ended:
        target, known = self._target(call.rule)
        decided = self.attempt.allowed(visit, "broker.revoke", target)
        if not known:
            raise Refusal(_UNKNOWN[call.rule.kind])
        revocation = Revocation(
            id=self.attempt.new_id("rev"),
            rule=call.rule,
            tenant=target.tenant,
            at=visit.now,
            by=str(visit.principal.spiffe_id),
        )

        approvals = tuple(self.attempt.recorder.store.approvals_under(call.rule, visit.now))

        def entry(revoked: Effects) -> Entry:
            made = _made(visit, decided, revocation, call.text, revoked)
            return self.attempt.recorder.entry(replace(made, approvals=approvals))

        answer = self.attempt.commit(Item(writes=(AddRevocation(revocation=revocation),), accepted=entry))
        return Ended(position=position_of(answer), revoked=len(answer.revoked), revocation=revocation.id)

    def _target(self, rule: Rule) -> tuple[Target, bool]:
        """Return what policy is asked about, and whether there is such a thing.

        What is unknown belongs to no tenant, so only who may revoke anything learns that it is unknown.
        """
        store, policy = self.attempt.recorder.store, self.attempt.policy()
        tenant = ""
        match rule.kind:
            case RuleKind.CREDENTIAL:
                grant = store.grant(rule.name)
                known, tenant = grant is not None, grant.tenant if grant else ""
            case RuleKind.TASK:
                task = store.task(rule.name)
                known, tenant = task is not None, task.tenant if task else ""
            case RuleKind.AGENT:
                agent = policy.agent(rule.name)
                tenant = agent.tenants[0] if agent and len(agent.tenants) == 1 else ""
                known = policy.knows(TargetKind.AGENT, rule.name) or store.has_live_grants(rule)
            case RuleKind.TENANT:
                known, tenant = policy.knows(TargetKind.TENANT, rule.name) or store.has_live_grants(rule), rule.name
            case RuleKind.POLICY:
                known = policy.knows(TargetKind.POLICY, rule.name) or store.has_live_grants(rule)
        return Target(kind=TargetKind(rule.kind.value), id=rule.name, tenant=tenant), known


_UNKNOWN = {
    RuleKind.CREDENTIAL: Reason.CREDENTIAL_UNKNOWN,
    RuleKind.TASK: Reason.TASK_UNKNOWN,
    RuleKind.AGENT: Reason.REVOCATION_TARGET_UNKNOWN,
    RuleKind.TENANT: Reason.REVOCATION_TARGET_UNKNOWN,
    RuleKind.POLICY: Reason.REVOCATION_TARGET_UNKNOWN,
}


def _made(visit: Visit, decided: Decided, revocation: Revocation, text: str, revoked: Effects) -> RevocationMade:
    return RevocationMade(
        at=visit.now,
        caller=visit.caller,
        decided=decided,
        revocation=revocation.id,
        rule=revocation.rule.kind.value,
        name=revocation.rule.name,
        tenant=revocation.tenant,
        text=text,
        revoked=len(revoked),
        status_indexes=ranges_by_audience(revoked),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Takes a rule out of force; what it revoked stays revoked."""

    attempt: Attempt

    def __call__(self, call: LiftCall) -> Ended:
        """Return where it is recorded, durable by then."""
        return self.attempt(call.context, "lift_revocation", lambda visit: self._lift(visit, call))

    def _lift(self, visit: Visit, call: LiftCall) -> Ended:
        revocation = self.attempt.recorder.store.revocation(call.revocation)
        rule = revocation.rule if revocation else Rule(kind=RuleKind.CREDENTIAL, name="")
        tenant = revocation.tenant if revocation else ""
        target = Target(kind=TargetKind(rule.kind.value), id=rule.name, tenant=tenant)
        decided = self.attempt.allowed(visit, "broker.lift_revocation", target)
        if revocation is None:
            raise Refusal(Reason.REVOCATION_UNKNOWN)
        event = RevocationLifted(
            at=visit.now, caller=visit.caller, decided=decided, revocation=revocation.id, tenant=tenant, text=call.text
        )
        entry = self.attempt.recorder.entry(event)
        item = Item(
            guards=(RevocationInForce(revocation_id=revocation.id),),
            writes=(LiftRevocation(revocation_id=revocation.id, at=visit.now),),
            accepted=lambda _: entry,
        )
        return Ended(position=position_of(self.attempt.commit(item)), revoked=0, revocation=revocation.id)
