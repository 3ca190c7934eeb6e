"""Clients over mutual TLS that write down what they are told."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import grpc
from spiffe import SpiffeId as PySpiffeId
from spiffe import X509Svid

from broker.client.errors import BrokerError, RefusedError, StepUpRequired, from_rpc
from broker.credential.token import Token
from broker.errors import Reason
from broker.link.identity import Identity, identity_of
from broker.link.tunnel import Tunnel
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId
from broker.v1 import (
    approval_pb2,
    approval_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    exchange_pb2,
    exchange_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    outcome_pb2,
    outcome_pb2_grpc,
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
from tests.faults.requests import LARGE, LARGE_PARAMETERS, READ, REFUND, REFUND_CALL, REFUND_PARAMETERS, intent_of
from tests.operations.world import BROKER

DEADLINE = 30.0
# Nothing is retried by gRPC: a lost answer has to reach the ledger.
_OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # so long an attempt may take: a busy machine is slow
    ("grpc.max_reconnect_backoff_ms", 100),
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
    ledger: Ledger = field(repr=False)

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

    async def exchange(
        self,
        request_id: str,
        *,
        task: str = "",
        action: str = READ,
        parameters: str = "{}",
        approval: str = "",
        deadline: float = DEADLINE,
    ) -> Held | str:
        """Ask for a credential."""
        intent = intent_of(action, task=task, parameters=parameters)
        request = exchange_pb2.ExchangeRequest(intent=intent, request_id=request_id, approval_id=approval)
        answer = await _told(exchange_pb2_grpc.ExchangeServiceStub(self.channel).Exchange(request, timeout=deadline))
        if isinstance(answer, str):
            self.ledger.lost.add(request_id)
            return answer
        given = answer.credential
        token = Token(given.token, credential_id=given.credential_id)
        held = Held(request_id=request_id, credential=given.credential_id, digest=token.digest(), approval=approval)
        self.ledger.held.append(held)
        return held

    async def hold(self, request_id: str, task: str) -> str:
        """Ask for what a person has to approve; the approval to wait for, empty when there was no answer."""
        intent = intent_of(LARGE, task=task, parameters=LARGE_PARAMETERS)
        request = exchange_pb2.ExchangeRequest(intent=intent, request_id=request_id)
        answer = await _asked(exchange_pb2_grpc.ExchangeServiceStub(self.channel).Exchange(request, timeout=DEADLINE))
        if not isinstance(answer, StepUpRequired) or not answer.approval_id:
            return ""
        self.ledger.waiting.add(answer.approval_id)
        return answer.approval_id

    async def approve(self, approval: str) -> str:
        """Say yes to what is shown; empty when it was acknowledged, now or before."""
        stub = approval_pb2_grpc.ApprovalServiceStub(self.channel)
        shown = await _told(stub.GetApproval(approval_pb2.GetApprovalRequest(approval_id=approval), timeout=DEADLINE))
        if isinstance(shown, str):
            return shown
        digest = shown.approval.details.digest
        request = approval_pb2.ApproveRequest(approval_id=approval, digest=digest)
        answer = await _told(stub.Approve(request, timeout=DEADLINE))
        if isinstance(answer, str):
            return answer
        position = int(answer.position) if answer.HasField("position") else None
        self.ledger.answered.append((approval, "approved", position))
        return ""

    async def deny(self, approval: str) -> str:
        """Say no; empty when it was acknowledged."""
        stub = approval_pb2_grpc.ApprovalServiceStub(self.channel)
        request = approval_pb2.DenyRequest(approval_id=approval, reason="a fault")
        answer = await _told(stub.Deny(request, timeout=DEADLINE))
        if isinstance(answer, str):
            return answer
        self.ledger.answered.append((approval, "denied", int(answer.position)))
        return ""

    async def report(self, said: outcome_pb2.Report) -> str:
        """Report what became of a credential; empty when it was recorded, now or before."""
        stub = outcome_pb2_grpc.OutcomeServiceStub(self.channel)
        answer = await _told(stub.Report(outcome_pb2.ReportRequest(reports=[said]), timeout=DEADLINE))
        if isinstance(answer, str):
            return answer
        (each,) = answer.answers
        if not each.HasField("recorded"):
            return str(each.refusal.message)
        self.ledger.reported.append((said.report_id, int(each.recorded.position)))
        return ""

    async def revoke(self, credential: str, *, deadline: float = DEADLINE) -> str:
        """Revoke one credential; empty when it was acknowledged."""
        request = revoke_pb2.RevokeRequest(rule=revoke_pb2.RevocationRule(credential_id=credential), reason="a fault")
        answer = await _told(revoke_pb2_grpc.RevocationServiceStub(self.channel).Revoke(request, timeout=deadline))
        if isinstance(answer, str):
            return answer
        self.ledger.revocations.append((answer.revocation_id, credential, answer.position))
        return ""

    async def lift(self, revocation: str) -> str:
        """Lift a revocation; empty when it was acknowledged. What it was acknowledged as is taken back before."""
        self.ledger.revocations = [each for each in self.ledger.revocations if each[0] != revocation]
        request = revoke_pb2.LiftRevocationRequest(revocation_id=revocation, reason="over")
        return _problem(
            await _told(revoke_pb2_grpc.RevocationServiceStub(self.channel).LiftRevocation(request, timeout=DEADLINE))
        )

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
        return _problem(await _told(stub.LiftOverride(request, timeout=DEADLINE)))

    async def once(self, task: str) -> str:
        """Get a credential that is good once: for a refund."""
        request = exchange_pb2.ExchangeRequest(intent=intent_of(REFUND, task=task, parameters=REFUND_PARAMETERS))
        answer = await exchange_pb2_grpc.ExchangeServiceStub(self.channel).Exchange(request, timeout=DEADLINE)
        return answer.credential.credential_id

    async def spend(self, credential: str, key: str) -> int | str:
        """Redeem such a credential on its call; the position, or else why it was not."""
        request = redeem_pb2.RedeemRequest(credential_id=credential, call_digest=REFUND_CALL, idempotency_key=key)
        answer = await _told(redeem_pb2_grpc.RedemptionServiceStub(self.channel).Redeem(request, timeout=DEADLINE))
        if isinstance(answer, str):
            return answer
        self.ledger.spent.append((credential, int(answer.position)))
        return int(answer.position)

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

    async def narrow(self, task: str, action: str) -> str:
        """Narrow a task to one action; empty when it was acknowledged."""
        boundary = types_pb2.TaskBoundary(actions=[action])
        request = task_pb2.NarrowTaskRequest(task_id=task, boundary=boundary, reason="a fault")
        return _problem(await _told(task_pb2_grpc.TaskServiceStub(self.channel).NarrowTask(request, timeout=DEADLINE)))

    async def resume(self, task: str) -> str:
        """Let a suspended task go on; empty when it was acknowledged."""
        request = task_pb2.ResumeTaskRequest(task_id=task, reason="a fault")
        return _problem(await _told(task_pb2_grpc.TaskServiceStub(self.channel).ResumeTask(request, timeout=DEADLINE)))

    async def withdraw(self, approval: str) -> str:
        """Take a held request back; empty when it was acknowledged."""
        request = approval_pb2.WithdrawApprovalRequest(approval_id=approval, reason="a fault")
        stub = approval_pb2_grpc.ApprovalServiceStub(self.channel)
        return _problem(await _told(stub.WithdrawApproval(request, timeout=DEADLINE)))

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


def _problem(answer: Any) -> str:
    return answer if isinstance(answer, str) else ""


async def _asked(call: Any) -> Any:
    """Return the answer, or the error that stands for none."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        return from_rpc(error, connection=None)


async def _told(call: Any) -> Any:
    """Return the answer, or the name of the reason why there is none."""
    answer = await _asked(call)
    if not isinstance(answer, BrokerError):
        return answer
    if not isinstance(answer, RefusedError):
        return UNKNOWN
    return answer.reason.name if isinstance(answer.reason, Reason) else answer.reason
