"""Follow: pages one after another make a stream. Each is authenticated, authorised and read anew by the issuer.

There is no queue: a reader that does not read suspends its own stream and nobody else's. What ends a stream (the end of
the reader's SVID, a revocation, a bundle that no longer lets it read) is a refusal of its next page; the cursor of the
last message stands.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message

from broker.issuer.port import ApprovalPage, AuditPage, RevocationPage
from broker.server.hub import Hub, News
from broker.server.reception import Call, Reception

Found = TypeVar("Found", RevocationPage, AuditPage, ApprovalPage)

# When an SVID is over by the door's clock and not yet by the issuer's, the issuer is asked again after this long.
_CLOCK_STEP: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader(Generic[Found]):
    """What one stream reads.

    Attributes:
        cursor: where it begins; empty for wherever the stream begins without one.
        page: asks the issuer for the page at a cursor; the flag says that it is the stream's first.
        encode: makes the message of a page; it covers everything from the given position on.
        has_news: whether a page holds more than its range.
        forever: False ends the stream at the log's size as of the first page.
        wakes_for: what it tells of; it need not wake for the rest of the log.

    """

    cursor: str
    page: Callable[[str, bool], Coroutine[Any, Any, Found]]
    encode: Callable[[Found, int], Message]
    has_news: Callable[[Found], bool]
    forever: bool
    wakes_for: News


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """Sends pages for as long as the issuer gives them."""

    reception: Reception
    hub: Hub

    async def __call__(self, call: Call, reader: Reader[Found]) -> None:
        """Send pages: at once while there are more, then whenever there may be news, and at every heartbeat.

        A page without news is not sent before a heartbeat is due; the next message then covers its range as well, so
        that the ranges stay free of gaps.

        Raises:
            Refusal: what the issuer refused a page with.

        """
        now = asyncio.get_running_loop().time
        cursor, opening = reader.cursor, True
        held: int | None = None  # where a page began that was not sent; the next message covers it
        reached: int | None = None
        end: int | None = None
        due = now()
        while True:
            seen, asked = self.hub.heard(reader.wakes_for), now()
            found = await self._page(call, reader, cursor, opening)
            page = found.page
            if held is None or page.start != reached:  # a gap is the issuer's to explain, not ours to cover up
                held = page.start
            end = page.size if end is None else end
            finished = not reader.forever and page.stop >= end
            if finished or opening or reader.has_news(found) or now() >= due:
                await call.write(reader.encode(found, held))
                held, due = None, now() + self.reception.limits.heartbeat
            if finished:
                return
            cursor, reached, opening = page.cursor, page.stop, False
            if not page.start < page.stop < page.size:
                await self._pause(reader, seen, until=min(due, now() + self._left(page.valid_until)), asked=asked)

    async def _page(self, call: Call, reader: Reader[Found], cursor: str, opening: bool) -> Found:  # noqa: FBT001
        return await self.reception.ask_for_page(call, lambda: reader.page(cursor, opening))

    async def _pause(self, reader: Reader[Found], seen: int, *, until: float, asked: float) -> None:
        now = asyncio.get_running_loop().time
        await self.hub.beyond(seen, until - now(), reader.wakes_for)
        await asyncio.sleep(asked + self.reception.limits.spacing - now())

    def _left(self, valid_until: datetime) -> float:
        return max(_CLOCK_STEP, (valid_until - self.reception.clock()).total_seconds())
