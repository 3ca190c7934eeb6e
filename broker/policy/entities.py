"""Who and what a bundle knows: tenants, agents, services, sets, operators, persons, risks of actions, task types.

`read_register` reads entities.toml. What stands there is the only source of tenancy, ownership and sensitivity; nothing
of it is ever taken from a request.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from broker.intent import Level
from broker.policy.approver_groups import ApproverGroup, read_approver_group
from broker.policy.history import SeparateDuties, WatchedSequence, read_duties, read_sequences
from broker.policy.persons import Person, everybody, person_of, person_of_identity, read_person
from broker.policy.problem import Findings
from broker.policy.resource_types import ResourceType, read_resource_type
from broker.policy.table import Table, read_tables
from broker.policy.task_types import TaskType, read_task_type

ENTITIES_FILE: Final = "entities.toml"
_PEOPLE: Final = ("tenant", "agent", "service", "operator", "person", "approver_group")
_WORK: Final = ("set", "action", "task_type", "separate_duties", "sequence")
_OWNER_BYTES: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent; without both owners it gets nothing."""

    spiffe_id: str
    tenants: tuple[str, ...]
    roles: tuple[str, ...]
    purposes: tuple[str, ...]
    business_owner: str
    security_owner: str

    @property
    def owned(self) -> bool:
        """Whether somebody answers for it, in business and in security."""
        return bool(self.business_owner.strip() and self.security_owner.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service that accepts credentials, for these tenants and resource types; its environment may be empty."""

    spiffe_id: str
    tenants: tuple[str, ...]
    environment: str
    resource_types: Mapping[str, ResourceType]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSet:
    """A declared set of resources: one service, one type, these tenants, these actions."""

    name: str
    service: str
    resource_type: str
    tenants: tuple[str, ...]
    actions: tuple[str, ...]
    sensitivity: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A person's or machine's identity that manages the broker, within its tenants or, `all_tenants`, everywhere."""

    spiffe_id: str
    roles: tuple[str, ...]
    tenants: tuple[str, ...]
    all_tenants: bool


Principal: TypeAlias = Agent | Service | Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Everything that entities.toml declares."""

    tenants: tuple[str, ...]
    agents: Mapping[str, Agent]
    services: Mapping[str, Service]
    operators: Mapping[str, Operator]
    sets: Mapping[str, ResourceSet]
    risks: Mapping[str, Level]
    task_types: Mapping[str, TaskType]
    approver_groups: Mapping[str, ApproverGroup]
    persons: Mapping[str, Person]
    duties: Mapping[str, SeparateDuties]
    sequences: Mapping[str, WatchedSequence]

    @property
    def roles(self) -> frozenset[str]:
        """Every role that somebody has."""
        agents = {role for agent in self.agents.values() for role in agent.roles}
        return frozenset(agents.union(*(operator.roles for operator in self.operators.values())))

    @property
    def cedar_types(self) -> frozenset[str]:
        """Every Cedar type of a resource."""
        return frozenset(
            kind.cedar_type for service in self.services.values() for kind in service.resource_types.values()
        )

    def members_of(self, group: str) -> frozenset[str]:
        """Return who may approve as one of a group: its persons, by name."""
        return frozenset(person.name for person in everybody(self) if group in person.groups)

    def principal(self, spiffe_id: str) -> Principal | None:
        """Return who that is; an exact match of the whole ID, never of a part."""
        return self.agents.get(spiffe_id) or self.services.get(spiffe_id) or self.operators.get(spiffe_id)

    def person_of(self, spiffe_id: str) -> Person | None:
        """Return the person that an operator is; one that no [[person]] claims is a person of its own."""
        return person_of(self, spiffe_id)

    def person_of_identity(self, issuer: str, subject: str) -> Person | None:
        """Return the person whom an issuer knows by that subject; both match exactly, or nobody is found."""
        return person_of_identity(self, issuer, subject)


class _Reader:
    """Reads entities.toml; each `_kind` method reads one kind of table."""

    def __init__(self, content: bytes, found: Findings) -> None:
        self._found = found
        self._tables = read_tables(content, file=ENTITIES_FILE, kinds=(*_PEOPLE, *_WORK), found=found)
        self._seen: set[str] = set()
        self._tenants = tuple(self._tenant(table) for table in self._tables["tenant"])

    def register(self) -> Register:
        """Read all of it."""
        agents = [self._agent(table) for table in self._tables["agent"]]
        services = {s.spiffe_id: s for s in map(self._service, self._tables["service"])}
        operators = [self._operator(table) for table in self._tables["operator"]]
        sets = [self._set(table, services) for table in self._tables["set"]]
        return Register(
            tenants=self._tenants,
            agents={agent.spiffe_id: agent for agent in agents},
            services=services,
            operators={operator.spiffe_id: operator for operator in operators},
            sets={entry.name: entry for entry in sets},
            risks=dict(self._risk(table) for table in self._tables["action"]),
            task_types={kind.name: kind for kind in map(self._task_type, self._tables["task_type"])},
            approver_groups={group.name: group for group in map(self._approver_group, self._tables["approver_group"])},
            persons={each.name: each for each in (self._person(t, operators) for t in self._tables["person"])},
            duties=read_duties(self._tables["separate_duties"]),
            sequences=read_sequences(self._tables["sequence"]),
        )

    def _once(self, table: Table, what: str, key: str) -> None:
        """One thing, one entry: the second is a problem."""
        if key and f"{what} {key}" in self._seen:
            table.problem(f"{what} {key} stands in the bundle twice; keep one entry")
        self._seen.add(f"{what} {key}")

    def _tenant(self, table: Table) -> str:
        name = table.name("name")
        if "/" in name:
            # "a" + "b/c" and "a/b" + "c" would be one entity: <tenant>/<id> must be read in one way only.
            table.problem("a tenant's name has no '/', because it stands before one in every resource's id")
        self._once(table, "tenant", name)
        table.done()
        return name

    def _tenants_of(self, table: Table, *, at_least: int = 1) -> tuple[str, ...]:
        names = table.names("tenants", at_least=at_least)
        for name in names:
            if name not in self._tenants:
                table.problem(f"tenant {name!r} is not declared; add a [[tenant]] or correct the name")
        return names

    def _identity(self, table: Table) -> str:
        spiffe_id = table.spiffe_id("spiffe_id")
        self._once(table, "SPIFFE ID", spiffe_id)
        return spiffe_id

    def _owner(self, table: Table, key: str) -> str:
        if not table.has(key):
            table.value(key)
            table.problem(f'{key} is missing; name who answers for this agent, or write {key} = "" to stop the agent')
            return ""
        owner = table.text(key)
        if len(owner.encode()) > _OWNER_BYTES:
            table.problem(f"{key} is longer than {_OWNER_BYTES} bytes; shorten it")
        return owner

    def _agent(self, table: Table) -> Agent:
        agent = Agent(
            spiffe_id=self._identity(table),
            tenants=self._tenants_of(table),
            roles=table.names("roles", at_least=0),
            purposes=table.names("purposes"),
            business_owner=self._owner(table, "business_owner"),
            security_owner=self._owner(table, "security_owner"),
        )
        table.done()
        return agent

    def _service(self, table: Table) -> Service:
        spiffe_id, tenants = self._identity(table), self._tenants_of(table)
        environment = table.name("environment", default="")
        kinds: dict[str, ResourceType] = {}
        for inner in table.tables("resource_type"):
            kind = read_resource_type(inner)
            if kind.name in kinds:
                inner.problem(f"resource type {kind.name!r} is declared twice by this service; keep one")
            kinds[kind.name] = kind
        table.done()
        return Service(spiffe_id=spiffe_id, tenants=tenants, environment=environment, resource_types=kinds)

    def _set(self, table: Table, services: Mapping[str, Service]) -> ResourceSet:
        entry = ResourceSet(
            name=table.name("name"),
            service=table.spiffe_id("service"),
            resource_type=table.name("resource_type"),
            tenants=self._tenants_of(table),
            actions=table.names("actions"),
            sensitivity=table.level("sensitivity"),
        )
        self._once(table, "set", entry.name)
        service = services.get(entry.service)
        kind = service.resource_types.get(entry.resource_type) if service else None
        if service is None or kind is None:
            table.problem("service and resource_type must name a [[service]] of this file and a type that it declares")
        elif max(entry.sensitivity, kind.sensitivity) > Level.LOW:
            table.problem("a set gives low-sensitivity reads only: the set and its resource type must both be low")
        elif not set(entry.tenants) <= set(service.tenants):
            table.problem("the service does not serve all of the set's tenants; correct one of the two")
        table.done()
        return entry

    def _operator(self, table: Table) -> Operator:
        everywhere = table.flag("all_tenants")
        operator = Operator(
            spiffe_id=self._identity(table),
            roles=table.names("roles"),
            tenants=self._tenants_of(table, at_least=0),
            all_tenants=everywhere,
        )
        if everywhere == bool(operator.tenants):
            table.problem("give either tenants or all_tenants = true")
        table.done()
        return operator

    def _person(self, table: Table, operators: Iterable[Operator]) -> Person:
        person = read_person(table, self._tenants_of(table, at_least=0), {each.spiffe_id for each in operators})
        self._once(table, "person", person.name)
        for means in person.means:
            self._once(table, "a person with", means)
        return person

    def _risk(self, table: Table) -> tuple[str, Level]:
        name, risk = table.name("name"), table.level("risk")
        self._once(table, "action", name)
        table.done()
        return name, risk

    def _approver_group(self, table: Table) -> ApproverGroup:
        group = read_approver_group(table)
        self._once(table, "approver group", group.name)
        return group

    def _task_type(self, table: Table) -> TaskType:
        kind = read_task_type(table)
        self._once(table, "task type", kind.name)
        return kind


def read_register(content: bytes, found: Findings) -> Register:
    """Read entities.toml; what is wrong is noted in `found`."""
    return _Reader(content, found).register()
