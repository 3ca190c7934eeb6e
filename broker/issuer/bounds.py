"""How much may wait at one end of a link, in calls and in bytes."""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Bounds:
    """Counts what waits. A single call always has room when nothing else waits, however large it is."""

    max_calls: int
    max_bytes: int
    calls: int = 0
    bytes: int = 0
    _freed: asyncio.Event = field(default_factory=asyncio.Event)

    def has_room(self, calls: int, size: int) -> bool:
        """Whether this much more may wait."""
        return not self.calls or (self.calls + calls <= self.max_calls and self.bytes + size <= self.max_bytes)

    def enter(self, calls: int, size: int) -> bool:
        """Count it in when there is room; say whether there was."""
        if not self.has_room(calls, size):
            return False
        self.calls += calls
        self.bytes += size
        return True

    async def wait_and_enter(self, calls: int, size: int) -> None:
        """Wait for room, then count it in. For one waiter at a time."""
        while not self.enter(calls, size):
            self._freed.clear()
            await self._freed.wait()

    def leave(self, calls: int, size: int) -> None:
        """Give the room back."""
        self.calls -= calls
        self.bytes -= size
        self._freed.set()
