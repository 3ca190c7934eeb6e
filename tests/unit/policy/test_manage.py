"""Who manages what: within its own tenants, about itself, and only what the bundle's rules say."""

# ruff: noqa: E501  # a row of an attack table, and a policy, stand on one line

import pytest

from broker.errors import Reason
from broker.policy.decide import Allowed, Deny, ManageQuestion, Target, TargetKind, decide_manage
from tests.unit.policy.bundles import (
    COURIER,
    DESK,
    ORDERS,
    SECURITY,
    SHARED,
    SUPPORT,
    WHOLESALE,
    added,
    compiled,
    replaced,
    without_cases,
)

POLICY = compiled()
LOG = Target(kind=TargetKind.LOG, id="audit")
RETAIL_LOG = Target(kind=TargetKind.LOG, id="audit", tenant="retail")
WHOLESALE_LOG = Target(kind=TargetKind.LOG, id="audit", tenant="wholesale")
NO_TARGET = Reason.POLICY_NOT_PERMITTED


def agent(spiffe_id: str, tenant: str = "") -> Target:
    return Target(kind=TargetKind.AGENT, id=spiffe_id, tenant=tenant)


def target(kind: TargetKind, name: str, tenant: str = "") -> Target:
    return Target(kind=kind, id=name, tenant=tenant)


SERVICE = target(TargetKind.SERVICE, ORDERS)
TASK_RETAIL = target(TargetKind.TASK, "task_1", "retail")
TASK_WHOLESALE = target(TargetKind.TASK, "task_2", "wholesale")
CREDENTIAL_RETAIL = target(TargetKind.CREDENTIAL, "cred_1", "retail")
CREDENTIAL_WHOLESALE = target(TargetKind.CREDENTIAL, "cred_2", "wholesale")

ROWS: dict[str, tuple[str, str, Target, Reason | None]] = {
    # agents
    "agent begins a task": (SUPPORT, "broker.task.begin", agent(SUPPORT), None),
    "in its tenant": (SHARED, "broker.task.begin", agent(SHARED, "wholesale"), None),
    "not in another's": (SUPPORT, "broker.task.begin", agent(SUPPORT, "wholesale"), Reason.TENANT_REFUSED),
    "not for a colleague": (SUPPORT, "broker.task.begin", agent(COURIER), NO_TARGET),
    "not for one of another tenant": (SUPPORT, "broker.task.begin", agent(WHOLESALE), Reason.TENANT_REFUSED),
    "not for one of another tenant too": (SUPPORT, "broker.task.begin", agent(SHARED), Reason.TENANT_REFUSED),
    "nor, told the same, for nobody": (SUPPORT, "broker.task.begin", agent("spiffe://example.org/agent/gone"), Reason.TENANT_REFUSED),
    "agent ends its task": (SUPPORT, "broker.task.end", TASK_RETAIL, None),
    "not in another tenant": (SUPPORT, "broker.task.end", TASK_WHOLESALE, Reason.TENANT_REFUSED),
    "agent follows its own": (COURIER, "broker.revocations.follow", agent(COURIER), None),
    "not another's": (SUPPORT, "broker.revocations.follow", agent(COURIER), NO_TARGET),
    "not a service's": (SUPPORT, "broker.revocations.follow", SERVICE, Reason.TENANT_REFUSED),
    "not a service's of its own tenants": (SHARED, "broker.revocations.follow", SERVICE, NO_TARGET),
    "agent reads keys": (SUPPORT, "broker.keys.read", LOG, None),
    "agent reads checkpoint": (SUPPORT, "broker.checkpoint.read", LOG, None),
    "agent reads no audit": (SUPPORT, "broker.audit.read", RETAIL_LOG, NO_TARGET),
    "agent does not revoke itself": (SUPPORT, "broker.revoke", agent(SUPPORT), NO_TARGET),
    # services
    "service follows its own": (ORDERS, "broker.revocations.follow", SERVICE, None),
    "service follows no agent's": (ORDERS, "broker.revocations.follow", agent(SUPPORT), NO_TARGET),
    "service begins no task": (ORDERS, "broker.task.begin", agent(SUPPORT), NO_TARGET),
    "service reads no audit": (ORDERS, "broker.audit.read", RETAIL_LOG, NO_TARGET),
    # an operator of every tenant
    "security revokes agent": (SECURITY, "broker.revoke", agent(SHARED), None),
    "an agent that is gone": (SECURITY, "broker.revoke", agent("spiffe://example.org/agent/gone", "retail"), None),
    "security revokes tenant": (SECURITY, "broker.revoke", target(TargetKind.TENANT, "wholesale"), None),
    "security revokes policy": (SECURITY, "broker.revoke", target(TargetKind.POLICY, "support-may-refund"), None),
    "security revokes credential": (SECURITY, "broker.revoke", CREDENTIAL_WHOLESALE, None),
    "security lifts": (SECURITY, "broker.lift_revocation", agent(SHARED), None),
    "security reads audit": (SECURITY, "broker.audit.read", LOG, None),
    "security reads personal": (SECURITY, "broker.audit.read_personal", WHOLESALE_LOG, None),
    "security begins no task": (SECURITY, "broker.task.begin", agent(SUPPORT), NO_TARGET),
    # an operator of one tenant (H2)
    "desk revokes agent": (DESK, "broker.revoke", agent(SUPPORT), None),
    "not another tenant's": (DESK, "broker.revoke", agent(WHOLESALE), Reason.TENANT_REFUSED),
    "not a shared one": (DESK, "broker.revoke", agent(SHARED), Reason.TENANT_REFUSED),
    "not by naming its own tenant": (DESK, "broker.revoke", agent(WHOLESALE, "retail"), Reason.TENANT_REFUSED),
    "not one that is gone": (DESK, "broker.revoke", agent("spiffe://example.org/agent/gone"), Reason.TENANT_REFUSED),
    "desk revokes its tenant": (DESK, "broker.revoke", target(TargetKind.TENANT, "retail"), None),
    "not the other": (DESK, "broker.revoke", target(TargetKind.TENANT, "wholesale"), Reason.TENANT_REFUSED),
    "not a tenant that is not": (DESK, "broker.revoke", target(TargetKind.TENANT, "*"), Reason.TENANT_REFUSED),
    "desk revokes credential": (DESK, "broker.revoke", CREDENTIAL_RETAIL, None),
    "not the other's credential": (DESK, "broker.revoke", CREDENTIAL_WHOLESALE, Reason.TENANT_REFUSED),
    "desk revokes task": (DESK, "broker.revoke", TASK_RETAIL, None),
    "not the other's task": (DESK, "broker.revoke", TASK_WHOLESALE, Reason.TENANT_REFUSED),
    "desk revokes no policy": (DESK, "broker.revoke", target(TargetKind.POLICY, "support-may-refund"), Reason.TENANT_REFUSED),
    "desk lifts nothing": (DESK, "broker.lift_revocation", agent(SUPPORT), NO_TARGET),
    "desk reads its events": (DESK, "broker.audit.read", RETAIL_LOG, None),
    "not the other's events": (DESK, "broker.audit.read", WHOLESALE_LOG, Reason.TENANT_REFUSED),
    "not all events": (DESK, "broker.audit.read", LOG, Reason.TENANT_REFUSED),
    "no personal values": (DESK, "broker.audit.read_personal", RETAIL_LOG, NO_TARGET),
    # words
    "unknown principal": ("spiffe://example.org/agent/nobody", "broker.keys.read", LOG, Reason.PRINCIPAL_UNKNOWN),
    "not a manage action": (SUPPORT, "order.read", LOG, Reason.ACTION_UNKNOWN),
    "no such action": (SECURITY, "broker.everything", LOG, Reason.ACTION_UNKNOWN),
    "a class": (SECURITY, "manage", LOG, Reason.ACTION_UNKNOWN),
    "a target that the action has not": (SECURITY, "broker.revoke", LOG, NO_TARGET),
}  # fmt: skip


@pytest.mark.parametrize(("principal", "action", "about", "reason"), ROWS.values(), ids=ROWS.keys())
def test_manage(principal: str, action: str, about: Target, reason: Reason | None) -> None:
    decision = decide_manage(POLICY, ManageQuestion(principal=principal, login="x509", action=action, target=about))
    assert decision.bundle_digest == POLICY.digest
    if reason is None:
        assert isinstance(decision, Allowed), decision
        assert decision.policy_ids
    else:
        assert isinstance(decision, Deny), decision
        assert decision.reason is reason


def test_reach_holds_even_when_a_rule_says_more() -> None:
    rule = '@id("all") permit (principal, action == Action::"broker.revoke", resource);'
    policy = compiled(without_cases(added("extra.cedar", rule)))
    question = ManageQuestion(principal=DESK, login="x509", action="broker.revoke", target=agent(SHARED))
    decision = decide_manage(policy, question)
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.TENANT_REFUSED


def test_a_forbid_wins_and_speaks() -> None:
    rule = '@id("not-now") @reason("Not during the audit.") forbid (principal, action == Action::"broker.revoke", resource);'
    policy = compiled(without_cases(added("extra.cedar", rule)))
    question = ManageQuestion(principal=SECURITY, login="x509", action="broker.revoke", target=agent(SHARED))
    decision = decide_manage(policy, question)
    assert isinstance(decision, Deny)
    assert (decision.reason, decision.policy_ids) == (Reason.POLICY_FORBIDDEN, ("not-now",))
    assert decision.sentence == "Not during the audit."


def test_an_agent_without_owner_manages_nothing() -> None:
    files = without_cases(replaced("entities.toml", 'security_owner = "Retail Security"', 'security_owner = ""'))
    question = ManageQuestion(principal=SUPPORT, login="x509", action="broker.task.begin", target=agent(SUPPORT))
    decision = decide_manage(compiled(files), question)
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.AGENT_WITHOUT_OWNER


@pytest.mark.parametrize("text", ['"', "\n", "*", "\ud800", "", "\x00", "x" * 100_000], ids=repr)
def test_odd_text_is_refused_and_breaks_nothing(text: str) -> None:
    for kind in TargetKind:
        for question in (
            ManageQuestion(principal=DESK, login=text, action="broker.revoke", target=target(kind, text)),
            ManageQuestion(principal=text, login="x509", action=text, target=target(kind, text, text)),
        ):
            assert isinstance(decide_manage(POLICY, question), Deny)


def test_what_the_bundle_knows() -> None:
    assert POLICY.knows(TargetKind.AGENT, SUPPORT)
    assert POLICY.knows(TargetKind.SERVICE, ORDERS)
    assert POLICY.knows(TargetKind.TENANT, "retail")
    assert POLICY.knows(TargetKind.POLICY, "support-may-refund")
    assert not any(POLICY.knows(kind, "other") for kind in TargetKind)
    assert not POLICY.knows(TargetKind.AGENT, ORDERS)
