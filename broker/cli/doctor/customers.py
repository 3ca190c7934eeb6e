"""Check of customers: where they sign in is configured, not the staff's, and their front end may bring their word."""

from typing import Final

from broker.cli.doctor.finding import Check, Finding, ok, warning
from broker.cli.doctor.policy import may
from broker.cli.doctor.setup import Setup
from broker.operations.approval_views import CONFIRM
from broker.policy.compiled import CompiledPolicy
from broker.policy.customers import CustomerSignIn
from broker.policy.decision import Target, TargetKind
from broker.policy.task_types import TaskType


def customers(setup: Setup) -> Finding:
    """Whoever signs in where a task type says can confirm."""
    policy = setup.compiled
    found = [(kind, each) for kind in policy.register.task_types.values() for each in kind.customers]
    for kind, sign_in in found:
        wrong = _issuer(setup, sign_in) or _permission(policy, kind, sign_in)
        if wrong is not None:
            return wrong
    if not found:
        return ok("no task type has customers; who confirms is a person of the bundle")
    return ok(f"customers: of {len({sign_in for _, sign_in in found})} clients of their issuers")


def _issuer(setup: Setup, sign_in: CustomerSignIn) -> Finding | None:
    issuers = {each.issuer: each for each in setup.settings.oidc}
    configured = issuers.get(sign_in.issuer)
    if configured is None:
        return warning(
            f"customers sign in at {sign_in.issuer}, which the configuration does not name",
            why="Their identity tokens are refused: they cannot confirm.",
            fix=f"Add an [[oidc]] with that issuer to {setup.config}, byte for byte, and restart the broker.",
        )
    if configured.subject_claim != "sub":
        return warning(
            f"customers sign in at {sign_in.issuer}, whose subject_claim is {configured.subject_claim}",
            why="Customers are known by sub alone; their identity tokens are refused.",
            fix=f"Leave subject_claim of that [[oidc]] out in {setup.config}.",
        )
    if configured.audience == sign_in.audience:
        return warning(
            f"customers and approvers sign in at {sign_in.issuer} for one client, {sign_in.audience}",
            why=f"Whoever approves there could bring what {sign_in.front_end} was shown by people of the house.",
            fix="Give the front end a client of its own at that issuer, and name it in customers of the task type.",
        )
    return None


def _permission(policy: CompiledPolicy, kind: TaskType, sign_in: CustomerSignIn) -> Finding | None:
    for tenant in kind.tenants:
        target = Target(kind=TargetKind.TASK, id="", tenant=tenant)
        if not may(policy, sign_in.front_end, CONFIRM, target):
            return warning(
                f"no policy lets {sign_in.front_end} bring the word of customers of {tenant}",
                why=f"What is held for the customers of task type {kind.name} expires unanswered.",
                fix=f"Permit {CONFIRM} to it on that tenant's tasks; the schema has to have the action.",
            )
    return None


CHECKS: Final = (Check(id="customers", look=customers, above=("policy-loads",)),)
