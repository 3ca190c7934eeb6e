"""Cache: credentials of reads that may serve the same intent again.

A held credential is given only while the agent's own revocation stream says, recently, that it has not been revoked.
It is never given across generations, and no longer once most of its life is over: asking again is a new decision.
Those who ask for the same at once share one exchange. A credential that is good once is neither held nor shared.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from broker.client.credential import Credential
from broker.client.errors import BrokerError, Unreachable
from broker.intent import Intent
from broker.v1 import revoke_pb2

Key: TypeAlias = tuple[str, timedelta | None]
Heard: TypeAlias = AsyncIterator[revoke_pb2.SubscribeRevocationsResponse]

HELD: Final = 1024
REMEMBERED: Final = 16_384
FRESH: Final = timedelta(seconds=10)
# After the stream failed for good (it may not be allowed), for so long nothing is held and it is not opened again.
REST: Final = timedelta(seconds=30)
_USED: Final = 0.75

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    credential: Credential
    task: str
    until: datetime


@dataclass(slots=True, kw_only=True)
class _Flight:
    """An exchange that is underway, and how many wait for it."""

    asking: asyncio.Task[Credential]
    waiting: int = 0

    async def landed(self) -> Credential:
        """Wait for it; it ends when nobody does any more."""
        self.waiting += 1
        try:
            return await asyncio.shield(self.asking)
        except BrokerError as error:
            raise error.with_traceback(None)  # noqa: B904 - one exception raised again and again would gather tracebacks
        finally:
            self.waiting -= 1
            if not self.waiting:
                self.asking.cancel()


async def _joined(flight: _Flight, ask: Callable[[], Awaitable[Credential]]) -> Credential:
    """Wait for somebody else's exchange; what it brings and is good once is theirs."""
    credential = await flight.landed()
    return credential if credential.use == "many" else await ask()


class ReadCache:
    """The credentials that one session holds.

    Args:
        clock: the time, UTC.
        follow: opens the agent's own revocation stream.
        fresh: how old the stream's newest statement may be; beyond it nothing is given.

    """

    def __init__(self, *, clock: Callable[[], datetime], follow: Callable[[], Heard], fresh: timedelta = FRESH) -> None:
        self._clock = clock
        self._follow = follow
        self._fresh = fresh
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._revoked: OrderedDict[str, None] = OrderedDict()
        self._flights: dict[tuple[Key, str], _Flight] = {}
        self._as_of: datetime | None = None
        self._following: asyncio.Task[None] | None = None
        self._failed_at: datetime | None = None

    async def obtain(
        self, intent: Intent, lifetime: timedelta | None, thumbprint: str, ask: Callable[[], Awaitable[Credential]]
    ) -> Credential:
        """Return a held credential, else what the one exchange brings that all who want the same wait for.

        A refusal is everybody's. That nobody answered is said only to those whose own time it was: who came while the
        exchange was underway waits for one of its own, or of those who came with it.

        Raises:
            BrokerError: what `ask` raises.

        """
        held = self.get(intent, lifetime, thumbprint)
        if held is not None:
            return held

        async def asking() -> Credential:
            credential = await ask()
            self.put(intent, lifetime, credential)
            return credential

        key = (intent.digest(), lifetime), thumbprint
        flight = self._underway(key)
        if flight is not None:
            with suppress(Unreachable):
                return await _joined(flight, ask)
        flight = self._underway(key)
        return await (_joined(flight, ask) if flight else self._begin(key, asking()).landed())

    def _underway(self, key: tuple[Key, str]) -> _Flight | None:
        flight = self._flights.get(key)
        return None if flight is None or flight.asking.cancelling() else flight

    def _begin(self, key: tuple[Key, str], asking: Coroutine[None, None, Credential]) -> _Flight:
        def landed(task: asyncio.Task[Credential]) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not task.cancelled():
                task.exception()  # somebody was told, or everybody had left

        flight = self._flights[key] = _Flight(
            asking=asyncio.get_running_loop().create_task(asking, name="exchange of a read")
        )
        flight.asking.add_done_callback(landed)
        return flight

    def get(self, intent: Intent, lifetime: timedelta | None, thumbprint: str) -> Credential | None:
        """Return a credential that was given for this very intent and is bound to this SVID; None without one."""
        key, now = (intent.digest(), lifetime), self._clock()
        entry = self._entries.get(key)
        if entry is None or self._as_of is None or now - self._as_of > self._fresh:
            return None
        if now >= entry.until or entry.credential.thumbprint != thumbprint:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry.credential

    def put(self, intent: Intent, lifetime: timedelta | None, credential: Credential) -> None:
        """Hold a credential, unless it is good once, or has been revoked on its way here."""
        if credential.use == "once":
            return
        now = self._clock()
        if self._following is None or self._following.done():
            if self._failed_at is not None and now - self._failed_at < REST:
                return
            self._following = asyncio.get_running_loop().create_task(self._run(), name="revocations of own credentials")
        if credential.id in self._revoked:
            return
        until = now + (credential.expires_at - now) * _USED
        key = (intent.digest(), lifetime)
        self._entries[key] = _Entry(credential=credential, task=intent.task, until=until)
        self._entries.move_to_end(key)
        if len(self._entries) > HELD:
            self._entries.popitem(last=False)

    def forget(self, credential: Credential) -> None:
        """Let go of one credential: a service did not accept it."""
        self._drop({credential.id})

    def forget_task(self, task: str) -> None:
        """Let go of a task's credentials: it has ended."""
        self._entries = OrderedDict((key, each) for key, each in self._entries.items() if each.task != task)

    async def close(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        self._entries.clear()

    async def _run(self) -> None:
        """Follow until the stream fails for good; after a rest a credential that could be held starts it again."""
        try:
            async for message in self._follow():
                self._hear(message)
        except Exception as problem:  # noqa: BLE001 - whatever it is, nothing is given without the stream
            self._failed_at = self._clock()
            _log.warning("credentials are not held: the revocation stream failed: %s", problem)
        finally:
            self._as_of = None
            self._entries.clear()

    def _hear(self, message: revoke_pb2.SubscribeRevocationsResponse) -> None:
        ids = [*message.snapshot.credential_ids, *(each for one in message.revoked for each in one.credential_ids)]
        if ids:
            self._drop(set(ids))
            self._revoked.update(dict.fromkeys(ids))
            while len(self._revoked) > REMEMBERED:
                self._revoked.popitem(last=False)
        # It had read up to that position at that time; a range that ends before has not caught up yet.
        if message.HasField("heartbeat") and message.to_position >= message.heartbeat.position:
            self._as_of = message.heartbeat.at.ToDatetime(tzinfo=UTC)

    def _drop(self, gone: set[str]) -> None:
        self._entries = OrderedDict(
            (key, each) for key, each in self._entries.items() if each.credential.id not in gone
        )
