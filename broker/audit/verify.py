"""Verify: is a log, entry by entry, what the broker signed? Pure; fed from a store file or a saved stream.

Three things bear witness, from strong to weak: the pinned checkpoints, which someone kept outside the broker; the
history of checkpoints that lies beside the log, signed by keys that the log leads to from the one that is known
(`chain`); and the leaf hashes stored beside the entries, which count only where a signed root vouches for them. The
first two say whether the log is intact. The history narrows a fault down to what lies between two checkpoints, intact
leaf hashes to the one entry.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from broker.audit.chain import KeyChain
from broker.audit.checkpoint import Checkpoint, CheckpointInvalid, VerifierKey, stated
from broker.audit.entry import Opening
from broker.audit.form import form_problem
from broker.audit.tree import Frontier, leaf_hash

_EMPTY: Final = Frontier()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """One entry as it was found.

    Attributes:
        position: the position it claims.
        content: its exact bytes.
        openings: those that were found with it; an erased one is simply absent.
        leaf: the leaf hash that is stored beside it; None when there is none.

    """

    position: int
    content: bytes
    openings: tuple[Opening, ...] = ()
    leaf: bytes | None = None


class FaultKind(Enum):
    """What is wrong with a log."""

    MISSING = "an entry is missing"
    OUT_OF_ORDER = "an entry stands in the wrong place"
    MALFORMED = "the entry is not an event in canonical form"
    OPENING = "an opening does not match the entry's commitment"
    CHANGED = "the entry is not the one that was recorded"
    REWRITTEN = "the entries are not those that were signed"
    SHORT = "the log is shorter than the checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The first thing wrong with a log.

    Attributes:
        kind: what is wrong.
        position: the first entry that shows to be bad; of REWRITTEN the lowest that can be.
        last: equal to `position`; of REWRITTEN the highest that the first bad entry can be.
        vouched: every entry below this position is proven intact by a signed root; those from here to `position` look
            right, but no signed root that the log leads to reaches them.
        detail: a few words more; never a value from the log.

    """

    kind: FaultKind
    position: int
    last: int
    vouched: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What verification found.

    Attributes:
        size: how many entries were read.
        vouched: how many of them, from the first on, a signed root proves.
        fault: the first fault; None when the log is intact.

    """

    size: int
    vouched: int
    fault: Fault | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Witness:
    """A checkpoint, and the note that states it when its signature is still to be verified; else empty."""

    stated: Checkpoint
    note: str
    pinned: bool

    @classmethod
    def of(cls, found: Checkpoint | str, *, pinned: bool) -> "_Witness":
        note = found if isinstance(found, str) else ""
        return cls(note=note, stated=found if isinstance(found, Checkpoint) else stated(found), pinned=pinned)


@dataclass(slots=True, kw_only=True)
class Verification:
    """A walk over a log, one entry at a time; `begin` makes one."""

    _chain: KeyChain | None
    _ahead: list[_Witness]
    _found: Frontier = _EMPTY
    _stored: Frontier | None = _EMPTY
    _suspect: Fault | None = None
    _vouched: int = 0
    _pinned_until: int = 0
    fault: Fault | None = None

    @classmethod
    def begin(
        cls,
        *,
        pinned: Sequence[Checkpoint | str],
        history: Iterable[Checkpoint | str] = (),
        key: VerifierKey | None = None,
    ) -> "Verification":
        """Return a walk that has read nothing yet; see `verify_log`."""
        known = [_Witness.of(each, pinned=True) for each in pinned]
        for each in history:
            with suppress(CheckpointInvalid):  # what is no checkpoint proves nothing, either way
                known.append(_Witness.of(each, pinned=False))
        if key is None and any(each.note for each in known):
            raise ValueError("a signed note is verified with a key")
        # The nearest last; of two at one size the pinned one is asked first, since nobody here can have replaced it.
        ahead = sorted(known, key=lambda each: (-each.stated.size, each.pinned))
        walk = cls(_chain=None if key is None else KeyChain(anchor=key), _ahead=ahead)
        walk._meet_checkpoints()
        return walk

    def read(self, entry: LoggedEntry) -> None:
        """Take the next entry. Once `fault` is set, nothing more is learnt."""
        position = self._found.size
        if self.fault is not None:
            return
        if entry.position != position:
            self.fault = self._suspect or self._misplaced(entry.position, position)
            return
        leaf = leaf_hash(entry.content)
        if self._suspect is None:
            self._suspect = self._examine(entry, leaf, position)
        self._found = self._found.append(leaf)
        if self._chain is not None:
            self._chain.read(entry.content)
        if self._stored is not None:
            self._stored = self._stored.append(entry.leaf) if entry.leaf and len(entry.leaf) == len(leaf) else None
        self._meet_checkpoints()

    def end(self) -> Report:
        """Return the result, the log having ended here.

        Raises:
            CheckpointInvalid: a pinned checkpoint of a longer log is signed by no key that this log leads to.

        """
        size = self._found.size
        if self.fault is None:
            self.fault = self._suspect
        longest = max((each.stated.size for each in self._ahead if self._is_signed(each)), default=size)
        if self.fault is None and longest > size:
            self.fault = self._fault(FaultKind.SHORT, size, f"a signed checkpoint counts {longest} entries")
        vouched = self._vouched if self.fault is None else self.fault.vouched
        return Report(size=size, vouched=vouched, fault=self.fault)

    def _fault(self, kind: FaultKind, position: int, detail: str) -> Fault:
        return Fault(kind=kind, position=position, last=position, vouched=self._vouched, detail=detail)

    def _misplaced(self, claimed: int, expected: int) -> Fault:
        if claimed > expected:
            return self._fault(FaultKind.MISSING, expected, f"position {claimed} follows {expected - 1}")
        return self._fault(FaultKind.OUT_OF_ORDER, expected, f"position {claimed} stands where {expected} belongs")

    def _examine(self, entry: LoggedEntry, leaf: bytes, position: int) -> Fault | None:
        """Return what the entry itself shows to be wrong. A signed root may still say more, so the walk goes on."""
        if entry.leaf is not None and entry.leaf != leaf:
            return self._fault(FaultKind.CHANGED, position, "its bytes and its stored leaf hash differ")
        form = form_problem(entry.content)
        if form.problem:
            return self._fault(FaultKind.MALFORMED, position, form.problem)
        for opening in entry.openings:
            if form.commitments.get(opening.field) != opening.commitment():
                return self._fault(FaultKind.OPENING, position, f"the opening of {opening.field!r:.40}")
        return None

    def _meet_checkpoints(self) -> None:
        """Compare the root with every checkpoint of this size; then all entries below are proven, or a fault is."""
        while self.fault is None and self._ahead and self._ahead[-1].stated.size == self._found.size:
            witness = self._ahead.pop()
            checkpoint, pinned = witness.stated, witness.pinned
            if not self._is_signed(witness):
                continue
            if self._found.root() != checkpoint.root:
                self.fault = self._blame(checkpoint, pinned=pinned)
                return
            self._vouched = checkpoint.size
            if pinned:
                self._pinned_until = checkpoint.size
        if self._suspect is not None and self._suspect.position < self._vouched:
            # The bytes are those that were signed: it is what lies beside them, or they were bad from the start.
            self.fault = replace(self._suspect, vouched=self._suspect.position)

    def _is_signed(self, witness: _Witness) -> bool:
        """Whether a key that counts here has signed it.

        Raises:
            CheckpointInvalid: none has, and it is pinned.

        """
        if not witness.note or self._chain is None:
            return True  # it was verified before
        try:
            self._chain.verify(witness.note)
        except CheckpointInvalid:
            if witness.pinned:
                raise
            return False
        return True

    def _blame(self, checkpoint: Checkpoint, *, pinned: bool) -> Fault:
        """Return where the log departs from a signed root that it does not lead to."""
        suspect = self._suspect
        if suspect is not None:
            # Stored hashes that lead to the signed root are themselves proven, and all before the suspect match theirs.
            proven = self._stored is not None and self._stored.root() == checkpoint.root
            return replace(suspect, vouched=suspect.position) if proven else suspect
        # A pinned root that contradicts the log's own signed history was signed before the log was replaced: then what
        # that history vouches for is the replacement, and only an earlier pinned checkpoint says where it can begin.
        vouched = self._pinned_until if pinned else self._vouched
        return Fault(
            kind=FaultKind.REWRITTEN,
            position=vouched,
            last=max(vouched, checkpoint.size - 1),
            vouched=vouched,
            detail=f"the root at {checkpoint.size} entries differs from the signed one",
        )


def verify_log(
    entries: Iterable[LoggedEntry],
    *,
    pinned: Sequence[Checkpoint | str],
    history: Iterable[Checkpoint | str] = (),
    key: VerifierKey | None = None,
) -> Report:
    """Return whether these entries are the log that the checkpoints state.

    A checkpoint that was verified already is taken as it is; a signed note is verified when the walk comes to its size,
    with the keys that count there.

    Args:
        entries: from position 0 on, in the order in which they were found.
        pinned: checkpoints from outside; each must be met.
        history: checkpoints that lie beside the log; they narrow a fault down, and must be met too. Notes that no key
            of this log has signed prove nothing, and are passed over.
        key: a key of this log that is trusted, for signed notes; those that follow it are found in the log.

    Raises:
        CheckpointInvalid: a pinned note is no checkpoint, or signed by no key that the log leads to.

    """
    walk = Verification.begin(pinned=pinned, history=history, key=key)
    for entry in entries:
        walk.read(entry)
        if walk.fault is not None:
            break
    return walk.end()
