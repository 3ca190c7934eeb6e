"""OCSF schema: the classes of schema 1.5.0 that events of this log become, as far as they are used here.

https://schema.ocsf.io/1.5.0; a type's number is that of its class times 100 plus that of its activity.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.audit.shown import Shown

SCHEMA: Final = "1.5.0"
OTHER: Final = 99
UNKNOWN: Final = 0
SUCCESS: Final = 1
FAILURE: Final = 2
Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """A class of the schema, with its category and the names of its activities that are used here."""

    uid: int
    name: str
    category: str
    activities: Mapping[int, str]

    @property
    def category_uid(self) -> int:
        """The thousands of a class's number."""
        return self.uid // 1000


BASE: Final = Class(uid=0, name="Base Event", category="Uncategorized", activities={})
SESSION: Final = Class(
    uid=3003,
    name="Authorize Session",
    category="Identity & Access Management",
    activities={1: "Assign Privileges"},
)
ENTITY: Final = Class(
    uid=3004,
    name="Entity Management",
    category="Identity & Access Management",
    activities={1: "Create", 3: "Update", 4: "Delete", 10: "Activate", 11: "Deactivate"},
)
LIFECYCLE: Final = Class(
    uid=6002, name="Application Lifecycle", category="Application Activity", activities={3: "Start"}
)
API: Final = Class(
    uid=6003,
    name="API Activity",
    category="Application Activity",
    activities={1: "Create", 2: "Read", 3: "Update", 4: "Delete"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a type of event is in the schema.

    Attributes:
        of: the class.
        activity: its number, or what finds it in the event.
        name: of the activity, where the schema has none (99).
        severity: 1 informational to 5 critical.
        status: 0 unknown, 1 success, 2 failure.
        fill: the attributes that only this class has.

    """

    of: Class
    activity: int | Callable[[Shown], int]
    name: str = ""
    severity: int = 1
    status: int = SUCCESS
    fill: Callable[[Shown], Attributes]
