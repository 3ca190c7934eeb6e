"""Revocation: a rule naming grants that no longer count."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class RuleKind(Enum):
    """What a revocation names."""

    CREDENTIAL = "credential"
    TASK = "task"
    AGENT = "agent"
    TENANT = "tenant"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind and one name: everything that carries the name is covered."""

    kind: RuleKind
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A rule in force from `at` until it is lifted.

    Attributes:
        id: rev_ and a UUIDv7.
        rule: what it covers.
        tenant: the tenant that all of it belongs to, or empty when it may concern several.
        at: UTC.
        by: SPIFFE ID of who revoked.

    """

    id: str
    rule: Rule
    tenant: str
    at: datetime
    by: str
