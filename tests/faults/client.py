"""Clients over mutual TLS that write down what they are told."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import grpc
from spiffe import SpiffeId as PySpiffeId
from spiffe import X509Svid

from broker.client.errors import RefusedError, from_rpc
from broker.credential.token import Token
from broker.errors import Reason
from broker.intent import Resource, call_digest
from broker.link.identity import Identity, identity_of
from broker.link.tunnel import Tunnel
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId
from broker.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    exchange_pb2,
    exchange_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    override_pb2,
    override_pb2_grpc,
    redeem_pb2,
    redeem_pb2_grpc,
    revoke_pb2,
    revoke_pb2_grpc,
    task_pb2,
    task_pb2_grpc,
    types_pb2,
)
from tests.fakes.trust_domain import Svid, TrustDomain
from tests.faults.ledger import Held, Ledger
from tests.operations.world import BROKER, ORDERS

DEADLINE = 10.0
# Nothing is retried by gRPC: a lost answer has to reach the ledger.
_OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
)
REFUND = call_digest(
    action="order.refund",
    resource=Resource(type="order", id="1234"),
    tenant="retail",
    parameters={"amount": 4200, "currency": "EUR"},
)
# What says nothing about whether the broker acted.
UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """A client's identity, the same leaf for as long as it lives."""

    own: Identity
    trust: TrustBundles

    def identity(self) -> Identity:
        return self.own

    def bundles(self) -> TrustBundles:
        return self.trust


def supply_of(svid: Svid, domain: TrustDomain) -> Supply:
    chain = X509Svid(PySpiffeId(svid.id), [svid.leaf, *svid.sent], svid.key)
    return Supply(own=identity_of(chain), trust=domain.bundles())


@dataclass(slots=True, kw_only=True)
class Client:
    """One connection to the broker; each method returns what was given, or why nothing was.

    A reason's name is the answer of a refusal, UNKNOWN that there was no answer.
    """

    tunnel: Tunnel
    channel: grpc.aio.Channel
    ledger: Ledger

    @classmethod
    def open(cls, supply: Supply, port: int, ledger: Ledger) -> Self:
        tunnel = Tunnel(
            host="127.0.0.1",
            port=port,
            server_id=SpiffeId.parse(BROKER),
            supply=supply,
            clock=lambda: datetime.now(UTC),
        )
        return cls(tunnel=tunnel, channel=tunnel.channel(options=_OPTIONS), ledger=ledger)

    async def close(self) -> None:
        await self.channel.close()
        await asyncio.to_thread(self.tunnel.close)

    async def exchange(self, request_id: str, *, task: str = "", deadline: float = DEADLINE) -> Held | str:
        request = exchange_pb2.ExchangeRequest(
            intent=types_pb2.Intent(
                action="order.read",
                resource=types_pb2.Resource(type="order", id="1234"),
                parameters="{}",
                purpose="customer-support",
                audience=ORDERS,
                task_id=task,
            ),
            request_id=request_id,
        )
        answer = await _told(exchange_pb2_grpc.ExchangeServiceStub(self.channel).Exchange(request, timeout=deadline))
        if isinstance(answer, str):
            self.ledger.lost.add(request_id)
            return answer
        given = answer.credential
        token = Token(given.token, credential_id=given.credential_id)
        held = Held(request_id=request_id, credential=given.credential_id, digest=token.digest())
        self.ledger.held.append(held)
        return held

    async def revoke(self, credential: str, *, deadline: float = DEADLINE) -> str:
        """Revoke one credential; empty when it was acknowledged."""
        request = revoke_pb2.RevokeRequest(rule=revoke_pb2.RevocationRule(credential_id=credential), reason="a fault")
        answer = await _told(revoke_pb2_grpc.RevocationServiceStub(self.channel).Revoke(request, timeout=deadline))
        if isinstance(answer, str):
            return answer
        self.ledger.revocations.append((answer.revocation_id, credential, answer.position))
        return ""

    async def stop(self, agent: str) -> tuple[str, str]:
        """Stop an agent; the override, or else why there is none."""
        target = override_pb2.OverrideTarget(agent=agent)
        request = override_pb2.ImposeOverrideRequest(target=target, reason="a fault")
        stub = override_pb2_grpc.OverrideServiceStub(self.channel)
        answer = await _told(stub.ImposeOverride(request, timeout=DEADLINE))
        return ("", answer) if isinstance(answer, str) else (answer.override_id, "")

    async def let_go_on(self, override: str) -> str:
        """Lift an override; empty when it was acknowledged."""
        request = override_pb2.LiftOverrideRequest(override_id=override, reason="over")
        stub = override_pb2_grpc.OverrideServiceStub(self.channel)
        answer = await _told(stub.LiftOverride(request, timeout=DEADLINE))
        return answer if isinstance(answer, str) else ""

    async def once(self, task: str) -> str:
        """Get a credential that is good once: for a refund."""
        intent = types_pb2.Intent(
            action="order.refund",
            resource=types_pb2.Resource(type="order", id="1234"),
            parameters='{"amount": 4200, "currency": "EUR"}',
            purpose="customer-support",
            audience=ORDERS,
            task_id=task,
        )
        request = exchange_pb2.ExchangeRequest(intent=intent)
        answer = await exchange_pb2_grpc.ExchangeServiceStub(self.channel).Exchange(request, timeout=DEADLINE)
        return answer.credential.credential_id

    async def spend(self, credential: str, key: str) -> int | str:
        """Redeem such a credential on its call; the position, or else why it was not."""
        request = redeem_pb2.RedeemRequest(credential_id=credential, call_digest=REFUND, idempotency_key=key)
        answer = await _told(redeem_pb2_grpc.RedemptionServiceStub(self.channel).Redeem(request, timeout=DEADLINE))
        return answer if isinstance(answer, str) else int(answer.position)

    async def begin(self, conversation: str) -> tuple[str, str]:
        """Begin a task; the task, or else why there is none."""
        request = task_pb2.BeginTaskRequest(purpose="customer-support", conversation=conversation)
        answer = await _told(task_pb2_grpc.TaskServiceStub(self.channel).BeginTask(request, timeout=DEADLINE))
        if isinstance(answer, str):
            return "", answer
        self.ledger.begun.append(answer.task.task_id)
        return answer.task.task_id, ""

    async def end(self, task: str) -> str:
        """End a task; empty when it was acknowledged."""
        request = task_pb2.EndTaskRequest(task_id=task)
        answer = await _told(task_pb2_grpc.TaskServiceStub(self.channel).EndTask(request, timeout=DEADLINE))
        if isinstance(answer, str):
            return answer
        self.ledger.ended.append((task, answer.position))
        return ""

    async def keep_checkpoint(self) -> bool:
        """Keep a checkpoint of everything so far, as an auditor outside the broker does."""
        keys = await _told(
            keys_pb2_grpc.KeyServiceStub(self.channel).GetKeySet(keys_pb2.GetKeySetRequest(), timeout=DEADLINE)
        )
        request = audit_pb2.GetCheckpointRequest()
        answer = await _told(audit_pb2_grpc.AuditServiceStub(self.channel).GetCheckpoint(request, timeout=DEADLINE))
        if isinstance(answer, str) or isinstance(keys, str):
            return False
        self.ledger.key = self.ledger.key or keys.key_set.checkpoint_key
        self.ledger.notes.append(answer.checkpoint.note)
        return True


async def _told(call: Any) -> Any:
    """Return the answer, or the name of the reason why there is none."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        told = from_rpc(error, connection=None)
        if not isinstance(told, RefusedError):
            return UNKNOWN
        return told.reason.name if isinstance(told.reason, Reason) else told.reason
