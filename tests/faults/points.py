"""The kill points: their names, and the order to end at one. Read by the tests and by the launched broker."""

import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

_CRUMB = 64  # bytes: longer than any


class Point(Enum):
    """Where a process ends itself, in the order in which a request comes by."""

    DOOR_RECEIVED = "door: bytes decoded, issuer not asked"
    ISSUER_RECEIVED = "issuer: call read off the link"
    IDENTIFIED = "issuer: caller authenticated"
    DECIDED = "issuer: policy has decided"
    SIGNED = "issuer: token signed"
    HALF_CHARGED = "issuer: grant written, what it is charged not"
    HALF_WRITTEN = "issuer: rows written, event not"
    BEFORE_COMMIT = "issuer: rows and event written, COMMIT not given"
    AFTER_COMMIT = "issuer: committed"
    BEFORE_ANSWER = "issuer: answer made, not handed to the link"
    DOOR_ANSWERED = "door: answer here, reply not encoded"
    DOOR_ENCODED = "door: reply encoded, not sent"

    @property
    def committed(self) -> bool:
        """Whether what was asked is durable when the process ends here."""
        return list(Point).index(self) >= list(Point).index(Point.AFTER_COMMIT)

    @property
    def victim(self) -> str:
        """Which process ends."""
        return self.value.partition(":")[0]


class KeyPoint(Enum):
    """Where a process ends itself while it changes a key, in the order in which it does so."""

    FILE_WRITTEN = "issuer: new key file durable, nothing committed"
    HALF_WRITTEN = "issuer: rows written, event not"
    BEFORE_COMMIT = "issuer: rows and events written, COMMIT not given"
    AFTER_COMMIT = "issuer: committed, old key file still there"
    OVERWRITTEN = "issuer: old key file overwritten, still there"
    FILE_REMOVED = "issuer: old key file removed, not answered"

    @property
    def committed(self) -> bool:
        """Whether the change is durable when the process ends here."""
        return list(KeyPoint).index(self) >= list(KeyPoint).index(KeyPoint.AFTER_COMMIT)


@dataclass(slots=True, kw_only=True)
class Orders:
    """The orders in a folder that both sides know: to end at a point, or to let the store fail.

    A launched process has a role, and writes down which point it came by last: where it was when it was killed.
    """

    folder: Path
    role: str = ""
    _given: int = 0
    _passes: dict[int, int] = field(default_factory=dict)
    _open: int | None = None

    def give(self, point: Point | KeyPoint, verb: str, *, passes: int) -> None:
        """Have a process end itself when it comes by a point for the n-th time from now on."""
        self._given += 1
        self._killed.unlink(missing_ok=True)
        order = {"number": self._given, "point": point.name, "verb": verb, "passes": passes}
        draft = self.folder / "order.draft"
        draft.write_text(json.dumps(order))
        draft.rename(self._order)

    @property
    def carried_out(self) -> bool:
        """Whether the process has ended itself."""
        return self._killed.exists()

    def fail_store(self, how: str) -> None:
        """Let the store's file fail in one of the launcher's ways; empty: no more."""
        if how:
            draft = self.folder / "fault.draft"
            draft.write_text(how)
            draft.rename(self.folder / "fault")
        else:
            (self.folder / "fault").unlink(missing_ok=True)

    def last_of(self, role: str) -> str:
        """Return the point that a process came by last, and for which verb; empty when by none."""
        try:
            return self._crumb(role).read_text().strip()
        except FileNotFoundError:
            return ""

    # --- in the launched process -----------------------------------------------------------------------------------

    def at(self, point: Point | KeyPoint, verb: str) -> None:
        """Come by a point; does not return when it is the ordered one for the n-th time."""
        if not verb:
            return
        if self._open is None:
            self._open = os.open(self._crumb(self.role), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # On a disk that is full nothing is noted; a crumb is not what is tried.
        with suppress(OSError):
            os.pwrite(self._open, f"{point.name} {verb}".ljust(_CRUMB).encode(), 0)
        order = self._read()
        if order is None or (order["point"], order["verb"]) != (point.name, verb):
            return
        number = order["number"]
        self._passes[number] = self._passes.get(number, 0) + 1
        if self._passes[number] >= order["passes"]:
            # Taken back first: the process that is started in its place must live.
            self._order.rename(self._killed)
            os.kill(os.getpid(), signal.SIGKILL)

    def fault(self) -> str:
        """Return how the store has to fail now; empty when it has not."""
        try:
            return (self.folder / "fault").read_text()
        except FileNotFoundError:
            return ""

    def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._order.read_text())
        except FileNotFoundError:
            return None
        return found

    def _crumb(self, role: str) -> Path:
        return self.folder / f"{role}.crumb"

    @property
    def _order(self) -> Path:
        return self.folder / "order"

    @property
    def _killed(self) -> Path:
        return self.folder / "killed"
