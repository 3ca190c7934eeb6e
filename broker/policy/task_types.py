"""Task types: what the tasks of an agent may ever touch, as its owner approved it in the bundle."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from broker.boundary import Boundary, Extent, Limits, limits_from_json
from broker.errors import Reason, Refusal
from broker.policy.customers import CustomerSignIn, read_customers
from broker.policy.drift import Drift, read_drift
from broker.policy.durations import MAXIMUM, duration_from
from broker.policy.table import Table

if TYPE_CHECKING:
    from broker.policy.entities import Register

# In `begun_by`: the agent itself.
AGENT: Final = "agent"
MAXIMUM_AGE: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskType:
    """One kind of task.

    Attributes:
        name: as BeginTask names it.
        line: where it stands; None when it cannot be told.
        agents: SPIFFE IDs of those whose tasks can be of this type.
        approved_by: the business owner of all of them.
        begun_by: who may begin one: "agent", SPIFFE IDs of front ends, or both.
        purposes: the only ones that a task of this type has.
        tenants: the only ones that it can be pinned to.
        boundary: actions, resource types, services and limits; every member restricts.
        data_domains: those of the resource types that it may touch; empty does not restrict.
        environments: those of the services that it may touch; empty does not restrict.
        maximum_age: how long a task of it may last.
        heartbeat: the longest time between two heartbeats; None: a task owes none unless it was begun so.
        drift: what follows when a task is refused too often what lies outside it; None: nothing.
        customers: where the people sign in who need no [[person]] to confirm what is done for them; none: nowhere.

    """

    name: str
    line: int | None
    agents: tuple[str, ...]
    approved_by: str
    begun_by: tuple[str, ...]
    purposes: tuple[str, ...]
    tenants: tuple[str, ...]
    boundary: Boundary
    data_domains: tuple[str, ...]
    environments: tuple[str, ...]
    maximum_age: timedelta
    heartbeat: timedelta | None
    drift: Drift | None = None
    customers: tuple[CustomerSignIn, ...] = ()

    def fits(self, *, agent: str, purpose: str, tenant: str) -> bool:
        """Whether a task of this agent, for this purpose and tenant, can be of this type."""
        return agent in self.agents and purpose in self.purposes and tenant in self.tenants

    def may_be_begun_by(self, principal: str, agent: str) -> bool:
        """Whether this principal may begin one for this agent."""
        return (AGENT if principal == agent else principal) in self.begun_by


def task_type_of(
    register: "Register", name: str, *, agent: str, purpose: str, tenant: str, begun_by: str = ""
) -> TaskType | None:
    """Return the type of a task: the one named, or the only one that fits; None where the bundle declares no types.

    Args:
        register: what the bundle declares.
        name: the type's, or empty.
        agent: whose task it is.
        purpose: its purpose.
        tenant: its tenant.
        begun_by: who begins it; empty for a task that is begun already.

    Raises:
        Refusal: TASK_TYPE_REFUSED, TASK_TYPE_REQUIRED.

    """
    types = register.task_types
    fitting = [
        kind
        for kind in types.values()
        if kind.fits(agent=agent, purpose=purpose, tenant=tenant)
        and (not begun_by or kind.may_be_begun_by(begun_by, agent))
    ]
    if name:
        named = types.get(name)
        if named is None or named not in fitting:
            raise Refusal(Reason.TASK_TYPE_REFUSED)
        return named
    if types and len(fitting) != 1:
        raise Refusal(Reason.TASK_TYPE_REQUIRED, "several fit" if fitting else "none fits")
    return fitting[0] if fitting else None


def read_task_type(table: Table) -> TaskType:
    """Read one [[task_type]]; what is wrong is noted. Whether what it names exists is checked in `task_checks`."""
    resources = table.names("resource_types")
    kind = TaskType(
        name=table.name("name"),
        line=table.line,
        agents=table.spiffe_ids("agents"),
        approved_by=table.text("approved_by"),
        begun_by=_begun_by(table),
        purposes=table.names("purposes"),
        tenants=table.names("tenants"),
        boundary=Boundary(
            actions=frozenset(table.names("actions")),
            resources=frozenset(Extent(type=name) for name in resources if name),
            services=frozenset(table.spiffe_ids("services")),
            limits=_limits(table),
        ),
        data_domains=table.names("data_domains", at_least=0),
        environments=table.names("environments", at_least=0),
        maximum_age=_duration(table, "maximum_age", MAXIMUM_AGE) or timedelta(0),
        heartbeat=_duration(table, "heartbeat", MAXIMUM) if table.has("heartbeat") else None,
        drift=read_drift(table),
        customers=read_customers(table),
    )
    table.done()
    return kind


def _begun_by(table: Table) -> tuple[str, ...]:
    value = table.value("begun_by")
    if value is None:
        return (AGENT,)
    front_ends = tuple(each for each in value if each != AGENT) if isinstance(value, list) else ()
    if not isinstance(value, list) or not value or not all(table.is_spiffe_id(each) for each in front_ends):
        table.problem('begun_by is a list of "agent", the SPIFFE IDs of front ends, or both')
        return ()
    return tuple(value)


def _limits(table: Table) -> Limits:
    try:
        return limits_from_json(table.value("limits") or {})
    except Refusal:
        table.problem('limits is a table such as { "order.refund" = { amount = { max = 5000 } } }')
        return {}


def _duration(table: Table, key: str, maximum: timedelta) -> timedelta | None:
    found = duration_from(table.text(key))
    if found is None or found > maximum:
        hours = maximum // timedelta(hours=1)
        table.problem(f'{key} is a duration such as "PT15M" or "PT8H", at most {hours} hours')
        return None
    return found
