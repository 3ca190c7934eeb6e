"""The words of deciding: what is asked, and the answers that there are."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Literal, TypeAlias

from broker.boundary import Boundary
from broker.errors import Reason, Refusal
from broker.intent import Intent
from broker.policy.history import History, Step
from broker.policy.limit import Charge
from broker.policy.step_up import StepUp
from broker.scope import Scope


class ActionClass(Enum):
    """What kind of action it is; every action has exactly one class, and no class implies another."""

    READ = "read"
    WRITE = "write"
    HIGH_IMPACT = "high-impact"
    MANAGE = "manage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May this agent have a credential for this intent?

    Attributes:
        principal: SPIFFE ID of the caller, already authenticated.
        login: how it was authenticated: "x509".
        intent: what it declares. A task that it names has been found alive, the agent's own and pinned to `tenant`.
        tenant: tenant of the task, or empty for the agent's only one.
        task_type: type of the task; empty: the only one that fits.
        boundary: the task's own.
        history: what was granted before in the task and its conversation, as far as the bundle asks for it.

    """

    principal: str
    login: str
    intent: Intent
    tenant: str = ""
    task_type: str = ""
    boundary: Boundary = field(default_factory=Boundary)
    history: History = field(default_factory=History)


class TargetKind(Enum):
    """What a manage action can be about; the value is what revocation rules and golden cases call it."""

    AGENT = "agent"
    SERVICE = "service"
    TENANT = "tenant"
    POLICY = "policy"
    TASK = "task"
    CREDENTIAL = "credential"
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a manage action is about.

    Attributes:
        kind: what it is.
        id: SPIFFE ID of an agent or service; name of a tenant; id of a policy, task or credential; "audit" for the log.
        tenant: whose it is, as the store knows it (task, credential, a log filtered to one tenant, a task to begin);
            empty when it belongs to no tenant or, for agents, services and tenants, when the bundle knows.

    """

    kind: TargetKind
    id: str
    tenant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManageQuestion:
    """May this principal do this to the broker itself?"""

    principal: str
    login: str
    action: str
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The intent, already narrowed: what a credential may cover and how long it may live.

    Attributes:
        scope: what it may cover.
        max_lifetime: how long it may live.
        tenant: whose it is.
        action_class: of the action.
        use: how often it may be used.
        charges: what its grant adds up, under every limit of the policies that permit.
        apart_from: actions of which none may be granted in the same task.
        steps: its places in sequences.

    """

    scope: Scope
    max_lifetime: timedelta
    tenant: str
    action_class: ActionClass
    use: Literal["many", "once"] = "many"
    charges: tuple[Charge, ...] = ()
    apart_from: frozenset[str] = frozenset()
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Yes, on these terms."""

    terms: Terms
    policy_ids: tuple[str, ...]
    bundle_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Yes, once all requirements are met; without any, nobody can meet them."""

    terms: Terms
    requirements: tuple[StepUp, ...]
    policy_ids: tuple[str, ...]
    bundle_digest: str

    def refusal(self, decision_id: str) -> Refusal:
        """Return the refusal that stands for it."""
        return Refusal(Reason.STEP_UP_REQUIRED, policy_ids=self.policy_ids, decision_id=decision_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """No. `sentence` is for the end user, `detail` for the developer; neither holds a value from the request."""

    reason: Reason
    policy_ids: tuple[str, ...]
    bundle_digest: str
    sentence: str
    detail: str

    def refusal(self, decision_id: str) -> Refusal:
        """Return the refusal that says so."""
        return Refusal(
            self.reason,
            self.detail,
            policy_ids=self.policy_ids,
            decision_id=decision_id,
            sentence=self.sentence,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Yes, to a manage action."""

    policy_ids: tuple[str, ...]
    bundle_digest: str


Decision: TypeAlias = Permit | Hold | Deny
ManageDecision: TypeAlias = Allowed | Deny


def denied(refusal: Refusal, bundle_digest: str) -> Deny:
    """Return the denial that a refusal stands for."""
    return Deny(
        reason=refusal.reason,
        policy_ids=refusal.policy_ids,
        bundle_digest=bundle_digest,
        sentence=refusal.sentence,
        detail=refusal.detail,
    )
