"""Checkpoints: the log's size and root, signed, at most one a second while there is news."""

from collections.abc import Callable
from dataclasses import dataclass

from broker.operations.attempt import Attempt, Visit
from broker.operations.calls import ReadCall, SignedCheckpoint
from broker.policy.decision import Target, TargetKind
from broker.store.interface import Store, StoredCheckpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class SignCheckpoint:
    """Signs the log as it is now, unless that was done already.

    Attributes:
        store: the log.
        sign: makes the signed note of a size and a root.

    """

    store: Store
    sign: Callable[[int, bytes], str]

    def __call__(self) -> StoredCheckpoint:
        """Return the checkpoint that covers everything committed before this call.

        Raises:
            StoreUnavailable: it could not be kept.

        """
        newest = self.store.checkpoint()
        size, root = self.store.root()
        if newest is not None and newest.size == size:
            return newest
        checkpoint = StoredCheckpoint(size=size, note=self.sign(size, root))
        self.store.save_checkpoint(checkpoint)
        return checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCheckpoint:
    """Gives the newest checkpoint to whom policy allows."""

    attempt: Attempt
    sign: SignCheckpoint

    def __call__(self, call: ReadCall) -> SignedCheckpoint:
        """Return a checkpoint of everything committed before the call."""
        return self.attempt(call.context, "get_checkpoint", self._read)

    def _read(self, visit: Visit) -> SignedCheckpoint:
        self.attempt.allowed(visit, "broker.checkpoint.read", Target(kind=TargetKind.LOG, id="audit"))
        newest = self.sign()
        return SignedCheckpoint(note=newest.note, size=newest.size)
