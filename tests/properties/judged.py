"""Holds a credential against what was asked, what is allowed, and what came before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from broker.credential.claims import VerifiedToken
from broker.credential.token import Credential
from broker.credential.verify import verify
from broker.intent import Intent, Level
from tests.operations.world import ORDERS
from tests.properties.model import MAY, TENANTS, Piece, Row

# Times in a token are whole seconds.
SOON: Final = timedelta(seconds=2)
_PROBES: Final[tuple[Any, ...]] = (-1, 0, 1, 2, 4999, 5000, 5001, 10**9, True, False, "EUR", "USD", "", [])


@dataclass(frozen=True, kw_only=True)
class Held:
    """A credential that was given, and what for."""

    credential: Credential
    piece: Piece | None
    resource: tuple[str, str, str]
    intent: Intent

    def within(self, piece: Piece) -> bool:
        """Whether it lies within a task."""
        return piece.admits(self.intent.action, self.resource, ORDERS, self.intent.parameters)


@dataclass(kw_only=True)
class Bars:
    """What is in force: revocations and overrides, by their ids, each a kind and a name."""

    stopped: dict[str, tuple[str, str]] = field(default_factory=dict)
    revoked: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.stopped or self.revoked)

    def cover(self, who: str, tenant: str, action: str, policies: tuple[str, ...] = ()) -> bool:
        """Whether something of it forbids this."""
        writes = {name for name, rows in MAY.items() if any(row.write for row in rows)}
        names = {("agent", who), ("tenant", tenant), ("everything", ""), ("action", action)}
        names |= {("class", "write")} if action in writes else set()
        rules = {("agent", who), ("tenant", tenant)} | {("policy", policy) for policy in policies}
        return bool(names & set(self.stopped.values())) or bool(rules & set(self.revoked.values()))


def no_wider(held: Held, who: str, lifetime: timedelta | None, keys: Mapping[str, Any], bars: Bars) -> None:
    """Assert that a credential is no wider than it may be."""
    grant, intent, piece = held.credential.grant, held.intent, held.piece
    tenant = piece.tenant if piece else TENANTS[who][0]
    assert piece is not None or len(TENANTS[who]) == 1, "which tenant, nobody said"
    rows = [row for row in MAY[intent.action] if _fits(row, who, tenant, held)]
    assert rows, ("wider than allowed", intent)
    # The token itself says what it covers, to whoever reads it.
    text = held.credential.token.reveal()
    token = verify(text, keys=keys, issuer="https://broker.example.org", audience=ORDERS, now=grant.issued_at)
    assert token.tenant == tenant
    _as_asked(token, intent)
    ends = [grant.issued_at + max(row.longest for row in rows)]
    ends += [grant.issued_at + lifetime + SOON] if lifetime is not None else []
    ends += [piece.deadline] if piece else []
    assert token.expires_at <= min(ends)
    # Than what came before: its task, and what people have said since.
    if piece is not None:
        assert piece.agent == who
        assert not piece.over
        assert held.within(piece), (piece.walls, intent)
    assert not bars.cover(who, tenant, intent.action, grant.policy_ids)


def _as_asked(token: VerifiedToken, intent: Intent) -> None:
    scope, parameters = token.scope, intent.parameters
    assert scope.actions == {intent.action}
    assert (scope.resource, scope.audience) == (intent.resource, ORDERS)
    assert scope.constraints.keys() == parameters.keys()
    for name, constraint in scope.constraints.items():
        for probe in (parameters[name], *_PROBES):
            asked = type(probe) is type(parameters[name]) and probe == parameters[name]
            assert not constraint.admits(probe) or asked, (name, probe)


def _fits(row: Row, who: str, tenant: str, held: Held) -> bool:
    resource, intent = held.resource, held.intent
    named = f"set {resource[2]}" if resource[2] else resource[0]
    low = Level.HIGH not in (intent.sensitivity, intent.risk)
    return (
        who in row.agents
        and tenant in row.tenants
        and named == row.resource
        and intent.purpose == row.purpose
        and (held.piece is not None or not row.write)
        and (low or not row.low)
        and not (row.write and intent.risk is Level.HIGH)
        and row.admits(intent.parameters)
    )
