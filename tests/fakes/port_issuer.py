"""An issuer behind the port that answers what a test tells it to, and remembers what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from broker.errors import Reason, Refusal
from broker.issuer.port import (
    ApprovalAnswered,
    ApprovalCall,
    ApprovalList,
    ApprovalPage,
    ApprovalPageCall,
    ApproveCall,
    AuditPage,
    AuditPageCall,
    BeginTaskCall,
    Change,
    Continued,
    DriftedList,
    Ended,
    EndTaskCall,
    ExchangeAnswer,
    ExchangeCall,
    HeartbeatCall,
    ImposeCall,
    KeyList,
    KeysChanged,
    KeySet,
    LiftCall,
    LiftOverrideCall,
    ListApprovalsCall,
    ListDriftedCall,
    NarrowTaskCall,
    Overridden,
    OverrideList,
    ReadCall,
    RedeemCall,
    Redeemed,
    RefusedCall,
    ReportCall,
    Reported,
    ResumeTaskCall,
    RevocationPage,
    RevocationPageCall,
    RevokeCall,
    RotateKeysCall,
    ShownApproval,
    SignedCheckpoint,
    State,
    Task,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class PortIssuer:
    """Every verb but exchange gives `answer`, or raises it when it is an exception."""

    answer: object = None
    exchanged: dict[str, ExchangeAnswer] = field(default_factory=dict)
    in_order: list[ExchangeAnswer] | None = None
    asked: list[object] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    urgent_first: bool = False
    open_gate: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Queue[Change | None] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        """Answer at once; a test closes the gate to hold answers back."""
        self.open_gate.set()

    async def exchange(self, calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        """Answer in order when told so, else by the door's id of each call."""
        self.asked.extend(calls)
        self.groups.append(len(calls))
        await self.open_gate.wait()
        if self.in_order is not None:
            return self.in_order
        unknown = Refusal(Reason.POLICY_NOT_PERMITTED)
        return [self.exchanged.get(call.context.request, unknown) for call in calls]

    async def _say(self, call: object) -> Any:
        self.asked.append(call)
        await self.open_gate.wait()
        if isinstance(self.answer, Exception) and not (
            isinstance(call, RefusedCall) and isinstance(self.answer, Refusal)
        ):
            raise self.answer
        return self.answer

    async def begin_task(self, call: BeginTaskCall) -> Task:
        return cast(Task, await self._say(call))

    async def end_task(self, call: EndTaskCall) -> Ended:
        return cast(Ended, await self._say(call))

    async def heartbeat_task(self, call: HeartbeatCall) -> Continued:
        return cast(Continued, await self._say(call))

    async def narrow_task(self, call: NarrowTaskCall) -> Continued:
        return cast(Continued, await self._say(call))

    async def resume_task(self, call: ResumeTaskCall) -> Ended:
        return cast(Ended, await self._say(call))

    async def report(self, call: ReportCall) -> Reported:
        return cast(Reported, await self._say(call))

    async def revoke(self, call: RevokeCall) -> Ended:
        return cast(Ended, await self._say(call))

    async def lift(self, call: LiftCall) -> Ended:
        return cast(Ended, await self._say(call))

    async def redeem(self, call: RedeemCall) -> Redeemed:
        return cast(Redeemed, await self._say(call))

    async def impose_override(self, call: ImposeCall) -> Overridden:
        if self.urgent_first:
            return cast(Overridden, self.answer)
        return cast(Overridden, await self._say(call))

    async def lift_override(self, call: LiftOverrideCall) -> Overridden:
        return cast(Overridden, await self._say(call))

    async def list_overrides(self, call: ReadCall) -> OverrideList:
        return cast(OverrideList, await self._say(call))

    async def list_approvals(self, call: ListApprovalsCall) -> ApprovalList:
        return cast(ApprovalList, await self._say(call))

    async def get_approval(self, call: ApprovalCall) -> ShownApproval:
        return cast(ShownApproval, await self._say(call))

    async def approve(self, call: ApproveCall) -> ApprovalAnswered:
        return cast(ApprovalAnswered, await self._say(call))

    async def deny(self, call: ApprovalCall) -> ApprovalAnswered:
        return cast(ApprovalAnswered, await self._say(call))

    async def withdraw_approval(self, call: ApprovalCall) -> ApprovalAnswered:
        return cast(ApprovalAnswered, await self._say(call))

    async def approval_page(self, call: ApprovalPageCall) -> ApprovalPage:
        return cast(ApprovalPage, await self._say(call))

    async def list_drifted(self, call: ListDriftedCall) -> DriftedList:
        return cast(DriftedList, await self._say(call))

    async def key_set(self, call: ReadCall) -> KeySet:
        return cast(KeySet, await self._say(call))

    async def list_keys(self, call: ReadCall) -> KeyList:
        return cast(KeyList, await self._say(call))

    async def rotate_keys(self, call: RotateKeysCall) -> KeysChanged:
        return cast(KeysChanged, await self._say(call))

    async def checkpoint(self, call: ReadCall) -> SignedCheckpoint:
        return cast(SignedCheckpoint, await self._say(call))

    async def refuse(self, call: RefusedCall) -> Refusal:
        return cast(Refusal, await self._say(call))

    async def authenticate(self, call: ReadCall) -> datetime:
        return cast(datetime, await self._say(call))

    async def revocation_page(self, call: RevocationPageCall) -> RevocationPage:
        return cast(RevocationPage, await self._say(call))

    async def audit_page(self, call: AuditPageCall) -> AuditPage:
        return cast(AuditPage, await self._say(call))

    async def changes(self) -> AsyncIterator[Change]:
        while (change := await self.news.get()) is not None:
            yield change

    async def state(self) -> State:
        return cast(State, await self._say(None))
