"""Resource types: what services declare that intents and policies may name."""

import re
from dataclasses import dataclass
from typing import Final

from broker.intent import Level
from broker.policy.table import Table

# Cedar types that carry meaning for the broker itself; a resource type cannot take one of these names.
BUILT_IN_TYPES: Final = frozenset(
    {
        "Action",
        "Agent",
        "Credential",
        "Log",
        "Operator",
        "Policy",
        "ResourceSet",
        "Role",
        "Sensitivity",
        "Service",
        "Task",
        "Tenant",
    }
)
_CEDAR_TYPE: Final = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceType:
    """What an intent calls by `name` and policies call by `cedar_type`; its data domain may be empty."""

    name: str
    cedar_type: str
    sensitivity: Level
    data_domain: str


def read_resource_type(table: Table) -> ResourceType:
    """Read one [[service.resource_type]]; what is wrong is noted."""
    name, cedar_type, sensitivity = table.name("name"), table.text("cedar_type"), table.level("sensitivity")
    if not _CEDAR_TYPE.fullmatch(cedar_type) or cedar_type in BUILT_IN_TYPES:
        table.problem(f"cedar_type {cedar_type!r} must be the name of an entity type of your own, such as Order")
    domain = table.name("data_domain", default="")
    table.done()
    return ResourceType(name=name, cedar_type=cedar_type, sensitivity=sensitivity, data_domain=domain)
