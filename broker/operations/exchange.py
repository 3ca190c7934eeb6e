"""Exchange: an SVID and an intent become a credential, or a refusal with its reason.

A group is walked step by step, all of it through one step before the next; one transaction ends it. The steps:
a. who asks   b. in which task   c. may they   d. what they get, and until when   e. sign   f. commit   g. hand out.
Whatever refuses an intent on the way, the refusal is an item of the same transaction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.approval import Approval
from broker.audit.entry import Entry
from broker.audit.event import Decided
from broker.boundary import Boundary
from broker.credential.grant import Grant, expiry
from broker.credential.token import Credential
from broker.errors import Reason, Refusal
from broker.operations.attempt import ActivePolicy, Clock, NewId, tenant_of
from broker.operations.calls import ExchangeAnswer, ExchangeCall
from broker.operations.charging import history_of
from broker.operations.drift import OUTSIDE, Strayed, WatchDrift
from broker.operations.gate import Gate
from broker.operations.history import RecentActs
from broker.operations.holding import Holding, opening_guards, opening_writes, requesting, using_guards, using_writes
from broker.operations.record import Recorder, commit
from broker.operations.status_indexes import StatusIndexes
from broker.operations.walk import walk
from broker.operations.work import Work, granting, guards_of, refusing, reissuing, writes_of
from broker.policy.decide import decide
from broker.policy.decision import Deny, Hold, Permit, Question
from broker.store.interface import Answer, Committed, Item, StoreUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Decides a group of intents; each is authenticated, decided and recorded on its own.

    Attributes:
        gate: step 0.
        holding: takes what a policy holds.
        acts: counts what agents do, for people who decide.
        recorder: seals events, keeps refusals within their rate.
        policy: the active bundle.
        indexes: hands out status indexes.
        mint: signs a grant; raises Refusal SIGNING_UNAVAILABLE.
        clock: the time, UTC.
        new_id: makes an id from its prefix.
        report: told of a defect, for the log.
        watch: counts what was refused because it lies outside a task.

    """

    gate: Gate
    holding: Holding
    acts: RecentActs
    recorder: Recorder
    policy: ActivePolicy
    indexes: StatusIndexes
    mint: Callable[[Grant, str], Credential]
    clock: Clock
    new_id: NewId
    report: Callable[[Exception], None]
    watch: WatchDrift

    def __call__(self, calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        """Return one answer a call, in their order. A request id that stands twice waits for its first."""
        answers: dict[int, ExchangeAnswer] = {}
        waiting = list(enumerate(calls))
        while waiting:
            group, waiting = _without_repeats(waiting)
            for (index, _), answer in zip(group, self._exchange([call for _, call in group]), strict=True):
                answers[index] = answer
        return [answers[index] for index in range(len(calls))]

    def _exchange(self, calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        now = self.clock()
        opened: dict[tuple[str, str, str], Work] = {}
        group = [Work(call=call, now=now, transaction=self.new_id("txn"), opened=opened) for call in calls]
        steps = (self._identify, self._find_task, self._find_earlier, self._decide, self._credential)
        try:
            walk(group, steps, report=self.report)
            committed = commit(self.recorder.store, [self._item(work) for work in group])
            self.watch(_strayed(group, committed), now)  # before anybody is told
        except StoreUnavailable:
            return [Refusal(Reason.AUDIT_UNAVAILABLE) for _ in group]
        except Refusal as refusal:
            return [refusal for _ in group]
        answered = {id(work): _answer(work, answer) for work, answer in zip(group, committed, strict=True)}
        # What was asked for by several at once is one request, with one answer.
        answers = [answered[id(work.as_opened or work)] for work in group]
        for work, answer in zip(group, answers, strict=True):
            self._note(work, answer)
        return answers

    # a. Who asks: X.509-SVID, on every intent. A malformed intent is refused only now, in its caller's name.
    def _identify(self, work: Work) -> None:
        work.principal = self.gate.identify(work.call.context.evidence, work.now)
        work.tenant = tenant_of(self.policy, work.principal)
        self.gate.admit(work.principal)
        if isinstance(work.call.intent, Refusal):
            raise work.call.intent
        self._admit_act(work)

    def _admit_act(self, work: Work) -> None:
        work.action_class = self.gate.class_of(work.intent.action)
        self.gate.admit_act(agent=work.agent, tenant=work.tenant, action=work.intent.action)

    # b. In which task. The tenant is the task's; without a task it stays the agent's only one.
    def _find_task(self, work: Work) -> None:
        if not work.intent.task:
            return
        task = self.recorder.store.task(work.intent.task)
        if task is None or task.agent != work.agent:
            raise Refusal(Reason.TASK_UNKNOWN)
        work.task, work.tenant = task, task.tenant
        self._admit_act(work)
        over = task.over(work.now)
        if over is not None:
            raise Refusal(over)
        if task.purpose != work.intent.purpose:
            raise Refusal(Reason.PURPOSE_REFUSED, "the task was begun for another purpose")

    # A lost reply asked again: the same intent with the same leaf gets the same credential, signed again.
    def _find_earlier(self, work: Work) -> None:
        if not work.call.request_id or work.principal is None:
            return
        earlier = self.recorder.store.grant_of_request(work.agent, work.call.request_id)
        if earlier is None:
            return
        same = earlier.intent_digest == work.intent.digest() and earlier.thumbprint == work.principal.thumbprint
        if not same or earlier.expires_at <= work.now:
            raise Refusal(Reason.REQUEST_ID_REUSED)
        work.reissued, work.transaction = True, earlier.transaction_id
        work.credential = self.mint(earlier, "")

    # c. May they: the one decision of the bundle that is active now.
    def _decide(self, work: Work) -> None:
        if work.credential is not None or work.principal is None:
            return
        self.holding.present(work)
        policy = self.policy()
        question = Question(
            principal=work.agent,
            login=work.principal.login,
            intent=work.intent,
            tenant=work.task.tenant if work.task else "",
            task_type=work.task.type if work.task else "",
            boundary=work.task.boundary if work.task else Boundary(),
            history=history_of(self.recorder.store, policy, work.task, work.intent.action),
        )
        decision = decide(policy, question)
        decided = Decided(id=self.new_id("dec"), policies=decision.policy_ids, bundle=decision.bundle_digest)
        work.decided = decided
        match decision:
            case Deny():
                raise decision.refusal(decided.id)
            case Hold():
                work.tenant = decision.terms.tenant
                work.permit = self.holding.take(work, decision, policy)
            case Permit():
                work.tenant, work.permit = decision.terms.tenant, decision

    # d. and e. What they get and until when: the minimum of every bound; signed outside any transaction. A step of its
    # own, because signing right after each decision finds cold caches: a tenth of an exchange's CPU.
    def _credential(self, work: Work) -> None:
        principal, permit, decided = work.principal, work.permit, work.decided
        if principal is None or permit is None or decided is None:
            return
        terms = permit.terms
        grant = Grant(
            credential_id=self.new_id("cred"),
            agent=work.agent,
            tenant=terms.tenant,
            task=work.intent.task,
            transaction_id=work.transaction,
            scope=terms.scope,
            intent_digest=work.intent.digest(),
            thumbprint=principal.thumbprint,
            status_index=self.indexes.take(terms.scope.audience),
            policy_ids=permit.policy_ids,
            issued_at=work.now.replace(microsecond=0),
            use=terms.use,
            expires_at=expiry(
                now=work.now,
                policy=terms.max_lifetime,
                requested=work.call.lifetime,
                svid_end=principal.not_after,
                task_deadline=work.task.deadline if work.task else None,
            ),
        )
        work.credential = self.mint(grant, decided.id)

    # f. One item a call: its guards, its grant and its event, or its refusal.
    def _item(self, work: Work) -> Item:
        if work.opening is not None:
            return self._opening(work, work.opening)
        if work.refusal is not None or work.credential is None:
            refused = self._refused(work, work.refusal or Refusal(Reason.INTERNAL))
            return Item(accepted=(lambda _: refused) if refused else None)
        granted = self.recorder.entry(reissuing(work) if work.reissued else granting(work))
        return Item(
            guards=(*guards_of(work), *using_guards(work)),
            writes=(*writes_of(work), *using_writes(work)),
            accepted=lambda _: granted,
            refused=lambda refusal: self._refused(work, refusal),
        )

    def _opening(self, work: Work, opening: Approval) -> Item:
        requested = self.recorder.entry(requesting(work, opening))
        return Item(
            guards=tuple(opening_guards(work, opening)),
            writes=tuple(opening_writes(work, opening)),
            accepted=lambda _: requested,
            refused=lambda refusal: self._refused(work, refusal),
        )

    def _note(self, work: Work, answer: ExchangeAnswer) -> None:
        held = isinstance(answer, Refusal) and answer.held is not None
        if work.agent and not held:
            self.acts.note(work.agent, work.now, granted=not isinstance(answer, Refusal))

    def _refused(self, work: Work, refusal: Refusal) -> Entry | None:
        return self.recorder.refusal(refusing(work, refusal))


def _without_repeats(
    calls: Sequence[tuple[int, ExchangeCall]],
) -> tuple[list[tuple[int, ExchangeCall]], list[tuple[int, ExchangeCall]]]:
    """Split off the calls whose request id stands in the group already, from whomever."""
    seen: set[str] = set()
    group: list[tuple[int, ExchangeCall]] = []
    repeats: list[tuple[int, ExchangeCall]] = []
    for indexed in calls:
        request_id = indexed[1].request_id
        (repeats if request_id and request_id in seen else group).append(indexed)
        seen.add(request_id)
    return group, repeats


def _strayed(group: Sequence[Work], committed: Sequence[Answer]) -> Sequence[Strayed]:
    """Return what was refused because it lies outside its task."""
    found = []
    for work, answer in zip(group, committed, strict=True):
        refused = work.refusal.reason if work.refusal else None if isinstance(answer, Committed) else answer.reason
        if work.task is not None and refused in OUTSIDE:
            found.append(Strayed(task=work.task, caller=work.caller, reason=refused, action=work.intent.action))
    return found


# g. Only now, after the commit, the credentials are handed out.
def _answer(work: Work, committed: Answer) -> ExchangeAnswer:
    if work.refusal is not None and (work.opening is None or isinstance(committed, Committed)):
        return work.refusal
    if isinstance(committed, Committed) and work.credential is not None:
        return work.credential
    if isinstance(committed, Committed):
        return Refusal(Reason.INTERNAL)
    decided = work.decided
    return Refusal(
        committed.reason,
        committed.detail,
        policy_ids=decided.policies if decided else (),
        decision_id=decided.id if decided else "",
    )
