"""What tests of held requests have in common: an intent that is held, bundles that hold it, and people of any kind."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from broker.credential.token import Token
from broker.errors import Reason, Refusal
from broker.operations.approval_calls import ApprovalAnswered, ApproveCall
from broker.operations.approver import Approvers, VerifyIdentity
from broker.operations.calls import Context
from broker.person.identity_token import VerifiedIdentity
from tests.fakes.identity import AUDIENCE
from tests.operations.world import CHAT, DEPUTY, LEAD, World
from tests.unit.policy.bundles import EXAMPLE, added, replaced, without_cases

ACCOUNT = {"account": "DE02120300000000202051"}
GROUP = {"kind": "group", "group": "refund-approvers"}
ISSUER = "https://login.example.org"
_HELD = '@step_up("{\\"kind\\": \\"group\\", \\"group\\": \\"refund-approvers\\", \\"owners\\": \\"excluded\\"}")'
# One person with three identities, a second one, and the customer that a front end names.
PEOPLE = f"""
[[person]]
name = "lena"
tenants = ["retail"]
groups = ["refund-approvers"]
spiffe_ids = ["{LEAD}"]
identities = [{{ issuer = "{ISSUER}", subject = "lena" }}, {{ issuer = "{ISSUER}", subject = "lena-at-home" }}]

[[person]]
name = "omar"
tenants = ["retail"]
groups = ["refund-approvers"]
identities = [{{ issuer = "{ISSUER}", subject = "omar" }}]

[[person]]
name = "customer-42"
tenants = ["retail"]
groups = ["refund-approvers"]
spiffe_ids = ["{DEPUTY}"]
identities = [{{ issuer = "{ISSUER}", subject = "customer" }}]

[[person]]
name = "wendy"
tenants = ["wholesale"]
groups = ["refund-approvers"]
identities = [{{ issuer = "{ISSUER}", subject = "wendy" }}]

[[person]]
name = "olga"
tenants = ["retail"]
groups = ["refund-approvers"]
identities = [{{ issuer = "{ISSUER}", subject = "olga" }}]
"""
_TOOL = f"""
@id("chat-lets-people-answer")
permit (
    principal == Service::"{CHAT}",
    action in [Action::"broker.approval.decide", Action::"broker.approval.read"],
    resource is Task
);
"""


def bundle(
    *required: Mapping[str, Any], people: bool = False, files: Mapping[str, bytes] = EXAMPLE
) -> dict[str, bytes]:
    """Return the example whose payout change is held by these requirements, one policy each; with people in it."""
    first, *more = required or (GROUP | {"owners": "excluded"},)
    found = replaced("writes.cedar", _HELD, _annotation(first), files)
    for number, each in enumerate(more):
        policy = found["writes.cedar"].decode()
        start = policy.index('@id("support-may-ask-for-a-payout-change")')
        text = policy[start : policy.index(";", start) + 1].replace(_annotation(first), _annotation(each))
        found = added("more.cedar", text.replace("support-may-ask", f"also-{number}"), found)
    if people:
        found = added("broker.cedar", _TOOL, added("entities.toml", PEOPLE, found))
        owner = 'business_owner = "Head of Retail Support"'
        found = replaced("entities.toml", owner, 'business_owner = "olga"', found)
        found = replaced("entities.toml", 'approved_by = "Head of Retail Support"', 'approved_by = "olga"', found)
    return without_cases(found)


def _annotation(required: Mapping[str, Any]) -> str:
    return f"@step_up({json.dumps(json.dumps(required))})"


async def payout(world: World, **changes: Any) -> dict[str, Any]:
    """An intent that is held: by the refund approvers, unless a bundle says otherwise."""
    held = {"action": "customer.payout_change", "resource": "customer/c-77", "parameters": ACCOUNT}
    return {**held, "task": changes.pop("task", None) or (await world.begin()).id, **changes}


def signed_in(world: World, *, minutes_ago: int = 1) -> None:
    """Let the issuer take the text of an identity token for its subject."""

    def verify(token: Token, now: datetime, _: Mapping[str, frozenset[str]]) -> VerifiedIdentity:
        if token.reveal() == "forged":
            raise Refusal(Reason.IDENTITY_TOKEN_REFUSED, "signature")
        at = now - timedelta(minutes=minutes_ago)
        return VerifiedIdentity(
            issuer=ISSUER,
            audience=AUDIENCE,
            subject=token.reveal(),
            authenticated_at=at,
            expires_at=now + timedelta(hours=1),
        )

    verify_by(world, verify)


def verify_by(world: World, verify: VerifyIdentity) -> None:
    """Let identity tokens be verified by this."""
    approvers = world.issuer.verbs.approve.views.approver
    assert isinstance(approvers, Approvers)
    object.__setattr__(approvers, "verify", verify)


def context(world: World, who: str, subject: str = "") -> Context:
    """What a call brings: of a connection, and of a person who signed in."""
    token = Token(subject, credential_id="a person") if subject else None
    return replace(world.context(who), identity_token=token)


async def say_yes(
    world: World, approval: str, subject: str = "", *, who: str = CHAT, **fields: Any
) -> ApprovalAnswered:
    """Say yes as a person, to what stands in the store."""
    stored = await world.stored(lambda store: store.approval(approval))
    digest = fields.pop("digest", stored.digest() if stored else "sha-256:none")
    call = ApproveCall(context=context(world, who, subject), approval=approval, digest=digest, **fields)
    return await world.issuer.approve(call)
