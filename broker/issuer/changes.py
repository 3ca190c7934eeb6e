"""Changes: tells readers that the log grew, or that who may read may have changed. A hint; the store is the truth."""

import asyncio
import threading
from collections.abc import AsyncIterator

from broker.issuer.port import Change


class Changes:
    """Keeps the newest state, and wakes whoever waits for another. What piled up comes as one."""

    def __init__(self) -> None:
        self._newest = Change(size=0, epoch=0, endings=0)
        self._readers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._lock = threading.Lock()

    def publish(self, change: Change) -> None:
        """Make this the newest state. Callable from any thread."""
        with self._lock:
            if change == self._newest:
                return
            self._newest = change
            readers = list(self._readers)
        for loop, event in readers:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    async def follow(self) -> AsyncIterator[Change]:
        """Yield the newest state at once, then each change."""
        reader = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._readers.add(reader)
        seen: Change | None = None
        try:
            while True:
                reader[1].clear()
                if self._newest != seen:
                    seen = self._newest
                    yield seen
                else:
                    await reader[1].wait()
        finally:
            with self._lock:
                self._readers.discard(reader)
