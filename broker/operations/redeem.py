"""Redeem: a service spends a credential that is good once, before it acts on it. Nobody spends it twice.

A group is walked step by step as exchanges are, and one transaction ends it. Everything that could have ended the
credential since it was given is a guard of that transaction: there is no view that could be old. The steps:
a. who asks   b. may services redeem   c. which credential   d. commit   e. answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.audit.event import CredentialRedeemed, Decided, Entry, RequestRefused
from broker.credential.grant import Grant
from broker.errors import Reason, Refusal
from broker.operations.attempt import Attempt, Visit, tenant_of
from broker.operations.record import caller_of, commit, position_of
from broker.operations.redeem_calls import RedeemAnswer, RedeemCall, Redeemed
from broker.operations.walk import walk
from broker.policy.decision import Target, TargetKind
from broker.store.interface import (
    ActivePolicy,
    AddRedemption,
    Answer,
    Committed,
    Guard,
    Item,
    NotOver,
    NotRevoked,
    StoredRedemption,
    StoreUnavailable,
    TaskAlive,
    Unspent,
)

REDEEM = "broker.redeem"


@dataclass(slots=True, kw_only=True)
class _Work:
    """One redemption on its way; filled in from step to step."""

    call: RedeemCall
    now: datetime
    visit: Visit | None = None
    decided: Decided | None = None
    grant: Grant | None = None
    earlier: StoredRedemption | None = None
    refusal: Refusal | None = None

    @property
    def attempted(self) -> tuple[str, ...]:
        """What makes two calls of a group one attempt; one that is refused is one of its own."""
        if self.refusal is not None:
            return (str(id(self)),)
        return self.call.credential, self.call.key, self.call.call_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeem:
    """Decides a group of redemptions; each is authenticated, decided and recorded on its own.

    Attributes:
        attempt: gate, policy, recorder, clock and ids.
        report: told of a defect, for the log.

    """

    attempt: Attempt
    report: Callable[[Exception], None]

    def __call__(self, calls: Sequence[RedeemCall]) -> Sequence[RedeemAnswer]:
        """Return one answer a call, in their order."""
        now = self.attempt.clock()
        group = [_Work(call=call, now=now) for call in calls]
        try:
            walk(group, (self._identify, self._allow, self._find), report=self.report)
            items = _merged(group)
            committed = commit(self.attempt.recorder.store, [self._item(work) for work in items.values()])
        except StoreUnavailable:
            return [Refusal(Reason.AUDIT_UNAVAILABLE) for _ in group]
        except Refusal as refusal:
            return [refusal for _ in group]
        answers = dict(zip(items, committed, strict=True))
        return [_answer(work, answers[work.attempted]) for work in group]

    # a. Who asks: the service, by its own SVID.
    def _identify(self, work: _Work) -> None:
        context = work.call.context
        principal = self.attempt.gate.identify(context.evidence, work.now)
        work.visit = Visit(now=work.now, principal=principal, caller=caller_of(context, principal))
        self.attempt.gate.admit(principal)

    # b. May it: the bundle says whether services redeem what is for them.
    def _allow(self, work: _Work) -> None:
        if work.visit is not None:
            who = str(work.visit.principal.spiffe_id)
            kind = TargetKind.AGENT if self.attempt.policy().agent(who) else TargetKind.SERVICE
            work.decided = self.attempt.allowed(work.visit, REDEEM, Target(kind=kind, id=who))

    # c. Which credential, and is the call the one that it is for. Another service's is as unknown as nobody's.
    def _find(self, work: _Work) -> None:
        store, call = self.attempt.recorder.store, work.call
        grant = store.grant(call.credential)
        if grant is None or work.visit is None or grant.scope.audience != str(work.visit.principal.spiffe_id):
            raise Refusal(Reason.CREDENTIAL_UNKNOWN)
        work.grant = grant
        if grant.use != "once":
            raise Refusal(Reason.REDEMPTION_NOT_NEEDED)
        spent = store.redemption(call.credential)
        # What is good once covers exactly one call, so its digest is known here.
        if spent is None and call.call_digest != grant.scope.only_call(grant.tenant):
            raise Refusal(Reason.TOKEN_SCOPE_EXCEEDED, "the digest is of another call than the credential's")
        same = spent is not None and (spent.key, spent.call_digest) == (call.key, call.call_digest)
        work.earlier = spent if same else None

    # d. One item a call. A lost answer that is asked again writes nothing, and passes the same guards.
    def _item(self, work: _Work) -> Item:
        visit, decided, grant = work.visit, work.decided, work.grant
        if work.refusal is not None or visit is None or decided is None or grant is None:
            refused = self.attempt.recorder.refusal(self._refusing(work, work.refusal or Refusal(Reason.INTERNAL)))
            return Item(accepted=(lambda _: refused) if refused else None)
        guards = self._guards(visit, decided, grant)
        if work.earlier is not None:
            return Item(guards=guards, refused=lambda refusal: self._refused(work, refusal))
        spend = AddRedemption(
            credential_id=grant.credential_id, key=work.call.key, call_digest=work.call.call_digest, at=visit.now
        )
        redeemed = self.attempt.recorder.entry(_redeemed(visit, decided, grant, work.call))
        return Item(
            guards=(*guards, Unspent(credential_id=grant.credential_id)),
            writes=(spend,),
            accepted=lambda _: redeemed,
            refused=lambda refusal: self._refused(work, refusal),
        )

    def _guards(self, visit: Visit, decided: Decided, grant: Grant) -> tuple[Guard, ...]:
        """What must hold at the moment of spending; what people did comes before what happened by itself."""
        (action,) = grant.scope.actions
        live: tuple[Guard, ...] = (
            NotRevoked(
                agent=grant.agent,
                tenant=grant.tenant,
                task=grant.task,
                policy_ids=grant.policy_ids,
                credential_id=grant.credential_id,
                action=action,
                action_class=self.attempt.gate.class_of(action),
            ),
        )
        if grant.task:
            live += (TaskAlive(task=grant.task, agent=grant.agent, now=visit.now),)
        return (*live, NotOver(credential_id=grant.credential_id, now=visit.now), ActivePolicy(digest=decided.bundle))

    def _refused(self, work: _Work, refusal: Refusal) -> Entry | None:
        return self.attempt.recorder.refusal(self._refusing(work, refusal))

    def _refusing(self, work: _Work, refusal: Refusal) -> RequestRefused:
        visit, grant = work.visit, work.grant
        return RequestRefused(
            at=work.now,
            caller=visit.caller if visit else caller_of(work.call.context, None),
            operation="redeem",
            reason=refusal.reason.name,
            detail=refusal.detail,
            decided=work.decided,
            tenant=grant.tenant if grant else tenant_of(self.attempt.policy, visit.principal if visit else None),
            task=grant.task if grant else "",
            credential=grant.credential_id if grant else "",
            agent=grant.agent if grant else "",
        )


def _merged(group: Sequence[_Work]) -> dict[tuple[str, ...], _Work]:
    """Return what is committed: one attempt that is asked twice at once is spent once, and both are told."""
    first: dict[tuple[str, ...], _Work] = {}
    for work in group:
        first.setdefault(work.attempted, work)
    return first


def _redeemed(visit: Visit, decided: Decided, grant: Grant, call: RedeemCall) -> CredentialRedeemed:
    return CredentialRedeemed(
        at=visit.now,
        caller=visit.caller,
        decided=decided,
        tenant=grant.tenant,
        task=grant.task,
        transaction=grant.transaction_id,
        credential=grant.credential_id,
        agent=grant.agent,
        call_digest=call.call_digest,
    )


# e. Only now, after the commit, the service is told.
def _answer(work: _Work, committed: Answer) -> RedeemAnswer:
    if work.refusal is not None:
        return work.refusal
    if not isinstance(committed, Committed):
        return Refusal(committed.reason)
    if work.earlier is not None:
        return Redeemed(position=work.earlier.position, at=work.earlier.at)
    return Redeemed(position=position_of(committed), at=work.now)
