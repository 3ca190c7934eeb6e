"""Impose, lift and list overrides. From the commit on nothing passes that one covers, and what lived under it is dead.

Stopping is decided by the active bundle; without one by what the last good bundle said (decision 0009), so that nobody
is locked out of stopping. Lifting needs an active bundle, and another person than the one who imposed it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from broker.audit.event import Decided, Entry, OverrideImposed, OverrideLifted
from broker.credential.revocation import Rule, RuleKind
from broker.errors import Reason, Refusal
from broker.operations.attempt import Attempt, Visit
from broker.operations.calls import ReadCall
from broker.operations.override_calls import ImposeCall, LiftOverrideCall, Overridden, OverrideList
from broker.operations.record import position_of, ranges_by_audience
from broker.operations.stoppers import EVERYTHING, IMPOSE, LIFT
from broker.override import Override, Stop, StopKind
from broker.policy.bundle import CompiledPolicy
from broker.policy.decision import ActionClass, Target, TargetKind
from broker.store.interface import AddOverride, Effects, Item, LiftOverride, OverrideInForce


def _active(attempt: Attempt) -> CompiledPolicy | None:
    try:
        return attempt.policy()
    except Refusal:
        return None


def _tenant_of(stop: Stop, policy: CompiledPolicy | None) -> str:
    """Return the one tenant that a stop is about; empty when it may be about several."""
    agent = policy.agent(stop.name) if policy and stop.kind is StopKind.AGENT else None
    return agent.tenants[0] if agent and len(agent.tenants) == 1 else stop.within


def _target(stop: Stop, policy: CompiledPolicy | None) -> Target:
    tenant = _tenant_of(stop, policy)
    if stop.kind is StopKind.AGENT:
        return Target(kind=TargetKind.AGENT, id=stop.name, tenant=tenant)
    return Target(kind=TargetKind.TENANT, id=tenant, tenant=tenant) if tenant else EVERYTHING


def _without_bundle(attempt: Attempt, visit: Visit, tenant: str = "") -> Decided:
    """Return the decision of the last good bundle.

    Raises:
        Refusal: POLICY_UNAVAILABLE, it did not let this caller stop that much.

    """
    store, who = attempt.recorder.store, str(visit.principal.spiffe_id)
    if not any(each.spiffe_id == who and each.tenant in ("", tenant) for each in store.stoppers()):
        raise Refusal(Reason.POLICY_UNAVAILABLE)
    return Decided(id=attempt.new_id("dec"), bundle=store.active_policy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Impose:
    """Stops something."""

    attempt: Attempt

    def __call__(self, call: ImposeCall) -> Overridden:
        """Return what it ended, durable by then."""
        return self.attempt(call.context, "impose_override", lambda visit: self._impose(visit, call))

    def _impose(self, visit: Visit, call: ImposeCall) -> Overridden:
        stop, policy = call.stop, _active(self.attempt)
        if policy is None:
            decided = _without_bundle(self.attempt, visit, stop.within)
        else:
            decided = self.attempt.allowed(visit, IMPOSE, _target(stop, policy))
            self._require_known(stop, policy)
        override = Override(
            id=self.attempt.new_id("ovr"), stop=stop, at=visit.now, by=str(visit.principal.spiffe_id), text=call.text
        )
        tenant = _tenant_of(stop, policy)

        approvals = tuple(self.attempt.recorder.store.approvals_under(stop, visit.now))

        def entry(revoked: Effects) -> Entry:
            imposed = _imposed(visit, decided, override, tenant, revoked)
            return self.attempt.recorder.entry(replace(imposed, approvals=approvals))

        write = AddOverride(override=override, spared=_spared(stop, policy))
        answer = self.attempt.commit(Item(writes=(write,), accepted=entry))
        return Overridden(position=position_of(answer), override=override.id, revoked=len(answer.revoked))

    def _require_known(self, stop: Stop, policy: CompiledPolicy) -> None:
        """Refuse a name that is nobody's: whoever mistypes it must not believe that something was stopped."""
        store = self.attempt.recorder.store
        match stop.kind:
            case StopKind.AGENT:
                known = policy.knows(TargetKind.AGENT, stop.name) or store.has_live_grants(
                    Rule(kind=RuleKind.AGENT, name=stop.name)
                )
            case StopKind.TENANT:
                known = policy.knows(TargetKind.TENANT, stop.name) or store.has_live_grants(
                    Rule(kind=RuleKind.TENANT, name=stop.name)
                )
            case StopKind.ACTION:
                action = policy.actions.get(stop.name)
                known = action is not None and action.action_class is not ActionClass.MANAGE
            case StopKind.CLASS | StopKind.EVERYTHING:
                known = True
        if not known or (stop.tenant and not policy.knows(TargetKind.TENANT, stop.tenant)):
            raise Refusal(Reason.REVOCATION_TARGET_UNKNOWN)


def _spared(stop: Stop, policy: CompiledPolicy | None) -> tuple[str, ...]:
    """Return the actions that are known to be of another class than the one that is stopped."""
    if stop.kind is not StopKind.CLASS or policy is None:
        return ()
    return tuple(name for name, action in policy.actions.items() if action.action_class.value != stop.name)


def _imposed(visit: Visit, decided: Decided, override: Override, tenant: str, revoked: Effects) -> OverrideImposed:
    return OverrideImposed(
        at=visit.now,
        caller=visit.caller,
        decided=decided,
        override=override.id,
        rule=override.stop.kind.value,
        name=override.stop.name,
        tenant=tenant,
        text=override.text,
        revoked=len(revoked),
        status_indexes=ranges_by_audience(revoked),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftOverrides:
    """Lets go on what somebody else has stopped; what that ended stays ended."""

    attempt: Attempt

    def __call__(self, call: LiftOverrideCall) -> Overridden:
        """Return where it is recorded, durable by then."""
        return self.attempt(call.context, "lift_override", lambda visit: self._lift(visit, call))

    def _lift(self, visit: Visit, call: LiftOverrideCall) -> Overridden:
        policy = self.attempt.policy()
        in_force = self.attempt.recorder.store.overrides()
        found = next((each for each in in_force if each.id == call.override), None)
        # What is unknown belongs to no tenant, so only who may lift anything learns that it is unknown.
        target = _target(found.stop, policy) if found else EVERYTHING
        decided = self.attempt.allowed(visit, LIFT, target)
        if found is None:
            raise Refusal(Reason.OVERRIDE_UNKNOWN)
        if _is_one_person(policy, found.by, str(visit.principal.spiffe_id)):
            raise Refusal(Reason.SECOND_PERSON_REQUIRED)
        event = OverrideLifted(
            at=visit.now,
            caller=visit.caller,
            decided=decided,
            override=found.id,
            tenant=_tenant_of(found.stop, policy),
            imposed_by=found.by,
            text=call.text,
        )
        entry = self.attempt.recorder.entry(event)
        item = Item(
            guards=(OverrideInForce(override_id=found.id),),
            writes=(LiftOverride(override_id=found.id),),
            accepted=lambda _: entry,
        )
        return Overridden(position=position_of(self.attempt.commit(item)), override=found.id)


def _is_one_person(policy: CompiledPolicy, one: str, other: str) -> bool:
    """Whether two SPIFFE IDs are one person's, as the active bundle has it now."""
    found = policy.register.person_of(one)
    return one == other or (found is not None and found == policy.register.person_of(other))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOverrides:
    """What is stopped: all of it for who reaches everywhere, else what concerns the caller's own tenants."""

    attempt: Attempt

    def __call__(self, call: ReadCall) -> OverrideList:
        """Return the overrides in force."""
        return self.attempt(call.context, "list_overrides", self._list)

    def _list(self, visit: Visit) -> OverrideList:
        in_force, policy = self.attempt.recorder.store.overrides(), _active(self.attempt)
        if policy is None:
            _without_bundle(self.attempt, visit)
            return OverrideList(overrides=tuple(in_force))
        operator = policy.operator(str(visit.principal.spiffe_id))
        if operator is None or operator.all_tenants:
            self.attempt.allowed(visit, "broker.override.read", EVERYTHING)
            return OverrideList(overrides=tuple(in_force))
        for tenant in operator.tenants:
            log = Target(kind=TargetKind.LOG, id="audit", tenant=tenant)
            self.attempt.allowed(visit, "broker.override.read", log)
        return OverrideList(overrides=tuple(each for each in in_force if _concerns(each, operator.tenants, policy)))


def _concerns(override: Override, tenants: Sequence[str], policy: CompiledPolicy) -> bool:
    """Whether an override touches one of these tenants; what reaches everywhere touches each."""
    stop = override.stop
    if stop.kind is StopKind.AGENT:
        agent = policy.agent(stop.name)
        return agent is not None and not set(agent.tenants).isdisjoint(tenants)
    return stop.within in ("", *tenants)
