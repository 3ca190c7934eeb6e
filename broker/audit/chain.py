"""Chain: which checkpoint keys count where in a log, from one that is known; docs/formats/log.md defines it.

Each key introduces the one after it: an event of the log holds a note, signed with the key that signs checkpoints at
that moment. So whoever trusts one key of a log can follow it through every rotation, with nothing but the log. From the
event on by which a key retires or is removed, what it signs counts no more: a key that was stolen and removed cannot
speak of what came later.
"""

import json
from dataclasses import dataclass, field
from typing import Final

from broker.audit.checkpoint import (
    Checkpoint,
    CheckpointInvalid,
    Signer,
    VerifierKey,
    sign_text,
    verify,
    verify_text,
)

# No origin holds a blank, so no checkpoint begins like this: a note is either the one or the other.
_HEADING: Final = "broker.v1 checkpoint key"
_MARK: Final = b'"type":"key.changed"'
_OVER: Final = ("retired", "removed")


def endorse(key: VerifierKey, by: VerifierKey, signer: Signer) -> str:
    """Return the signed note by which one checkpoint key introduces another.

    Args:
        key: the one that is introduced.
        by: the one that signs checkpoints now.
        signer: its private half.

    """
    return sign_text(f"{_HEADING}\n{key.to_text()}\n", by, signer)


def endorsed(note: str, by: VerifierKey) -> VerifierKey:
    """Return the key that a note introduces, once the signature of `by` stands under it.

    Raises:
        CheckpointInvalid: it introduces none, or `by` has not signed it, or the key is of another log.

    """
    heading, _, text = verify_text(note, by).partition("\n")
    key = VerifierKey.parse(text)
    if heading != _HEADING or key.name != by.name:
        raise CheckpointInvalid("the note introduces no key of this log")
    return key


@dataclass(slots=True, kw_only=True)
class KeyChain:
    """The keys that count at one point of a walk over the log, from its first entry on.

    Attributes:
        anchor: the key that is trusted beforehand.

    """

    anchor: VerifierKey
    _counting: list[VerifierKey] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with the anchor."""
        self._counting = [self.anchor]

    def read(self, content: bytes) -> None:
        """Take in the next entry. One that is no event changes nothing."""
        if _MARK not in content:
            return
        try:
            event = json.loads(content)
            if event["type"] != "key.changed" or event["use"] != "checkpoint":
                return
            key = VerifierKey.parse(event["key"])
            state, note = event["state"], event.get("note")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return
        if state in _OVER:
            self._counting = [each for each in self._counting if each != key]
        elif isinstance(note, str) and key not in self._counting and self._introduces(note, key):
            self._counting.append(key)

    def verify(self, note: str) -> Checkpoint:
        """Return what a note states, once a key that counts here has signed it.

        Raises:
            CheckpointInvalid: none has.

        """
        for key in reversed(self._counting):
            try:
                return verify(note, key)
            except CheckpointInvalid:
                continue
        raise CheckpointInvalid("no signature of this key, nor of one that it leads to and that counts there")

    def _introduces(self, note: str, key: VerifierKey) -> bool:
        for by in self._counting:
            try:
                if endorsed(note, by) == key:
                    return True
            except CheckpointInvalid:
                continue
        return False
