"""What tests of customers have in common: two front ends, what is held for their customers, and tokens."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from broker.credential.token import Token
from broker.intent import digest
from broker.operations.calls import BeginTaskCall
from broker.person.identity_token import Provider, VerifiedIdentity, verify_identity
from broker.person.issuer_keys import IssuerKey, read_issuer_keys
from broker.task import Task
from tests.fakes.identity import AUDIENCE, IdentityKey, identity_token, key_set
from tests.operations.approving import ISSUER, bundle, verify_by
from tests.operations.world import CHAT, SUPPORT, WHOLESALE, World
from tests.unit.policy.bundles import added, replaced

# Where customers sign in; the staff do so elsewhere. Each may know somebody by the same subject.
SHOP = "https://login.shop.example"
OUTLET = "https://login.outlet.example"
WHOLESALE_CHAT = "spiffe://example.org/service/wholesale-chat"
FOR_CHAT, FOR_OUTLET, FOR_WHOLESALE = "chat-client", "outlet-client", "wholesale-client"
KATE, LIAM = "7001", "7002"
USER = {"kind": "user"}
CANCEL: dict[str, Any] = {"action": "order.cancel"}

_KEY = IdentityKey.make()
_PUBLIC = read_issuer_keys(key_set(_KEY))
_PROVIDERS = {
    each.issuer: each
    for each in (Provider(issuer=SHOP), Provider(issuer=OUTLET), Provider(issuer=ISSUER, audience=AUDIENCE))
}
_RETAIL = f"""customers = [
    {{ front_end = "{CHAT}", issuer = "{SHOP}", audience = "{FOR_CHAT}" }},
    {{ front_end = "{CHAT}", issuer = "{OUTLET}", audience = "{FOR_OUTLET}" }},
]
"""
_WHOLESALE = f"""begun_by = ["agent", "{WHOLESALE_CHAT}"]
customers = [{{ front_end = "{WHOLESALE_CHAT}", issuer = "{SHOP}", audience = "{FOR_WHOLESALE}" }}]
"""
_SERVICE = f'\n[[service]]\nspiffe_id = "{WHOLESALE_CHAT}"\ntenants = ["wholesale"]\n'
_BEGIN = f"""
@id("wholesale-chat-begins")
permit (
    principal == Service::"{WHOLESALE_CHAT}",
    action == Action::"broker.task.begin",
    resource == Agent::"{WHOLESALE}"
);

@id("wholesale-chat-brings-the-word-of-its-customers")
permit (
    principal == Service::"{WHOLESALE_CHAT}",
    action == Action::"broker.approval.confirm",
    resource is Task in Tenant::"wholesale"
);
"""


def shop(*required: Mapping[str, Any], people: bool = False) -> dict[str, bytes]:
    """Return a bundle in which customers of two front ends, of two tenants, confirm what is held for them."""
    found = bundle(*(required or (USER,)), people=people)
    found = replaced("entities.toml", 'name = "customer-case"\n', f'name = "customer-case"\n{_RETAIL}', found)
    found = replaced("entities.toml", 'name = "wholesale-case"\n', f'name = "wholesale-case"\n{_WHOLESALE}', found)
    held = f"@step_up({json.dumps(json.dumps(USER))})\n"
    rule = '@id("wholesale-may-cancel-an-order")\n'
    found = added("broker.cedar", _BEGIN, added("entities.toml", _SERVICE, found))
    return replaced("writes.cedar", rule, rule + held, found)


def named(subject: str, issuer: str = SHOP) -> str:
    """How a front end names a customer."""
    return f"{issuer}#{subject}"


def token_of(world: World, subject: str = KATE, **changes: Any) -> str:
    """Return a token of a customer who signed in at the chat, a minute ago; with changes to its claims."""
    return identity_token(_KEY, world.time(), **{"iss": SHOP, "aud": FOR_CHAT, "sub": subject} | changes)


def customers_sign_in(world: World) -> None:
    """Let tokens be verified as in production, by keys that every issuer has."""

    def verify(token: Token, now: datetime, customers: Mapping[str, frozenset[str]]) -> VerifiedIdentity:
        return verify_identity(token.reveal(), providers=_PROVIDERS, keys=_keys, now=now, customers=customers)

    verify_by(world, verify)


def _keys(_: str) -> Mapping[str, IssuerKey]:
    return _PUBLIC


async def begun_for(world: World, person: str, *, front_end: str = CHAT, agent: str = SUPPORT) -> Task:
    """Begin a task for somebody, as a front end does."""
    call = BeginTaskCall(
        context=world.context(front_end),
        purpose="customer-support",
        agent=agent,
        person=person,
        asked=digest(b"please"),
    )
    return await world.issuer.begin_task(call)
