"""What every verb but exchange does alike: let the caller in, do the work, and leave no refusal without its event."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, TypeVar

from broker.audit.event import Caller, Decided, RequestRefused
from broker.errors import Reason, Refusal
from broker.operations.calls import Context, RefusedCall
from broker.operations.gate import Gate
from broker.operations.record import Recorder, caller_of, commit
from broker.policy.bundle import CompiledPolicy
from broker.policy.decide import decide_manage
from broker.policy.decision import Deny, ManageQuestion, Target
from broker.store.interface import Committed, Item, StoreUnavailable
from broker.svid.principal import Principal

Answer = TypeVar("Answer")
Clock: TypeAlias = Callable[[], datetime]
NewId: TypeAlias = Callable[[str], str]
ActivePolicy: TypeAlias = Callable[[], CompiledPolicy]


def tenant_of(policy: ActivePolicy, principal: Principal | None) -> str:
    """Return the tenant in whose view a caller's refusals stand: its only one; empty when it has none or several."""
    try:
        known = policy().register.principal(str(principal.spiffe_id)) if principal else None
    except Refusal:  # without a bundle nobody has a tenant
        return ""
    return known.tenants[0] if known and len(known.tenants) == 1 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One admitted call: when, who, and how events name the caller."""

    now: datetime
    principal: Principal
    caller: Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Runs the work of one call behind the gate, and records its refusal.

    Attributes:
        gate: step 0.
        recorder: writes the refusals.
        policy: the active bundle; raises Refusal POLICY_UNAVAILABLE when there is none.
        clock: the time, UTC.
        new_id: makes an id from its prefix.

    """

    gate: Gate
    recorder: Recorder
    policy: ActivePolicy
    clock: Clock
    new_id: NewId

    def __call__(self, context: Context, operation: str, work: Callable[[Visit], Answer]) -> Answer:
        """Return what `work` returns for the admitted caller.

        Raises:
            Refusal: whatever identifying, admitting or the work refused; its event is durable by then.

        """
        now = self.clock()
        principal: Principal | None = None
        try:
            principal = self.gate.identify(context.evidence, now)
            self.gate.admit(principal)
            return work(Visit(now=now, principal=principal, caller=caller_of(context, principal)))
        except StoreUnavailable as problem:
            raise Refusal(Reason.AUDIT_UNAVAILABLE) from problem
        except Refusal as refusal:
            if refusal.reason is not Reason.AUDIT_UNAVAILABLE:
                self._record(context, principal, operation, refusal, now)
            raise

    def _record(
        self, context: Context, principal: Principal | None, operation: str, refusal: Refusal, now: datetime
    ) -> None:
        event = RequestRefused(
            at=now,
            caller=caller_of(context, principal),
            operation=operation,
            reason=refusal.reason.name,
            detail=refusal.detail,
            tenant=tenant_of(self.policy, principal),
        )
        self.recorder.commit_refusals([self.recorder.refusal(event)])

    def refuse(self, call: RefusedCall) -> Refusal:
        """Record a call that the door could not understand; return the refusal to give."""

        def give_up(_: Visit) -> None:
            raise call.refusal

        try:
            self(call.context, call.operation, give_up)
        except Refusal as refusal:
            return refusal
        raise AssertionError

    def authenticate(self, context: Context) -> datetime:
        """Check who calls, and return when the caller's SVID ends."""
        return self(context, "authenticate", lambda visit: visit.principal.not_after)

    def allowed(self, visit: Visit, action: str, target: Target) -> Decided:
        """Return the decision that lets this caller manage the target.

        Raises:
            Refusal: what policy refused, with the ids of the policies.

        """
        question = ManageQuestion(
            principal=str(visit.principal.spiffe_id), login=visit.principal.login, action=action, target=target
        )
        decision_id = self.new_id("dec")
        decision = decide_manage(self.policy(), question)
        if isinstance(decision, Deny):
            raise decision.refusal(decision_id)
        return Decided(id=decision_id, policies=decision.policy_ids, bundle=decision.bundle_digest)

    def commit(self, item: Item) -> Committed:
        """Commit one item.

        Raises:
            Refusal: the reason of the guard that did not hold, or AUDIT_UNAVAILABLE.

        """
        (answer,) = commit(self.recorder.store, [item])
        if not isinstance(answer, Committed):
            raise Refusal(answer.reason)
        return answer
