"""What task types must agree on with the rest of a bundle before any task may be of them."""

from collections.abc import Collection, Iterator, Mapping

from broker.policy.decision import ActionClass
from broker.policy.drift import drift_problems
from broker.policy.entities import ENTITIES_FILE, Agent, Register
from broker.policy.problem import Findings
from broker.policy.schema import Action
from broker.policy.task_types import AGENT, TaskType


def check_task_types(register: Register, actions: Mapping[str, Action], found: Findings) -> None:
    """Everything that a type names exists and belongs together; its agents' owner stands behind it."""
    for kind in register.task_types.values():
        sentences = (
            *_people(kind, register),
            *_customers(kind, register),
            *_touched(kind, register, actions),
            *drift_problems(kind, register),
        )
        for sentence in sentences:
            found.add(ENTITIES_FILE, f"task_type {kind.name}: {sentence}", line=kind.line)


def _people(kind: TaskType, register: Register) -> Iterator[str]:
    for name in kind.agents:
        agent = register.agents.get(name)
        if agent is None:
            yield f"{name} is not an [[agent]] of this file; add it or correct the name"
            continue
        yield from _approval(kind, agent)
        yield from _missing("purposes", kind.purposes, agent.purposes, f"of {name}")
        yield from _missing("tenants", kind.tenants, agent.tenants, f"of {name}")
    for name in kind.begun_by:
        front_end = register.services.get(name)
        if front_end is not None:
            yield from _missing("tenants", kind.tenants, front_end.tenants, f"of {name}")
        elif name != AGENT:
            yield f"begun_by names {name}, which is not a [[service]] of this file; add it or correct the name"


def _approval(kind: TaskType, agent: Agent) -> Iterator[str]:
    # An agent whose owner was taken away is stopped; the bundle that says so has to load.
    if agent.owned and kind.approved_by != agent.business_owner:
        yield f"approved_by must be the business_owner of {agent.spiffe_id}, who approves what its tasks may touch"


def _customers(kind: TaskType, register: Register) -> Iterator[str]:
    every = [each for other in register.task_types.values() for each in other.customers]
    for each in kind.customers:
        if each.front_end not in kind.begun_by:
            yield f"customers names {each.front_end}, which may not begin it; add it to begun_by or correct the name"
        # Else whatever one of the two is shown by a customer could be shown to the broker by the other.
        others = {it.front_end for it in every if (it.issuer, it.audience) == (each.issuer, each.audience)}
        if len(others) > 1:
            yield (
                f"customers: audience {each.audience!r} of {each.issuer} is that of several front ends; give each"
                " front end a client of its own there"
            )


def _touched(kind: TaskType, register: Register, actions: Mapping[str, Action]) -> Iterator[str]:
    boundary = kind.boundary
    for name in sorted(boundary.actions or ()):
        if name not in actions or actions[name].action_class is ActionClass.MANAGE:
            yield f"{name!r} is not an action of the schema that a credential can be for; correct the name"
    yield from _missing("limits", boundary.limits, boundary.actions or (), "that it lists as actions")
    services = [register.services[name] for name in sorted(boundary.services or ()) if name in register.services]
    yield from _missing("services", boundary.services or (), register.services, "of this file")
    types = [each for service in services for each in service.resource_types.values()]
    names = [extent.type for extent in boundary.resources or ()]
    yield from _missing("resource_types", names, {each.name for each in types}, "of its services")
    yield from _missing("data_domains", kind.data_domains, {each.data_domain for each in types}, "of its services")
    yield from _missing("environments", kind.environments, {each.environment for each in services}, "of its services")


def _missing(key: str, named: Collection[str], there: Collection[str], whose: str) -> Iterator[str]:
    for name in sorted(set(named) - set(there)):
        yield f"{key} names {name!r}, which is none {whose}; correct one of the two"
