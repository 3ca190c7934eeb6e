"""Feed: keeps a view current by following the broker's revocation stream, and comes back whatever happens to it.

While the stream is away the view grows old by itself and the validator refuses: the feed never has to say so.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from broker.v1 import revoke_pb2, revoke_pb2_grpc
from broker.validator.bounds import Bounds
from broker.validator.view import KeySet, RevocationView, Update, UpdateRefused

_LOG: Final = logging.getLogger(__name__)
_CURSOR_REASONS: Final = "CURSOR_"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """How a feed behaves.

    Attributes:
        silence: without a message for this long the stream is given up and opened anew.
        first_pause: pause after a stream ended; doubles with each further failure.
        longest_pause: what it doubles up to.
        spread: what is added to each pause, times the jitter: a thousand readers come back over so long a time.

    """

    silence: timedelta = Bounds().read
    first_pause: timedelta = timedelta(milliseconds=100)
    longest_pause: timedelta = timedelta(seconds=5)
    spread: timedelta = timedelta(seconds=1)


class Feed:
    """Follows `RevocationService.SubscribeRevocations` into a view. `run` is one task of the service.

    Args:
        channel: to the broker, with the service's own SVID.
        view: what to keep current.
        clock: UTC.
        jitter: between 0 and 1, anew at each call; spreads a thousand validators whose broker restarts.
        settings: see there.

    """

    def __init__(
        self,
        *,
        channel: grpc.aio.Channel,
        view: RevocationView,
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        settings: FeedSettings | None = None,
    ) -> None:
        self._stub = revoke_pb2_grpc.RevocationServiceStub(channel)
        self._view = view
        self._clock = clock
        self._jitter = jitter
        self._settings = settings or FeedSettings()
        self._cursor = ""
        self._usable = asyncio.Event()
        self._hurried = asyncio.Event()
        self._progress = False
        self.problem = ""

    async def ready(self) -> None:
        """Return once the view has a snapshot, keys and freshness: the first ones, or new ones after it was dropped."""
        await self._usable.wait()

    async def run(self) -> None:
        """Follow until cancelled."""
        failures = 0
        while True:
            self._progress = False
            self.problem = await self._follow()
            _LOG.info("the revocation stream ended: %s", self.problem)
            failures = 0 if self._progress else failures + 1
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause(failures).total_seconds()):
                    await self._hurried.wait()
            self._hurried.clear()

    def hurry(self) -> None:
        """Come back without a pause, once: this side let go of the connection, and nobody else did so with it.

        A new SVID does that; with a pause after it the view grows older than calls of high impact may be judged on.
        """
        self._hurried.set()

    def _pause(self, failures: int) -> timedelta:
        doubled = self._settings.first_pause * (1 << min(failures, 16))
        part = self._jitter()
        return min(self._settings.longest_pause, doubled) * (0.5 + 0.5 * part) + self._settings.spread * part

    async def _follow(self) -> str:
        """Follow one stream to its end; return why it ended."""
        call = self._stub.SubscribeRevocations(revoke_pb2.SubscribeRevocationsRequest(cursor=self._cursor))
        try:
            while True:
                async with asyncio.timeout(self._settings.silence.total_seconds()):
                    message = await call.read()
                if not isinstance(message, revoke_pb2.SubscribeRevocationsResponse):
                    return "the broker ended it"
                self._take(message)
        except TimeoutError:
            return "silence"
        except UpdateRefused as problem:
            self._start_anew()
            return str(problem)
        except grpc.aio.AioRpcError as error:
            if reason_of(error).startswith(_CURSOR_REASONS):
                self._start_anew()
            return f"{error.code().name} {reason_of(error)}"
        except Exception as defect:  # noqa: BLE001 - a feed that stopped would leave the service refusing for good
            _LOG.exception("the revocation stream failed")
            self._start_anew()
            return type(defect).__name__
        finally:
            call.cancel()

    def _start_anew(self) -> None:
        """Forget cursor and view: the next stream begins with a snapshot, until then everything is refused."""
        self._cursor = ""
        self._view.drop()
        self._usable.clear()
        self._progress = False

    def _take(self, message: revoke_pb2.SubscribeRevocationsResponse) -> None:
        now = self._clock()
        self._view.apply(_update(message), now)
        self._cursor = message.cursor
        self.problem = ""
        self._progress = True
        if self._view.staleness(now) is not None:
            self._usable.set()


def _update(message: revoke_pb2.SubscribeRevocationsResponse) -> Update:
    """Bring a message into our nouns."""
    try:
        read_at = message.heartbeat.at.ToDatetime(tzinfo=UTC) if message.HasField("heartbeat") else None
    except (ValueError, OverflowError) as problem:
        raise UpdateRefused("a heartbeat at no time") from problem
    return Update(
        start=message.from_position,
        stop=message.to_position,
        snapshot=message.snapshot.status_indexes if message.HasField("snapshot") else None,
        revoked=tuple(index for revoked in message.revoked for index in revoked.status_indexes),
        size=message.heartbeat.position,
        read_at=read_at,
        key_set=KeySet(issuer=message.key_set.issuer, jwks=message.key_set.jwks)
        if message.HasField("key_set")
        else None,
    )


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the stable reason of a refusal by the broker, or nothing."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has all that is read
    except ValueError:
        return ""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
            return info.reason
    return ""
