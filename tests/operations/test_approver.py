"""Approver: the person behind a call, by SVID or by token, and nobody who only says so."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from broker.credential.token import Token
from broker.errors import Reason, Refusal
from broker.operations.approver import Approver, Approvers
from broker.operations.attempt import Visit
from broker.operations.calls import Context
from broker.operations.record import caller_of
from broker.person.identity_token import VerifiedIdentity
from broker.svid.principal import Evidence, Principal
from broker.svid.spiffe_id import SpiffeId
from tests.operations.world import DUTY, ORDERS, RETAIL_DESK, SECURITY, SUPPORT
from tests.unit.policy.bundles import added, compiled

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ISSUER = "https://login.example.org"
ANA = f"""
[[person]]
name = "ana"
tenants = ["retail"]
groups = ["refund-approvers", "duty"]
spiffe_ids = ["{DUTY}"]
identities = [{{ issuer = "{ISSUER}", subject = "1" }}]

[[person]]
name = "ben"
tenants = ["retail"]
groups = ["refund-approvers"]
identities = [{{ issuer = "{ISSUER}", subject = "2" }}]
"""
POLICY = compiled(added("entities.toml", ANA))
STRANGER = "spiffe://example.org/operator/stranger"


def verify(token: Token, now: datetime, customers: Mapping[str, frozenset[str]]) -> VerifiedIdentity:
    """Take the subject for a token's text."""
    if token.reveal() == "bad":
        raise Refusal(Reason.IDENTITY_TOKEN_REFUSED, "exp")
    subject, _, audience = token.reveal().partition(" for ")
    if audience and audience not in customers.get(ISSUER, ()):
        raise Refusal(Reason.IDENTITY_TOKEN_REFUSED, "aud")
    return VerifiedIdentity(
        issuer=ISSUER,
        audience=audience or "approvals-tool",
        subject=subject,
        authenticated_at=now - timedelta(minutes=1),
        expires_at=now,
    )


def approver(who: str, subject: str = "") -> Approver:
    evidence = Evidence(leaf=b"", chain=b"", tls_version="TLSv1.3", session_reused=False, source="")
    token = Token(subject, credential_id="a person") if subject else None
    context = Context(evidence=evidence, request="req_1", identity_token=token)
    principal = Principal(spiffe_id=SpiffeId.parse(who), thumbprint="t", not_after=NOW)
    visit = Visit(now=NOW, principal=principal, caller=caller_of(context, principal))
    return Approvers(policy=lambda: POLICY, verify=verify)(visit, context)


@pytest.mark.parametrize(
    ("who", "subject", "name"),
    [
        (DUTY, "", "ana"),
        (DUTY, "1", "ana"),  # twice the same person, once
        (SECURITY, "", SECURITY),  # nobody claims this operator
        (SECURITY, "2", "ben"),  # who came through a tool
        (ORDERS, "1", "ana"),
        (ORDERS, "2", "ben"),
    ],
)
def test_who_it_is(who: str, subject: str, name: str) -> None:
    found = approver(who, subject)
    assert (found.person.name, found.spiffe_id) == (name, who)
    assert found.authenticated_at == (NOW - timedelta(minutes=1) if subject else None)


@pytest.mark.parametrize(
    ("who", "subject", "reason"),
    [
        (ORDERS, "", Reason.PERSON_UNKNOWN),
        (ORDERS, "3", Reason.PERSON_UNKNOWN),
        (DUTY, "3", Reason.PERSON_UNKNOWN),
        (DUTY, "2", Reason.IDENTITY_TOKEN_REFUSED),  # another person's than the connection's
        (DUTY, "bad", Reason.IDENTITY_TOKEN_REFUSED),  # and not fallen back to the SVID
        (ORDERS, "bad", Reason.IDENTITY_TOKEN_REFUSED),
        (SUPPORT, "", Reason.PERSON_UNKNOWN),
        (SUPPORT, "1", Reason.PERSON_UNKNOWN),  # an agent with a person's token in its hands
        (STRANGER, "", Reason.PRINCIPAL_UNKNOWN),
        (STRANGER, "1", Reason.PRINCIPAL_UNKNOWN),
    ],
)
def test_who_it_is_not(who: str, subject: str, reason: Reason) -> None:
    with pytest.raises(Refusal) as refused:
        approver(who, subject)
    assert refused.value.reason is reason


def test_an_operator_of_its_own_has_its_roles_as_groups() -> None:
    assert approver(RETAIL_DESK).person.groups == ("desk",)
