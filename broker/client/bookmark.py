"""Bookmark: how far a subscriber has got, in one line of text that can be kept anywhere.

The broker's cursors stand between messages, and a message holds many events; a bookmark also stands between two events
of one message. Nothing in it is believed when it is used again: the cursor is sealed by the broker, a stream has to
begin where the bookmark says, and the last event that was acknowledged has to be the one that is found there.
"""

import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Final, Self

from broker.audit.tree import leaf_hash
from broker.client.errors import BrokerError

MAX_CHARACTERS: Final = 4096
_VERSION: Final = 1
_HASH_CHARACTERS: Final = 43


class BookmarkInvalid(BrokerError):
    """What was kept is no bookmark: something else, or a part of one. Nothing was read from the broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookmark:
    """Where to go on.

    Attributes:
        cursor: the broker's, of the last message that was acknowledged whole; empty for the beginning.
        start: the position at which it resumes.
        position: the first position that was not acknowledged.
        leaf: unpadded base64url of the leaf hash of the event before `position`; empty when `position` is `start`.

    """

    cursor: str
    start: int
    position: int
    leaf: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` gave.

        Raises:
            BookmarkInvalid: it is something else.

        """
        try:
            members = json.loads(text[: MAX_CHARACTERS + 1])
            version = members.pop("v")
            found = cls(**members)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
            raise BookmarkInvalid("This is no bookmark of a subscriber, or only a part of one.") from problem
        if version != _VERSION or not found._is_sound() or found.text != text:
            raise BookmarkInvalid("This is no bookmark that this release of the SDK can use.")
        return found

    @property
    def text(self) -> str:
        """One line of ASCII."""
        members = {"v": _VERSION, "cursor": self.cursor, "start": self.start, "position": self.position}
        return json.dumps(members | {"leaf": self.leaf}, separators=(",", ":"))

    def _is_sound(self) -> bool:
        kinds = [type(each) for each in (self.cursor, self.start, self.position, self.leaf)]
        if kinds != [str, int, int, str]:  # what was parsed may be anything
            return False
        if self.position == self.start:
            return bool(self.cursor) and not self.leaf
        return 0 <= self.start < self.position and len(self.leaf) == _HASH_CHARACTERS


def leaf_of(content: bytes) -> str:
    """Return what a bookmark holds of the last event that was acknowledged."""
    return urlsafe_b64encode(leaf_hash(content)).rstrip(b"=").decode()
