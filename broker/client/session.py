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

from broker.client.channel import Endpoint, Generation, Generations
from broker.client.credential import Checkpoint, Credential, Ending, KeySet, Task
from broker.client.decode import credential_of, duration_of, intent_message, plain_parameters, task_of
from broker.client.errors import BrokerError, from_rpc, refused
from broker.client.streams import Streams
from broker.credential.revocation import RuleKind
from broker.errors import Refusal
from broker.intent import Intent, Json, Level, Resource
from broker.link.identity import IdentitySupply
from broker.link.source import IdentitySource
from broker.svid.spiffe_id import SpiffeId
from broker.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    exchange_pb2,
    exchange_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    revoke_pb2,
    revoke_pb2_grpc,
    task_pb2,
    task_pb2_grpc,
)

DEADLINE: Final = 10.0
Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


class Session:
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
        self._generations = Generations(supply=supply, broker=broker, clock=clock)
        streams = Streams(line=lambda: self._generations.line(self._generations.current(), broker), silence=deadline)
        self.subscribe_audit = streams.audit
        self.subscribe_revocations = streams.revocations

    async def close(self) -> None:
        """Close every channel."""
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

        """
        try:
            intent = Intent(
                action=action,
                resource=resource if isinstance(resource, Resource) else Resource(type=resource[0], id=resource[1]),
                parameters=plain_parameters(parameters or {}),
                purpose=purpose,
                audience=audience,
                task=task.id if isinstance(task, Task) else task,
                on_behalf_of=on_behalf_of,
                sensitivity=sensitivity,
                risk=risk,
            )
        except Refusal as refusal:
            raise refused(refusal) from refusal
        return await self.exchange_intent(intent, lifetime=lifetime)

    async def exchange_intent(self, intent: Intent, *, lifetime: timedelta | None = None) -> Credential:
        """Get the credential for an intent."""
        generation = self._generations.current()
        # With an id of its own a request can be asked again when the reply is lost: it gives the same credential.
        request = exchange_pb2.ExchangeRequest(
            intent=intent_message(intent), lifetime=duration_of(lifetime), request_id=self._new_id("req")
        )
        answer = await self._ask_in(
            generation, lambda channel: exchange_pb2_grpc.ExchangeServiceStub(channel).Exchange, request
        )
        return credential_of(answer.credential, intent, generation.identity.thumbprint)

    def channel(self, service_id: str, address: str, *, credential: Credential | None = None) -> grpc.aio.Channel:
        """Return the channel to a service, which must prove that SPIFFE ID. It belongs to the session: do not close it.

        Args:
            service_id: who the service must be.
            address: where it listens, "host:port".
            credential: what will be sent; the channel is then one with the SVID that it is bound to.

        Raises:
            BrokerError: that SVID is over, and the credential with it.
            ValueError: the address is not "host:port".

        """
        try:
            endpoint = Endpoint(address=address, spiffe_id=SpiffeId.parse(service_id))
        except Refusal as refusal:
            raise refused(refusal) from refusal
        current = self._generations.current()
        generation = current if credential is None else self._generations.of(credential.thumbprint)
        if generation is None:
            raise BrokerError("The SVID that the credential is bound to is over; exchange again.")
        return self._generations.line(generation, endpoint).channel

    # --- tasks -----------------------------------------------------------------------------------------------------

    async def begin_task(
        self, *, purpose: str, tenant: str = "", lifetime: timedelta | None = None, conversation: str = ""
    ) -> Task:
        """Begin a task; an agent of several tenants names one here."""
        request = task_pb2.BeginTaskRequest(
            purpose=purpose, tenant=tenant, lifetime=duration_of(lifetime), conversation=conversation
        )
        answer = await self._ask(lambda channel: task_pb2_grpc.TaskServiceStub(channel).BeginTask, request)
        return task_of(answer.task)

    async def end_task(self, task: Task | str) -> Ending:
        """End a task, and its credentials with it."""
        request = task_pb2.EndTaskRequest(task_id=task.id if isinstance(task, Task) else task)
        answer = await self._ask(lambda channel: task_pb2_grpc.TaskServiceStub(channel).EndTask, request)
        return Ending(position=answer.position, revoked=answer.revoked_credentials)

    # --- revocation ------------------------------------------------------------------------------------------------

    async def revoke(self, kind: RuleKind, name: str, *, reason: str = "") -> Ending:
        """Revoke everything that a rule covers; durable when this returns."""
        rule = _rule(kind, name)
        request = revoke_pb2.RevokeRequest(rule=rule, reason=reason)
        answer = await self._ask(lambda channel: revoke_pb2_grpc.RevocationServiceStub(channel).Revoke, request)
        return Ending(position=answer.position, revoked=answer.revoked_credentials, revocation=answer.revocation_id)

    async def lift(self, revocation: str, *, reason: str = "") -> Ending:
        """Let new credentials pass again; what was revoked stays revoked."""
        request = revoke_pb2.LiftRevocationRequest(revocation_id=revocation, reason=reason)
        answer = await self._ask(lambda channel: revoke_pb2_grpc.RevocationServiceStub(channel).LiftRevocation, request)
        return Ending(position=answer.position, revocation=revocation)

    # --- keys and log ----------------------------------------------------------------------------------------------

    async def key_set(self) -> KeySet:
        """Return the broker's public keys."""
        answer = await self._ask(
            lambda channel: keys_pb2_grpc.KeyServiceStub(channel).GetKeySet, keys_pb2.GetKeySetRequest()
        )
        keys = answer.key_set
        return KeySet(issuer=keys.issuer, jwks=keys.jwks, checkpoint_key=keys.checkpoint_key)

    async def checkpoint(self) -> Checkpoint:
        """Return the newest checkpoint of the audit log."""
        answer = await self._ask(
            lambda channel: audit_pb2_grpc.AuditServiceStub(channel).GetCheckpoint, audit_pb2.GetCheckpointRequest()
        )
        return Checkpoint(note=answer.checkpoint.note, size=answer.checkpoint.size)

    # --- how -------------------------------------------------------------------------------------------------------

    async def _ask(
        self,
        method: Callable[[grpc.aio.Channel], grpc.aio.UnaryUnaryMultiCallable[Request, Answer]],
        request: Request,
    ) -> Answer:
        return await self._ask_in(self._generations.current(), method, request)

    async def _ask_in(
        self,
        generation: Generation,
        method: Callable[[grpc.aio.Channel], grpc.aio.UnaryUnaryMultiCallable[Request, Answer]],
        request: Request,
    ) -> Answer:
        line = self._generations.line(generation, self._broker)
        try:
            return await method(line.channel)(request, timeout=self._deadline)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, connection=line.tunnel.last_error) from error


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


def _rule(kind: RuleKind, name: str) -> revoke_pb2.RevocationRule:
    match kind:
        case RuleKind.CREDENTIAL:
            return revoke_pb2.RevocationRule(credential_id=name)
        case RuleKind.TASK:
            return revoke_pb2.RevocationRule(task_id=name)
        case RuleKind.AGENT:
            return revoke_pb2.RevocationRule(agent=name)
        case RuleKind.TENANT:
            return revoke_pb2.RevocationRule(tenant=name)
        case RuleKind.POLICY:
            return revoke_pb2.RevocationRule(policy_id=name)
