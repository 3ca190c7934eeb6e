"""The active policy bundle: activating one is an event, and decides for everybody from its commit on."""

from dataclasses import dataclass, field

from broker.audit.event import PolicyActivated, PolicyRejected
from broker.errors import Reason, Refusal
from broker.operations.attempt import Clock
from broker.operations.charging import standing_of
from broker.operations.record import Recorder, commit
from broker.operations.stoppers import stoppers_of
from broker.policy.bundle import CompiledPolicy
from broker.policy.source import PolicySource
from broker.store.interface import ActivatePolicy, Item


@dataclass(slots=True, kw_only=True)
class ActiveBundle:
    """Holds the bundle that decides, and changes it when the source has another.

    Attributes:
        source: reads and compiles what is on disk.
        recorder: where activations are recorded.
        clock: the time, UTC.
        problem: why the newest bundle on disk is not the active one; empty when it is.

    """

    source: PolicySource
    recorder: Recorder
    clock: Clock
    problem: str = ""
    _active: CompiledPolicy | None = field(default=None)

    def __call__(self) -> CompiledPolicy:
        """Return the active bundle.

        Raises:
            Refusal: POLICY_UNAVAILABLE when there is none.

        """
        if self._active is None:
            raise Refusal(Reason.POLICY_UNAVAILABLE)
        return self._active

    @property
    def digest(self) -> str:
        """Digest of the active bundle, or empty."""
        return self._active.digest if self._active else ""

    def refresh(self) -> bool:
        """Take what the source has now; return whether another bundle became active.

        Raises:
            Refusal: AUDIT_UNAVAILABLE; the old bundle stays.

        """
        self.source.refresh()
        self._note(self.source.problem)
        found = self.source.current()
        if found is None or found.digest == self.digest:
            return False
        entry = self.recorder.entry(PolicyActivated(at=self.clock(), bundle=found.digest))
        activation = ActivatePolicy(digest=found.digest, stoppers=stoppers_of(found), standing=standing_of(found))
        item = Item(writes=(activation,), accepted=lambda _: entry)
        commit(self.recorder.store, [item])
        self._active = found
        return True

    def _note(self, problem: str) -> None:
        """Record a problem once, when it appears."""
        if problem and problem != self.problem:
            entry = self.recorder.entry(PolicyRejected(at=self.clock(), problem=problem))
            commit(self.recorder.store, [Item(accepted=lambda _: entry)])
        self.problem = problem
