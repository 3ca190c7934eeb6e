"""Hub: reads the issuer's changes once for the whole door, and wakes every stream."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from broker.errors import Reason, Refusal
from broker.issuer.port import Change

_FIRST_BACKOFF: Final = 0.05
_LONGEST_BACKOFF: Final = 2.0


class Hub:
    """Knows that something changed, never what: a stream asks the issuer, which authorises it again.

    Args:
        changes: opens the issuer's feed; opened again whenever it ends, because an issuer is restarted.

    """

    def __init__(self, changes: Callable[[], AsyncIterator[Change]]) -> None:
        self._changes = changes
        self._version = 0
        self._authority = 0
        self._epoch: int | None = None
        self._ready = False
        self._closed = False
        self._next: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def version(self) -> int:
        """Rises with every change. Take it before asking for a page, so that none falls in between."""
        return self._version

    @property
    def authority(self) -> int:
        """Rises when who may do what may have changed, and when the issuer was restarted."""
        return self._authority

    @property
    def ready(self) -> bool:
        """Whether the issuer's feed is open."""
        return self._ready

    def start(self) -> None:
        """Begin to follow the issuer."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="hub")

    async def close(self) -> None:
        """Stop following, and end every stream that waits."""
        self._closed = True
        self._wake()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def beyond(self, version: int, seconds: float) -> None:
        """Wait for a newer version, at most so long.

        Raises:
            Refusal: ISSUER_UNAVAILABLE when the door closes.

        """
        if self._version == version and not self._closed:
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._next,), timeout=max(seconds, 0.0))
        if self._closed:
            raise Refusal(Reason.ISSUER_UNAVAILABLE, "the broker is stopping")

    def _wake(self) -> None:
        self._version += 1
        if self._next is not None:
            self._next.set_result(None)
            self._next = None

    async def _run(self) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            try:
                async for change in self._changes():
                    backoff = _FIRST_BACKOFF
                    self._take(change)
            except Exception:  # noqa: BLE001, S110 - an issuer that went away, however; it is asked again below
                pass
            self._ready = False
            self._epoch = None
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    def _take(self, change: Change) -> None:
        self._ready = True
        if change.epoch != self._epoch:
            self._epoch = change.epoch
            self._authority += 1
        self._wake()
