"""Session: what an agent holds open towards its broker."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message

from broker.client.ask import Ask
from broker.client.cache import ReadCache
from broker.client.calls import CredentialChannel, Declare, Way
from broker.client.channel import Endpoint, Generations
from broker.client.credential import Credential, Task
from broker.client.decode import credential_of, duration_of, intent_message, trail_message
from broker.client.errors import refused
from broker.client.services import Services
from broker.client.streams import Streams
from broker.client.tasks import Tasks
from broker.errors import Refusal
from broker.intent import Intent, Json, Level, Resource
from broker.link.identity import IdentitySupply
from broker.link.source import IdentitySource
from broker.svid.spiffe_id import SpiffeId
from broker.trail import NO_TRAIL, Trail
from broker.v1 import exchange_pb2

DEADLINE: Final = 10.0
Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


class Session(Tasks):
    """Asks the broker, always with a deadline, and opens channels to services. Make one with `connect`.

    Every method raises RefusedError (in its classes by category) when the broker says no, Unreachable when it does not
    answer, and IdentityUnavailable when this process has no SVID.

    Args:
        supply: of identity and bundles.
        broker: where it listens, who it must be.
        clock: the time, UTC.
        new_id: makes an id from its prefix.
        deadline: seconds that one call may take.

    """

    def __init__(
        self,
        *,
        supply: IdentitySupply,
        broker: Endpoint,
        clock: Callable[[], datetime],
        new_id: Callable[[str], str],
        deadline: float = DEADLINE,
    ) -> None:
        broker.host_and_port()
        self._broker = broker
        self._new_id = new_id
        self._deadline = deadline
        self._generations = Generations(supply=supply, broker=broker, clock=clock, deadline=deadline)
        streams = Streams(line=lambda: self._generations.line(self._generations.current(), broker), silence=deadline)
        self.subscribe_audit = streams.audit
        self.subscribe_revocations = streams.revocations
        self._watch_approvals = streams.approvals
        self._cache = ReadCache(clock=clock, follow=streams.revocations)
        self.services = Services(
            obtain=self._obtain, forget=self._cache.forget, generations=self._generations, deadline=deadline
        )

    async def close(self) -> None:
        """Close every channel."""
        await self._cache.close()
        await self._generations.close()

    # --- credentials -----------------------------------------------------------------------------------------------

    async def exchange(  # noqa: PLR0913 - an intent has that many words, and all are named
        self,
        *,
        action: str,
        resource: tuple[str, str] | Resource,
        purpose: str,
        audience: str,
        parameters: Mapping[str, Json] | None = None,
        task: Task | str = "",
        on_behalf_of: str = "",
        lifetime: timedelta | None = None,
        sensitivity: Level | None = None,
        risk: Level | None = None,
        cache: bool = False,
        wait: timedelta | None = None,
        trail: Trail = NO_TRAIL,
    ) -> Credential:
        """Declare an intent and get the credential for it.

        Args:
            action: what is about to be done.
            resource: its type and id; a Resource for a declared set.
            purpose: why; registered for this agent.
            audience: SPIFFE ID of the service that will be called.
            parameters: of the call; integers, text, booleans, lists and mappings of them. Money in minor units.
            task: what it belongs to; writes need one.
            on_behalf_of: for whom; a statement that nobody verifies.
            lifetime: as long as policy allows when None.
            sensitivity: raises the level that the broker knows.
            risk: the same.
            cache: a credential that this session holds for the same intent will do. For reads only; see Ask.
            wait: when people have to approve it first, wait for them so long, and ask again with what they approved.
                None raises StepUpRequired at once.
            trail: what led to this, for the audit log: make one with `trail_of`. No part of the intent.

        Raises:
            StepUpRequired: nobody has approved it, in time; `approval_id` says what to wait for.

        """
        ask = Ask(
            action=action,
            resource=resource,
            parameters=parameters or {},
            purpose=purpose,
            task=task,
            on_behalf_of=on_behalf_of,
            lifetime=lifetime,
            sensitivity=sensitivity,
            risk=risk,
            cache=cache,
            wait=wait,
            trail=trail,
        )
        return await self._obtain(ask, audience)

    async def exchange_intent(
        self,
        intent: Intent,
        *,
        lifetime: timedelta | None = None,
        cache: bool = False,
        approval: str = "",
        wait: timedelta | None = None,
        trail: Trail = NO_TRAIL,
    ) -> Credential:
        """Get the credential for an intent; several at once go to the broker together.

        Args:
            intent: what is about to be done.
            lifetime: as `exchange`.
            cache: as `exchange`.
            approval: the id of the approval that it is asked with.
            wait: as `exchange`.
            trail: as `exchange`.

        """

        async def asking(approved: str) -> Credential:
            # Each time anew: while people decide, the SVID may be renewed.
            generation = self._generations.current()
            thumbprint = generation.identity.thumbprint

            async def ask() -> Credential:
                # With an id of its own a request can be asked again when the reply is lost: the same credential comes.
                request = exchange_pb2.ExchangeRequest(
                    intent=intent_message(intent),
                    lifetime=duration_of(lifetime),
                    request_id=self._new_id("req"),
                    approval_id=approved or approval,
                    trail=trail_message(trail),
                )
                return credential_of(await generation.exchanges.ask(request), intent, thumbprint)

            return await (self._cache.obtain(intent, lifetime, thumbprint, ask) if cache else ask())

        return await self._until_approved(asking, wait)

    async def _obtain(self, ask: Ask, audience: str) -> Credential:
        return await self.exchange_intent(
            ask.intent(audience), lifetime=ask.lifetime, cache=ask.cache, wait=ask.wait, trail=ask.trail
        )

    def channel(
        self,
        service_id: str,
        address: str,
        *,
        credential: Credential | None = None,
        intents: Mapping[str, Declare] | None = None,
    ) -> grpc.aio.Channel:
        """Return the channel to a service, which must prove that SPIFFE ID. It belongs to the session: do not close it.

        Args:
            service_id: who the service must be; the audience of the intents.
            address: where it listens, "host:port".
            credential: to send with each call, over the connection with the SVID that it is bound to.
            intents: what each method is about to do, by its full name ("/orders.v1.OrdersService/GetOrder") and from
                its request. Each call then gets a credential of its own, and sends it; see CredentialChannel. With
                neither, nothing is sent but the current SVID.

        Raises:
            BrokerError: that SVID is over, and the credential with it.
            ValueError: the address is not "host:port"; or both a credential and intents were given.

        """
        service = self.services.at(service_id, address)
        if credential is not None and intents is not None:
            raise ValueError("A channel sends one credential, or gets one for each call: not both.")
        current = service.channel(credential)
        if credential is None and intents is None:
            return current
        return CredentialChannel(Way(service=service, intents=dict(intents or {}), held=credential))


@asynccontextmanager
async def connect(
    address: str,
    *,
    broker_id: str,
    socket: str | None = None,
    spiffe_id: str | None = None,
    hint: str | None = None,
    timeout: float = DEADLINE,  # noqa: ASYNC109 - the Workload API is waited for on a thread
) -> AsyncIterator[Session]:
    """Open a session with a broker, as the workload that this process is.

    Args:
        address: of the broker, "host:port".
        broker_id: the SPIFFE ID that the broker must prove.
        socket: of the Workload API; None takes SPIFFE_ENDPOINT_SOCKET.
        spiffe_id: which SVID to use, when this process may have several.
        hint: the same, by the operator's hint.
        timeout: seconds to wait for the first SVID, and for each call.

    Raises:
        IdentityUnavailable: the Workload API gives no SVID; `fix` says what to do.
        RefusedError: broker_id is not a SPIFFE ID.
        ValueError: the address is not "host:port".

    """
    try:
        broker = Endpoint(address=address, spiffe_id=SpiffeId.parse(broker_id))
    except Refusal as refusal:
        raise refused(refusal) from refusal
    broker.host_and_port()
    source = await IdentitySource.open(socket=socket, spiffe_id=spiffe_id, hint=hint, timeout=timeout)
    try:
        session = Session(supply=source, broker=broker, clock=_now, new_id=_new_id, deadline=timeout)
        try:
            yield session
        finally:
            await session.close()
    finally:
        await asyncio.to_thread(source.close)


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id(prefix: str) -> str:
    """Make a UUIDv7 (RFC 9562 section 5.7) behind a prefix."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) & ~(0x3 << 62) | (0x7 << 76) | (0x2 << 62)
    digits = f"{value:032x}"
    return f"{prefix}_{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
