"""Hub: reads the issuer's changes once for the whole door, and wakes every stream."""

import asyncio
from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Final

from broker.errors import Reason, Refusal
from broker.issuer.port import Change

_FIRST_BACKOFF: Final = 0.05
_LONGEST_BACKOFF: Final = 2.0


class News(Enum):
    """What a stream wakes for. Most of what is committed ends nothing, and changes no approval."""

    ANYTHING = "anything"
    ENDINGS = "endings"
    APPROVALS = "approvals"


class _Bell:
    """Wakes everybody who waits for it, at once."""

    def __init__(self) -> None:
        self.version = 0
        self._next: asyncio.Future[None] | None = None

    def ring(self) -> None:
        self.version += 1
        if self._next is not None:
            self._next.set_result(None)
            self._next = None

    async def beyond(self, version: int, seconds: float) -> None:
        if self.version == version:
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._next,), timeout=max(seconds, 0.0))


class Hub:
    """Knows that something changed, never what: a stream asks the issuer, which authorises it again.

    It tells `News` apart: that there is anything new, that credentials or rights may have ended, that approvals or
    rights may have changed.

    Args:
        changes: opens the issuer's feed; opened again whenever it ends, because an issuer is restarted.

    """

    def __init__(self, changes: Callable[[], AsyncIterator[Change]]) -> None:
        self._changes = changes
        self._bells = {news: _Bell() for news in News}
        self._authority = 0
        self._newest: Change | None = None
        self._ready = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def version(self) -> int:
        """Rises with every change. Take it before asking for a page, so that none falls in between."""
        return self.heard(News.ANYTHING)

    def heard(self, news: News) -> int:
        """Return what rises with every change of this kind; take it as `version` is taken."""
        return self._bells[news].version

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
        for bell in self._bells.values():
            bell.ring()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def beyond(self, version: int, seconds: float, news: News = News.ANYTHING) -> None:
        """Wait for newer news of a kind, at most so long.

        Raises:
            Refusal: ISSUER_UNAVAILABLE when the door closes.

        """
        if not self._closed:
            await self._bells[news].beyond(version, seconds)
        if self._closed:
            raise Refusal(Reason.ISSUER_UNAVAILABLE, "the broker is stopping")

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
            self._newest = None
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    def _take(self, change: Change) -> None:
        before, self._newest = self._newest, change
        self._ready = True
        if before is None or change.epoch != before.epoch:
            self._authority += 1
        if before is None or (change.epoch, change.endings) != (before.epoch, before.endings):
            self._bells[News.ENDINGS].ring()
        if before is None or (change.epoch, change.approvals) != (before.epoch, before.approvals):
            self._bells[News.APPROVALS].ring()
        self._bells[News.ANYTHING].ring()
