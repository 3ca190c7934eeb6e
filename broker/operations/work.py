"""One intent on its way through an exchange, and what is written of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from broker.approval import Approval
from broker.audit.event import Caller, CredentialGranted, CredentialReissued, Decided, ExchangeRefused
from broker.credential.token import Credential
from broker.errors import Refusal
from broker.intent import Intent
from broker.operations.calls import ExchangeCall
from broker.operations.charging import charged_of, guards_of_terms, writes_of_terms
from broker.operations.judged import declared_of
from broker.operations.record import caller_of
from broker.policy.decision import Permit
from broker.store.interface import ActivePolicy, AddGrant, Guard, NotRevoked, RequestUnused, TaskAlive, Unspent, Write
from broker.svid.principal import Principal
from broker.task import Task


@dataclass(slots=True, kw_only=True)
class Work:
    """One intent on its way; filled in from step to step.

    `opened` is one for the whole group: what its members ask people for, by agent, task and digest of the intent.
    `presented` is the id of the approval that it is asked with, once that is known to be the agent's own.
    """

    call: ExchangeCall
    now: datetime
    principal: Principal | None = None
    task: Task | None = None
    tenant: str = ""
    action_class: str = ""
    decided: Decided | None = None
    permit: Permit | None = None
    approval: Approval | None = None
    presented: str = ""
    bypass: Approval | None = None
    opening: Approval | None = None
    replaced: Approval | None = None
    as_opened: "Work | None" = None
    opened: "dict[tuple[str, str, str], Work]" = field(default_factory=dict)
    credential: Credential | None = None
    transaction: str = ""
    reissued: bool = False
    refusal: Refusal | None = None

    @property
    def intent(self) -> Intent:
        """The intent; only asked for where there is one."""
        if isinstance(self.call.intent, Refusal):
            raise self.call.intent
        return self.call.intent

    @property
    def agent(self) -> str:
        """The caller's SPIFFE ID; empty when it could not be verified."""
        return str(self.principal.spiffe_id) if self.principal else ""

    @property
    def caller(self) -> Caller:
        """How events name the caller."""
        return caller_of(self.call.context, self.principal)


def standing(work: Work, *, tenant: str, policy_ids: tuple[str, ...], credential_id: str = "") -> list[Guard]:
    """What must still hold inside the transaction, whatever is given: what was read outside it may have changed."""
    guards: list[Guard] = [
        NotRevoked(
            agent=work.agent,
            tenant=tenant,
            task=work.intent.task,
            policy_ids=policy_ids,
            credential_id=credential_id,
            action=work.intent.action,
            action_class=work.action_class,
        ),
    ]
    if work.task is not None:
        guards.append(TaskAlive(task=work.task.id, agent=work.agent, now=work.now, revision=work.task.revision))
    if work.decided is not None:
        guards.append(ActivePolicy(digest=work.decided.bundle))
    return guards


def guards_of(work: Work) -> Sequence[Guard]:
    """What must still hold inside the transaction for a grant to be given, or to be given again."""
    grant = work.credential.grant if work.credential else None
    if grant is None:
        return ()
    guards = standing(work, tenant=grant.tenant, policy_ids=grant.policy_ids, credential_id=grant.credential_id)
    if work.reissued and grant.use == "once":
        guards.append(Unspent(credential_id=grant.credential_id))
    if work.call.request_id and not work.reissued:
        guards.append(RequestUnused(agent=grant.agent, request_id=work.call.request_id))
    if work.permit is not None:
        guards += guards_of_terms(work.permit.terms, work.task, agent=grant.agent, now=work.now)
    return guards


def writes_of(work: Work) -> Sequence[Write]:
    """What is written of a grant; nothing of one that is given again, which nobody decided anew."""
    if work.credential is None or work.permit is None:
        return ()
    grant = work.credential.grant
    beside = writes_of_terms(
        work.permit.terms,
        work.task,
        agent=grant.agent,
        credential=grant.credential_id,
        action=work.intent.action,
        now=work.now,
    )
    return (added(work, work.credential), *beside)


def added(work: Work, credential: Credential) -> AddGrant:
    """Return what is remembered of a grant; of one within a task also what it will be judged by again."""
    judged = work.task is not None and work.principal is not None
    return AddGrant(
        grant=credential.grant,
        request_id=work.call.request_id,
        declared=declared_of(work.intent, work.principal.login) if judged and work.principal else "",
        bundle=work.decided.bundle if judged and work.decided else "",
        approval=_approval_id(work.approval or work.bypass),
    )


def granting(work: Work) -> CredentialGranted:
    """Return the event of a permitted intent."""
    credential, decided = work.credential, work.decided
    assert credential is not None and decided is not None  # noqa: PT018, S101
    grant = credential.grant
    return CredentialGranted(
        at=work.now,
        caller=work.caller,
        intent=work.intent.canonical_object(),
        intent_digest=grant.intent_digest,
        decided=decided,
        tenant=grant.tenant,
        task=grant.task,
        transaction=grant.transaction_id,
        credential=grant.credential_id,
        token_digest=credential.token.digest(),
        audience=grant.scope.audience,
        status_index=grant.status_index,
        expires_at=grant.expires_at,
        charged=charged_of(work.permit.terms) if work.permit else (),
        trail=work.call.trail.to_json(),
        approval=_approval_id(work.approval),
        approved_by=tuple(yes.person for yes in work.approval.answers) if work.approval else (),
        bypass=_approval_id(work.bypass),
    )


def reissuing(work: Work) -> CredentialReissued:
    """Return the event of a lost reply that is given again."""
    credential = work.credential
    assert credential is not None  # noqa: S101
    grant = credential.grant
    return CredentialReissued(
        at=work.now,
        caller=work.caller,
        intent_digest=grant.intent_digest,
        tenant=grant.tenant,
        task=grant.task,
        transaction=grant.transaction_id,
        credential=grant.credential_id,
        token_digest=credential.token.digest(),
    )


def refusing(work: Work, refusal: Refusal) -> ExchangeRefused:
    """Return the event of a refused intent; what could not be understood is not in it."""
    intent = None if isinstance(work.call.intent, Refusal) else work.call.intent
    return ExchangeRefused(
        at=work.now,
        caller=work.caller,
        intent=intent.canonical_object() if intent else {},
        intent_digest=intent.digest() if intent else "",
        decided=work.decided,
        tenant=work.tenant,
        task=intent.task if intent else "",
        transaction=work.transaction,
        reason=refusal.reason.name,
        detail=refusal.detail,
        trail=work.call.trail.to_json(),
        approval=refusal.held.approval if refusal.held else work.presented,
    )


def _approval_id(approval: Approval | None) -> str:
    return approval.id if approval else ""
