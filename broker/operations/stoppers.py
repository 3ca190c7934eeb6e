"""Whom a bundle lets stop things. The store remembers it, for when no bundle is active."""

from typing import Final

from broker.override import Stopper
from broker.policy.bundle import CompiledPolicy
from broker.policy.decide import decide_manage
from broker.policy.decision import Allowed, ManageQuestion, Target, TargetKind
from broker.policy.entities import Operator

IMPOSE: Final = "broker.override.impose"
LIFT: Final = "broker.override.lift"
# What belongs to no tenant is decided on the log, as are the keys.
EVERYTHING: Final = Target(kind=TargetKind.LOG, id="audit")


def stoppers_of(policy: CompiledPolicy, action: str = IMPOSE) -> tuple[Stopper, ...]:
    """Return the operators that may stop (or lift) everything, and those that may do so with a tenant of theirs."""
    found = []
    for operator in policy.register.operators.values():
        if _may(policy, operator, action, EVERYTHING):
            found.append(Stopper(spiffe_id=operator.spiffe_id))
        else:
            found += [
                Stopper(spiffe_id=operator.spiffe_id, tenant=tenant)
                for tenant in operator.tenants or policy.tenants
                if _may(policy, operator, action, Target(kind=TargetKind.TENANT, id=tenant, tenant=tenant))
            ]
    return tuple(found)


def _may(policy: CompiledPolicy, operator: Operator, action: str, target: Target) -> bool:
    question = ManageQuestion(principal=operator.spiffe_id, login="x509", action=action, target=target)
    return isinstance(decide_manage(policy, question), Allowed)
