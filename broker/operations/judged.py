"""What a live credential is judged by again: the intent that it was given for, put together from its grant."""

import json
from collections.abc import Mapping
from datetime import datetime

from broker.approval import Approval
from broker.errors import Reason
from broker.intent import Intent, Json, Level
from broker.policy.bundle import CompiledPolicy
from broker.policy.decide import decide
from broker.policy.decision import Deny, Hold, Permit, Question
from broker.scope import OneOf
from broker.store.interface import HeldGrant
from broker.task import Task


def declared_of(intent: Intent, login: str) -> str:
    """Return what a grant's scope and task do not say of the intent that it is given for, to be judged by again."""
    members: dict[str, Json] = {
        "login": login,
        "on_behalf_of": intent.on_behalf_of,
        "sensitivity": intent.sensitivity.name if intent.sensitivity else "",
        "risk": intent.risk.name if intent.risk else "",
    }
    return json.dumps({name: value for name, value in members.items() if value})


def intent_of(task: Task, held: HeldGrant) -> Intent:
    """Return the intent that a credential of a task was given for."""
    scope, declared = held.grant.scope, json.loads(held.declared)
    (action,) = scope.actions
    return Intent(
        action=action,
        resource=scope.resource,
        parameters={name: limit.values[0] for name, limit in scope.constraints.items() if isinstance(limit, OneOf)},
        purpose=task.purpose,
        audience=scope.audience,
        task=task.id,
        on_behalf_of=declared.get("on_behalf_of", ""),
        sensitivity=_level(declared, "sensitivity"),
        risk=_level(declared, "risk"),
    )


def _level(declared: Mapping[str, str], member: str) -> Level | None:
    return Level[declared[member]] if member in declared else None


def would_refuse(
    policy: CompiledPolicy, task: Task, held: HeldGrant, now: datetime, *, approved: Approval | None
) -> Reason | None:
    """Return why a credential would not be given now as it is; None when it would.

    Args:
        policy: that is active now.
        task: of the credential.
        held: the credential's grant.
        now: UTC.
        approved: the approval that it was given on, or whose bypass let it pass: nobody is asked for the same again.

    """
    question = Question(
        principal=task.agent,
        login=json.loads(held.declared).get("login", ""),
        intent=intent_of(task, held),
        tenant=task.tenant,
        task_type=task.type,
        boundary=task.boundary,
    )
    match decide(policy, question):
        case Deny(reason=reason):
            return reason
        case Hold(requirements=requirements) if approved is None or not approved.covers(requirements):
            return Reason.STEP_UP_REQUIRED
        case Hold(terms=terms) | Permit(terms=terms):
            if not terms.scope.includes(held.grant.scope):
                return Reason.SCOPE_EMPTY
            if terms.use == "once" and held.grant.use == "many":
                return Reason.POLICY_NOT_PERMITTED
            over = held.grant.issued_at + terms.max_lifetime <= now
            return Reason.LIFETIME_EXHAUSTED if over else None
