"""Streams: the audit log, revocations and approvals, going on where they were when a connection ends."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar, cast

import grpc

from broker.client.errors import BrokerError, Exhausted, Unauthenticated, Unavailable, Unreachable, from_rpc
from broker.client.line import Line
from broker.errors import Reason
from broker.v1 import approval_pb2, approval_pb2_grpc, audit_pb2, audit_pb2_grpc, revoke_pb2, revoke_pb2_grpc

_FIRST_BACKOFF: Final = 0.1
_LONGEST_BACKOFF: Final = 5.0


class Resumable(Protocol):
    """A message of any stream: where to resume after it."""

    @property
    def cursor(self) -> str:
        """Resumes after it."""
        ...


class Ranged(Resumable, Protocol):
    """A message of a stream of the log: what it covers as well."""

    @property
    def from_position(self) -> int:
        """First position covered."""
        ...

    @property
    def to_position(self) -> int:
        """One past the last."""
        ...


Page = TypeVar("Page", bound=Ranged)
Message = TypeVar("Message", bound=Resumable)
Request = TypeVar("Request")


class Gap(BrokerError):
    """A stream left out a range of the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """The streams of a session.

    Attributes:
        line: the way to the broker, in the generation that is current.
        silence: seconds without a message, heartbeats included, after which a stream is opened anew.

    """

    line: Callable[[], Line]
    silence: float

    def audit(
        self,
        *,
        wanted: audit_pb2.AuditFilter | None = None,
        cursor: str = "",
        from_end: bool = False,
        forever: bool = True,
        personal: bool = False,
    ) -> AsyncGenerator[audit_pb2.SubscribeAuditResponse, None]:
        """Follow the audit log: each position once, in order, without gaps.

        Args:
            wanted: which events; None for all.
            cursor: of an earlier message, to go on after it.
            from_end: without a cursor, begin with what comes from now on.
            forever: False ends at the log's size as of now.
            personal: with the openings of personal values.

        """
        start = audit_pb2.AUDIT_START_END if from_end else audit_pb2.AUDIT_START_BEGINNING

        def open_at(resume: str) -> AsyncGenerator[audit_pb2.SubscribeAuditResponse, None]:
            request = audit_pb2.SubscribeAuditRequest(
                cursor=resume, filter=wanted, start=start, follow=forever, personal=personal
            )
            line = self.line()
            return self._read(line, audit_pb2_grpc.AuditServiceStub(line.channel).SubscribeAudit(request))

        return _follow(open_at, cursor=cursor, forever=forever)

    def revocations(self, *, cursor: str = "") -> AsyncGenerator[revoke_pb2.SubscribeRevocationsResponse, None]:
        """Follow the revocations that concern this caller; without a cursor a snapshot comes first."""

        def open_at(resume: str) -> AsyncGenerator[revoke_pb2.SubscribeRevocationsResponse, None]:
            request = revoke_pb2.SubscribeRevocationsRequest(cursor=resume)
            line = self.line()
            return self._read(line, revoke_pb2_grpc.RevocationServiceStub(line.channel).SubscribeRevocations(request))

        return _follow(open_at, cursor=cursor, forever=True)

    def approvals(
        self, *, cursor: str = "", metadata: tuple[tuple[str, str], ...] = ()
    ) -> AsyncGenerator[approval_pb2.WatchApprovalsResponse, None]:
        """Follow the approvals that concern this caller as they change; without a cursor from now on.

        Args:
            cursor: of an earlier message, to go on after it.
            metadata: says which person reads.

        """

        def open_at(resume: str) -> AsyncGenerator[approval_pb2.WatchApprovalsResponse, None]:
            request = approval_pb2.WatchApprovalsRequest(cursor=resume)
            line = self.line()
            stub = approval_pb2_grpc.ApprovalServiceStub(line.channel)
            return self._read(line, stub.WatchApprovals(request, metadata=metadata))

        return _resuming(open_at, cursor=cursor, forever=True)

    async def _read(
        self, line: Line, call: grpc.aio.UnaryStreamCall[Request, Message]
    ) -> AsyncGenerator[Message, None]:
        try:
            while True:
                async with asyncio.timeout(self.silence):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    return
                yield cast(Message, message)
        except TimeoutError as silence:
            raise Unreachable("The broker has been silent for too long.") from silence
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if not call.cancelled() or (task is not None and task.cancelling()):
                raise
            # gRPC cancels the calls of a channel that is closed: its generation's SVID is over, nobody gave this up.
            raise Unreachable("The connection of this stream was closed.") from cancelled
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc(error, connection=line.tunnel.last_error)
            if isinstance(refusal, Unauthenticated) and self.line() is not line:
                # The SVID was renewed under the stream, and the old one's authority may be gone: ask with the new one.
                raise Unreachable("The stream's SVID has been replaced.") from refusal
            raise refusal from error
        finally:
            call.cancel()


async def _follow(
    open_at: Callable[[str], AsyncGenerator[Page, None]], *, cursor: str, forever: bool
) -> AsyncGenerator[Page, None]:
    """Yield messages; resume from the last cursor when a connection, the issuer or the SVID it was opened with ends.

    Raises:
        BrokerError: what the broker refuses for good; Gap when a message does not begin where the last one ended.

    """
    expected: int | None = None
    async with aclosing(_resuming(open_at, cursor=cursor, forever=forever)) as messages:
        async for message in messages:
            if expected is not None and message.from_position != expected:
                raise Gap(f"The stream goes on at {message.from_position} instead of {expected}.")
            expected = message.to_position
            yield message


async def _resuming(
    open_at: Callable[[str], AsyncGenerator[Message, None]], *, cursor: str, forever: bool
) -> AsyncGenerator[Message, None]:
    """Yield messages as they come, over every interruption that is none of the reader's.

    Raises:
        BrokerError: what the broker refuses for good.

    """
    backoff = _FIRST_BACKOFF
    while True:
        try:
            async with aclosing(open_at(cursor)) as messages:
                async for message in messages:
                    cursor, backoff = message.cursor, _FIRST_BACKOFF
                    yield message
            if not forever:
                return
        except (Exhausted, Unauthenticated, Unavailable, Unreachable) as error:
            if isinstance(error, Unauthenticated) and error.reason is not Reason.SVID_EXPIRED:
                raise  # an expired SVID is renewed; everything else about who asks stays
        await asyncio.sleep(backoff)
        backoff = min(backoff * 2, _LONGEST_BACKOFF)
