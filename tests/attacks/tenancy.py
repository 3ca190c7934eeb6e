"""Two tenants at work in one house, under a bundle that forbids nobody anything: what holds them apart is the broker.

Each side has an agent, a service, a desk, a set and a purpose of its own; one service and one agent work for both.
"""

import json
import sqlite3
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from broker.audit.cursor import Place, seal
from broker.policy.schema import MANAGE_ACTIONS, PRINCIPAL_TYPES, TARGET_TYPES
from broker.v1 import audit_pb2
from tests.attacks.entrances import (
    NOBODYS_APPROVAL,
    NOBODYS_CREDENTIAL,
    NOBODYS_TASK,
    Outcome,
    approvals,
    audit,
    begin_task,
    exchange,
    first,
    request,
    revocations,
    revoke,
    watch_approvals,
    withdraw,
)
from tests.attacks.house import House, open_house
from tests.attacks.refunds import hold
from tests.operations.world import ORDERS, RETAIL_DESK, SECURITY, SUPPORT, WHOLESALE

SHOP: Final = "spiffe://example.org/service/shop"
DEPOT: Final = "spiffe://example.org/service/depot"
WHOLESALE_DESK: Final = "spiffe://example.org/operator/wholesale-desk"
THIRD: Final = "logistics"
NOBODY: Final = "spiffe://example.org/agent/nobody"
# More than the second in which refusals for one reason are counted together.
POLICY: Final = "anybody-looks-anything-up"
MOMENT: Final = timedelta(seconds=1.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One tenant, and who and what is its own."""

    tenant: str
    agent: str
    service: str
    desk: str
    set: str
    purpose: str

    def who(self, role: str) -> str:
        """Return the SPIFFE ID of its agent, service or desk."""
        return {"agent": self.agent, "service": self.service, "desk": self.desk, "security": SECURITY}[role]


RETAIL: Final = Side(
    tenant="retail", agent=SUPPORT, service=SHOP, desk=RETAIL_DESK, set="open-orders", purpose="returns"
)
TRADE: Final = Side(
    tenant="wholesale", agent=WHOLESALE, service=DEPOT, desk=WHOLESALE_DESK, set="stock", purpose="stock-planning"
)
SIDES: Final = {"retail-on-wholesale": (RETAIL, TRADE), "wholesale-on-retail": (TRADE, RETAIL)}

# --- the bundle -------------------------------------------------------------------------------------------------------

_OWN_SERVICE: Final = """
[[service]]
spiffe_id = "{service}"
tenants = ["{tenant}"]

[[service.resource_type]]
name = "order"
cedar_type = "Order"
sensitivity = "low"
"""
_ENTITIES: Final = f"""
[[tenant]]
name = "{THIRD}"

[[set]]
name = "{TRADE.set}"
service = "{ORDERS}"
resource_type = "order"
tenants = ["wholesale"]
actions = ["order.list"]
sensitivity = "low"

[[operator]]
spiffe_id = "{WHOLESALE_DESK}"
roles = ["desk"]
tenants = ["wholesale"]
""" + "".join(_OWN_SERVICE.format(service=side.service, tenant=side.tenant) for side in (RETAIL, TRADE))
_ANYTHING: Final = ", ".join(f'Action::"{name}"' for name in sorted(MANAGE_ACTIONS))
_RULES: Final = f"""
@id("anybody-does-anything-to-the-broker")
permit (principal, action in [{_ANYTHING}], resource);

@id("anybody-looks-anything-up")
@max_lifetime("PT5M")
permit (principal is Agent, action == Action::"order.read", resource is Order);

@id("support-cancels-orders")
@max_lifetime("PT5M")
@once
permit (principal == Agent::"{SUPPORT}", action == Action::"order.cancel", resource is Order);

@id("wholesale-cancels-orders")
@max_lifetime("PT5M")
@once
permit (principal == Agent::"{WHOLESALE}", action == Action::"order.cancel", resource is Order);

@id("support-refunds-when-its-desk-agrees")
@max_lifetime("PT5M")
@step_up("{{\\"kind\\": \\"group\\", \\"group\\": \\"desk\\"}}")
permit (principal == Agent::"{SUPPORT}", action == Action::"order.refund", resource is Order);

@id("wholesale-refunds-when-its-desk-agrees")
@max_lifetime("PT5M")
@step_up("{{\\"kind\\": \\"group\\", \\"group\\": \\"desk\\"}}")
permit (principal == Agent::"{WHOLESALE}", action == Action::"order.refund", resource is Order);

@id("anybody-lists-anything")
@max_lifetime("PT5M")
permit (principal is Agent, action == Action::"order.list", resource is ResourceSet);
"""
_GOLDEN: Final = f"""
[[case]]
name = "even an agent may revoke its tenant"
principal = "{SUPPORT}"
action = "broker.revoke"
target = {{ kind = "tenant", id = "retail" }}
expect = "permit"

[[case]]
name = "and no other"
principal = "{SUPPORT}"
action = "broker.revoke"
target = {{ kind = "tenant", id = "wholesale" }}
expect = "deny"
reason = "TENANT_REFUSED"
"""


def careless(texts: dict[str, str]) -> Mapping[str, str]:
    """Let everybody do everything, as far as policies can say."""
    schema, _, _ = texts["schema.cedarschema"].partition('action "broker.task.begin"')
    applies = f"principal: [{', '.join(PRINCIPAL_TYPES)}], resource: [{', '.join(TARGET_TYPES.values())}]"
    actions = [
        f'action "{name}" in ["manage"] appliesTo {{ {applies}, context: Manage }};\n'
        for name in sorted(MANAGE_ACTIONS)
    ]
    of_support = 'purposes = ["customer-support"]\nbusiness_owner = "Head of Retail Support"'
    assert of_support in texts["entities.toml"]
    more = of_support.replace("]", f', "{RETAIL.purpose}"]', 1)
    return {
        "entities.toml": _without_types(texts["entities.toml"]).replace(of_support, more) + _ENTITIES,
        "schema.cedarschema": schema + "".join(actions),
        "broker.cedar": _RULES,
        "golden.toml": _GOLDEN,
    }


def _without_types(entities: str) -> str:
    """Leave the types of tasks out: they hold tenants apart as well, and would hide whether anything else does."""
    tables = entities.split("\n[[")
    return "\n[[".join(table for table in tables if not table.startswith("task_type]]"))


# --- what each has ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """The house, and the cursors that its readers hold."""

    house: House
    cursors: Mapping[str, Mapping[str, str]]

    async def at_work(self, side: Side) -> dict[str, str]:
        """Let a tenant work; return the names of what it has, by what they are: fresh ones of what can be fresh."""
        channel = self.house.good(side.agent)
        task = (await begin_task(channel)).task.task_id
        given = (await exchange(channel, request(task_id=task))).credential
        own = (await exchange(channel, request(audience=side.service))).credential
        of = {"task_id": task, "audience": side.service}
        once = (await exchange(channel, request(action="order.cancel", **of))).credential
        over = (await exchange(channel, request())).credential
        return {
            "tenant": side.tenant,
            "agent": side.agent,
            "service": side.service,
            "set": side.set,
            "purpose": side.purpose,
            "policy": POLICY,
            "task": task,
            "credential": given.credential_id,
            "own-credential": own.credential_id,
            "once": once.credential_id,
            "revocation": (await revoke(self.house.good(side.desk), credential_id=over.credential_id)).revocation_id,
            **self.cursors[side.tenant],
        }


@asynccontextmanager
async def open_tenancy() -> AsyncIterator[Tenancy]:
    """Open a house with both tenants in it."""
    async with open_house() as house:
        await house.policy(careless)
        yield Tenancy(house=house, cursors={side.tenant: await _cursors(house, side) for side in (RETAIL, TRADE)})


async def _cursors(house: House, side: Side) -> dict[str, str]:
    own_log = audit_pb2.AuditFilter(tenant=side.tenant)
    waiting = [await hold(house.good(side.agent)) for _ in range(2)]
    page = await approvals(house.good(side.desk), page_size=1)
    for each in waiting:
        await withdraw(house.good(side.agent), each)
    return {
        "agents-cursor": (await first(revocations(house.good(side.agent)))).cursor,
        "services-cursor": (await first(revocations(house.good(side.service)))).cursor,
        "desks-cursor": (await first(audit(house.good(side.desk), filter=own_log))).cursor,
        "page-cursor": page.next_page_token,
        "approvers-cursor": (await first(watch_approvals(house.good(side.desk)))).cursor,
    }


def nobodys(house: House, names: str) -> str:
    """Return a name of this kind that is nobody's; a cursor is sealed all the same, for a reader that there is not."""
    if names.endswith("cursor"):
        store = house.issuer.verbs.attempt.recorder.store
        stream = {"desks-cursor": "audit", "approvers-cursor": "approvals", "page-cursor": "approvals"}.get(
            names, "revocations"
        )
        return seal(Place(log=store.log_id, stream=stream, reader=NOBODY, view="-"), 0, "", store.cursor_key)
    return {
        "task": NOBODYS_TASK,
        "credential": NOBODYS_CREDENTIAL,
        "own-credential": NOBODYS_CREDENTIAL,
        "once": NOBODYS_CREDENTIAL,
        "approval": NOBODYS_APPROVAL,
        "agent": NOBODY,
        "service": NOBODY,
    }.get(names, "none-of-it")


_STANDING: Final = {
    "SELECT * FROM task WHERE id = ?": "task",
    "SELECT * FROM granted WHERE credential = ?": "credential",
    "SELECT * FROM report WHERE credential = ?": "own-credential",
    "SELECT * FROM redemption WHERE credential = ?": "once",
    "SELECT * FROM revoked WHERE credential = ?": "credential",
    "SELECT * FROM approval WHERE id = ?": "approval",
    # The newest: old ones are forgotten, as time passes here with every row.
    "SELECT * FROM revocation WHERE tenant = ? ORDER BY rowid DESC LIMIT 1": "tenant",
    "SELECT kid, state FROM key_ring WHERE kid <> ?": "tenant",
}


def standing(house: House, held: Mapping[str, str]) -> list[object]:
    """Return how what a tenant has stands in the database: its work, what is revoked, and the keys."""
    with closing(sqlite3.connect(f"file:{house.settings.store.path}?mode=ro", uri=True)) as connection:
        return [connection.execute(query, (held.get(names, ""),)).fetchall() for query, names in _STANDING.items()]


# --- what is told -----------------------------------------------------------------------------------------------------


def blind(told: Outcome, named: str) -> tuple[object, ...]:
    """Return all that a caller is told but the ids of the request and of the decision; the name must not be in it."""
    assert not named or named not in told.everything, "the refusal repeats what was named"
    everything = told.everything
    for own in (told.request, told.metadata.get("decision_id", "")):
        everything = everything.replace(own, "") if own else everything
    return told.code, told.reason, told.sentence, everything


async def refusal_in_view(house: House, request_id: str) -> str:
    """Return the tenant in whose view a refusal stands: exactly one event says so."""
    (event,) = await house.recorded(request_id)
    assert event["type"] in ("exchange.refused", "request.refused")
    tenant: str = event.get("tenant", "")
    return tenant


def status_index_of(token: str) -> int:
    """Return a token's place in the status list of its audience."""
    payload = token.split(".")[1]
    claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    index: int = claims["status"]["status_list"]["idx"]
    return index
