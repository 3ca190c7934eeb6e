"""The issuer in another process: the port's methods, each carried over the link of the moment."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from broker.errors import Reason, Refusal
from broker.issuer import approval_verbs, verbs
from broker.issuer.link import Link
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
from broker.issuer.verb import Verb
from broker.issuer.wire import open_streams

Call = TypeVar("Call")
Answer = TypeVar("Answer")


class RemoteIssuer:
    """Implements the port over a link. Without one, or when it dies, every call is refused with ISSUER_UNAVAILABLE.

    Args:
        on_lost: called when a link has ended by itself, so that another can be asked for.

    """

    def __init__(self, *, on_lost: Callable[[], None] | None = None) -> None:
        self._on_lost = on_lost
        self._link: Link | None = None
        self._running: asyncio.Task[None] | None = None
        self._attached = asyncio.Event()

    @property
    def attached(self) -> bool:
        """Whether there is a link now."""
        return self._link is not None

    async def attach(self, link: socket.socket) -> None:
        """Use this link from now on; whoever waits for the one before is refused."""
        reader, writer = await open_streams(link)
        await self._drop()
        self._link = Link(reader=reader, writer=writer)
        self._running = asyncio.create_task(self._run(self._link))
        self._attached.set()

    async def attach_all(self, links: AsyncIterator[socket.socket]) -> None:
        """Attach every link that comes, and drop the last when no more can come."""
        try:
            async for link in links:
                await self.attach(link)
        finally:
            await self.close()

    async def close(self) -> None:
        """Drop the link."""
        await self._drop()

    async def _drop(self) -> None:
        running, self._running = self._running, None
        link, self._link = self._link, None
        self._attached.clear()
        if link is not None:
            link.end()  # here too: a task that is cancelled before its first step does nothing at all
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _run(self, link: Link) -> None:
        try:
            await link.run()
        finally:
            if self._link is link:
                self._link = None
                self._attached.clear()
                if self._on_lost is not None:
                    self._on_lost()

    async def _ask(self, verb: Verb[Call, Answer], call: Call) -> Answer:
        if self._link is None:
            raise Refusal(Reason.ISSUER_UNAVAILABLE)
        return await self._link.ask(verb, call)

    async def exchange(self, calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        """Decide intents; each has its own answer, ISSUER_UNAVAILABLE when the link is down or dies meanwhile."""
        if self._link is None:
            return [Refusal(Reason.ISSUER_UNAVAILABLE) for _ in calls]
        return await self._link.exchange(calls)

    async def begin_task(self, call: BeginTaskCall) -> Task:
        """Begin a task."""
        return await self._ask(verbs.BEGIN_TASK, call)

    async def end_task(self, call: EndTaskCall) -> Ended:
        """End a task and its credentials."""
        return await self._ask(verbs.END_TASK, call)

    async def heartbeat_task(self, call: HeartbeatCall) -> Continued:
        """Hear that a task is still worked on."""
        return await self._ask(verbs.HEARTBEAT_TASK, call)

    async def narrow_task(self, call: NarrowTaskCall) -> Continued:
        """Give a task a narrower boundary, and end what no longer fits."""
        return await self._ask(verbs.NARROW_TASK, call)

    async def resume_task(self, call: ResumeTaskCall) -> Ended:
        """Let a suspended task go on."""
        return await self._ask(verbs.RESUME_TASK, call)

    async def report(self, call: ReportCall) -> Reported:
        """Take what a service reports of its credentials."""
        return await self._ask(verbs.REPORT, call)

    async def revoke(self, call: RevokeCall) -> Ended:
        """Put a rule in force."""
        return await self._ask(verbs.REVOKE, call)

    async def lift(self, call: LiftCall) -> Ended:
        """Take a rule out of force."""
        return await self._ask(verbs.LIFT, call)

    async def redeem(self, call: RedeemCall) -> Redeemed:
        """Spend a credential that is good once."""
        return await self._ask(verbs.REDEEM, call)

    async def impose_override(self, call: ImposeCall) -> Overridden:
        """Stop something, at once."""
        return await self._ask(verbs.IMPOSE_OVERRIDE, call)

    async def lift_override(self, call: LiftOverrideCall) -> Overridden:
        """Lift an override that somebody else imposed."""
        return await self._ask(verbs.LIFT_OVERRIDE, call)

    async def list_overrides(self, call: ReadCall) -> OverrideList:
        """Return the overrides in force that concern the caller's tenants."""
        return await self._ask(verbs.LIST_OVERRIDES, call)

    async def list_approvals(self, call: ListApprovalsCall) -> ApprovalList:
        """Return a page of the caller's approvals."""
        return await self._ask(approval_verbs.LIST, call)

    async def get_approval(self, call: ApprovalCall) -> ShownApproval:
        """Return one of them."""
        return await self._ask(approval_verbs.GET, call)

    async def approve(self, call: ApproveCall) -> ApprovalAnswered:
        """Say yes to one."""
        return await self._ask(approval_verbs.APPROVE, call)

    async def deny(self, call: ApprovalCall) -> ApprovalAnswered:
        """Say no to one, or take back what was said."""
        return await self._ask(approval_verbs.DENY, call)

    async def withdraw_approval(self, call: ApprovalCall) -> ApprovalAnswered:
        """Take back a request of the caller's."""
        return await self._ask(approval_verbs.WITHDRAW, call)

    async def approval_page(self, call: ApprovalPageCall) -> ApprovalPage:
        """Return the next page of the caller's approvals as they change."""
        return await self._ask(approval_verbs.PAGE, call)

    async def list_drifted(self, call: ListDriftedCall) -> DriftedList:
        """Return a page of the drifted tasks that wait for the caller."""
        return await self._ask(approval_verbs.LIST_DRIFTED, call)

    async def key_set(self, call: ReadCall) -> KeySet:
        """Return the public keys."""
        return await self._ask(verbs.KEY_SET, call)

    async def list_keys(self, call: ReadCall) -> KeyList:
        """Return the keys with their states and times."""
        return await self._ask(verbs.LIST_KEYS, call)

    async def rotate_keys(self, call: RotateKeysCall) -> KeysChanged:
        """Let the next key follow, or take one away at once."""
        return await self._ask(verbs.ROTATE_KEYS, call)

    async def checkpoint(self, call: ReadCall) -> SignedCheckpoint:
        """Return the newest checkpoint, of everything committed before the call."""
        return await self._ask(verbs.CHECKPOINT, call)

    async def refuse(self, call: RefusedCall) -> Refusal:
        """Authenticate, record and return the refusal to give: the authentication's own when that fails."""
        return await self._ask(verbs.REFUSE, call)

    async def authenticate(self, call: ReadCall) -> datetime:
        """Check who calls, nothing else; return when the caller's SVID ends."""
        return await self._ask(verbs.AUTHENTICATE, call)

    async def revocation_page(self, call: RevocationPageCall) -> RevocationPage:
        """Return the next page of a reader's revocations."""
        return await self._ask(verbs.REVOCATION_PAGE, call)

    async def audit_page(self, call: AuditPageCall) -> AuditPage:
        """Return the next page of the audit log."""
        return await self._ask(verbs.AUDIT_PAGE, call)

    async def changes(self) -> AsyncIterator[Change]:
        """Yield the newest state at once, then each change; ends when the link does.

        Without a link it waits for one, so that a reader that follows again after the end does not spin.
        """
        await self._attached.wait()
        link = self._link
        if link is not None:
            async for change in link.changes():
                yield change

    async def state(self) -> State:
        """Return what the issuer stands on."""
        return await self._ask(verbs.STATE, None)
