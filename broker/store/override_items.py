"""Items of overrides: what is written of them, and the guard under which one is lifted."""

from dataclasses import dataclass

from broker.override import Override


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideInForce:
    """The override exists and was not lifted. Refused with OVERRIDE_UNKNOWN."""

    override_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOverride:
    """Put an override in force, revoke the live credentials that it covers, and take back such approvals.

    Attributes:
        override: what is stopped.
        spared: of a stopped class: the actions that are known to be of another. A credential for any action that does
            not stand here is revoked, so that one whose class nobody knows any more is.

    """

    override: Override
    spared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftOverride:
    """Take an override out of force."""

    override_id: str
