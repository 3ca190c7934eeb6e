"""An issuer that authenticates for real, decides what it is told to, and keeps a log in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from broker.approval import ApprovalState
from broker.boundary import Boundary
from broker.credential.grant import Grant
from broker.credential.ring import KeyState, KeyUse
from broker.credential.token import Credential, Token
from broker.errors import Reason, Refusal
from broker.intent import Intent
from broker.issuer.port import (
    ApprovalAnswered,
    ApprovalCall,
    ApprovalList,
    ApprovalPage,
    ApprovalPageCall,
    ApproveCall,
    AuditEvent,
    AuditPage,
    AuditPageCall,
    BeginTaskCall,
    Change,
    Context,
    Continued,
    Drifted,
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
    ListedKey,
    NarrowTaskCall,
    Overridden,
    Override,
    OverrideList,
    Page,
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
    Revoked,
    RotateKeysCall,
    ShownApproval,
    ShownDrifted,
    SignedCheckpoint,
    Snapshot,
    Start,
    State,
    Stop,
    StopKind,
    Task,
)
from broker.scope import Scope
from broker.svid.authenticate import Authenticator
from broker.svid.principal import Principal, TrustBundles

PAGE = 4
LISTED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def uuid(number: int) -> str:
    """A UUIDv7 in form."""
    return f"01890000-0000-7000-8000-{number:012x}"


def new_ids() -> Callable[[str], str]:
    """Ids that count."""
    count = 0

    def new_id(prefix: str) -> str:
        nonlocal count
        count += 1
        return f"{prefix}_{uuid(count)}"

    return new_id


@dataclass(slots=True, kw_only=True)
class FakeIssuer:
    """Implements the port. Set `refusal` to refuse every verb, `hold` to make it wait, `away` to have it gone."""

    authenticator: Authenticator
    bundles: TrustBundles
    clock: Callable[[], datetime]
    refusal: Refusal | None = None
    defect: Exception | None = None
    hold: asyncio.Event | None = None
    hold_overrides: asyncio.Event | None = None
    away: bool = False
    epoch: int = 1
    approval_changes: int = 0
    keys: str = "k1"
    calls: list[object] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    refused: list[RefusedCall] = field(default_factory=list)
    finished: int = 0
    log: list[AuditEvent] = field(default_factory=list)
    revocations: list[Revoked] = field(default_factory=list)
    pages: int = 0
    feeds: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    # --- what a test does ------------------------------------------------------------------------------------------

    async def append(self, count: int = 1, size: int = 16) -> None:
        """Let the log grow."""
        for _ in range(count):
            self.log.append(AuditEvent(position=len(self.log), content=b"e" * size))
        await self._notify()

    async def add_revocation(self, *indexes: int) -> None:
        """Let the log grow by a revocation."""
        position = len(self.log)
        self.revocations.append(
            Revoked(position=position, at=datetime.now(UTC), rule="credential", status_indexes=indexes)
        )
        await self.append()

    async def change_approvals(self) -> None:
        """Say that approvals have changed."""
        self.approval_changes += 1
        await self.append()

    async def change_authority(self) -> None:
        """Say that who may do what may have changed."""
        self.epoch += 1
        await self._notify()

    async def leave(self) -> None:
        """Go away, as a process that ends."""
        self.away = True
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # --- the port --------------------------------------------------------------------------------------------------

    async def exchange(self, calls: Sequence[ExchangeCall]) -> Sequence[ExchangeAnswer]:
        self.groups.append(len(calls))
        await self._wait()
        answers = [self._decide(call) for call in calls]
        self.finished += len(calls)
        return answers

    async def begin_task(self, call: BeginTaskCall) -> Task:
        caller = await self._admit(call.context, call)
        now = self.clock()
        return Task(
            id=f"task_{uuid(1)}",
            agent=str(caller.spiffe_id),
            begun_by=str(caller.spiffe_id),
            tenant=call.tenant or "acme",
            purpose=call.purpose,
            conversation=call.conversation,
            begun_at=now,
            deadline=now + (call.lifetime or timedelta(hours=1)),
            type=call.type,
            boundary=call.boundary,
            heartbeat=call.heartbeat,
        )

    async def end_task(self, call: EndTaskCall) -> Ended:
        await self._admit(call.context, call)
        return Ended(position=7, revoked=2)

    async def heartbeat_task(self, call: HeartbeatCall) -> Continued:
        await self._admit(call.context, call)
        return Continued(task=self._going(call.task, Boundary()), revoked=1)

    async def narrow_task(self, call: NarrowTaskCall) -> Continued:
        await self._admit(call.context, call)
        return Continued(task=self._going(call.task, call.boundary), revoked=2)

    def _going(self, name: str, boundary: Boundary) -> Task:
        now = self.clock()
        return Task(
            id=name,
            agent="spiffe://example.org/agent",
            begun_by="spiffe://example.org/agent",
            tenant="acme",
            purpose="support",
            conversation="",
            begun_at=now,
            deadline=now + timedelta(hours=1),
            boundary=boundary,
        )

    async def revoke(self, call: RevokeCall) -> Ended:
        await self._admit(call.context, call)
        return Ended(position=8, revoked=3, revocation=f"rev_{uuid(1)}")

    async def lift(self, call: LiftCall) -> Ended:
        await self._admit(call.context, call)
        return Ended(position=9, revoked=0, revocation=call.revocation)

    async def redeem(self, call: RedeemCall) -> Redeemed:
        await self._admit(call.context, call)
        return Redeemed(position=12, at=LISTED_AT)

    async def resume_task(self, call: ResumeTaskCall) -> Ended:
        await self._admit(call.context, call)
        return Ended(position=12, revoked=0)

    async def report(self, call: ReportCall) -> Reported:
        await self._admit(call.context, call)
        return Reported(answers=tuple(range(len(call.reports))))

    async def impose_override(self, call: ImposeCall) -> Overridden:
        self.calls.append(call)  # waits behind nothing, as at the real one
        self._identify(call.context)
        if self.hold_overrides is not None:
            await self.hold_overrides.wait()
        return Overridden(position=10, override=f"ovr_{uuid(1)}", revoked=4)

    async def lift_override(self, call: LiftOverrideCall) -> Overridden:
        await self._admit(call.context, call)
        return Overridden(position=11, override=call.override)

    async def list_overrides(self, call: ReadCall) -> OverrideList:
        caller = await self._admit(call.context, call)
        stop = Stop(kind=StopKind.CLASS, name="write", tenant="acme")
        held = Override(id=f"ovr_{uuid(1)}", stop=stop, at=LISTED_AT, by=str(caller.spiffe_id), text="a test")
        return OverrideList(overrides=(held,))

    async def list_approvals(self, call: ListApprovalsCall) -> ApprovalList:
        caller = await self._admit(call.context, call)
        return ApprovalList(approvals=(self._approval(caller),), next_page_token="more")

    async def list_drifted(self, call: ListDriftedCall) -> DriftedList:
        caller = await self._admit(call.context, call)
        return DriftedList(drifted=(self._drifted(caller),), next_page_token="more")

    def _drifted(self, caller: Principal) -> ShownDrifted:
        task = Task(
            id=f"task_{uuid(1)}",
            agent=str(caller.spiffe_id),
            begun_by=str(caller.spiffe_id),
            tenant="acme",
            purpose="support",
            conversation="",
            begun_at=LISTED_AT,
            deadline=LISTED_AT,
            type="case",
        )
        drifted = Drifted(
            task=task.id,
            agent=task.agent,
            tenant=task.tenant,
            group="desk",
            since=LISTED_AT,
            at=LISTED_AT,
            refusals=3,
            within=timedelta(minutes=10),
            reasons=("TASK_BOUNDARY_EXCEEDED",),
            actions=("order.delete",),
        )
        return ShownDrifted(drifted=drifted, task=task, business_owner="Head", security_owner="Security")

    async def get_approval(self, call: ApprovalCall) -> ShownApproval:
        return self._approval(await self._admit(call.context, call))

    async def approve(self, call: ApproveCall) -> ApprovalAnswered:
        return ApprovalAnswered(shown=self._approval(await self._admit(call.context, call)), position=None)

    async def deny(self, call: ApprovalCall) -> ApprovalAnswered:
        return ApprovalAnswered(shown=self._approval(await self._admit(call.context, call)), position=13)

    async def withdraw_approval(self, call: ApprovalCall) -> ApprovalAnswered:
        return ApprovalAnswered(shown=self._approval(await self._admit(call.context, call)), position=14)

    async def approval_page(self, call: ApprovalPageCall) -> ApprovalPage:
        caller = await self._admit(call.context, call)
        self.pages += 1
        size = len(self.log)
        start = int(call.cursor) if call.cursor else size
        return ApprovalPage(
            page=self._page(start, size, caller),
            approvals=(self._approval(caller),),
            drifted=(self._drifted(caller),),
        )

    def _approval(self, caller: Principal) -> ShownApproval:
        return ShownApproval(
            id=f"appr_{uuid(1)}",
            state=ApprovalState.PENDING,
            agent=str(caller.spiffe_id),
            tenant="acme",
            task="",
            requested_at=LISTED_AT,
            pending_until=LISTED_AT,
            intent_digest="sha-256:i",
            requirements=(),
        )

    async def key_set(self, call: ReadCall) -> KeySet:
        await self._admit(call.context, call)
        return self._key_set()

    async def list_keys(self, call: ReadCall) -> KeyList:
        await self._admit(call.context, call)
        return KeyList(keys=(self._listed,))

    async def rotate_keys(self, call: RotateKeysCall) -> KeysChanged:
        await self._admit(call.context, call)
        return KeysChanged(
            position=9,
            at=LISTED_AT,
            use=call.use or KeyUse.TOKENS,
            kid="k1",
            replaced=call.emergency or "k0",
            following="k2",
            signs_from=LISTED_AT,
        )

    @property
    def _listed(self) -> ListedKey:
        return ListedKey(kid="k1", use=KeyUse.TOKENS, state=KeyState.CURRENT, algorithm="ES256", activated=LISTED_AT)

    async def checkpoint(self, call: ReadCall) -> SignedCheckpoint:
        await self._admit(call.context, call)
        return SignedCheckpoint(note="note", size=len(self.log))

    async def refuse(self, call: RefusedCall) -> Refusal:
        self.refused.append(call)
        try:
            await self._admit(call.context, call)
        except Refusal as refusal:
            return refusal
        return call.refusal

    async def authenticate(self, call: ReadCall) -> datetime:
        return (await self._admit(call.context, call)).not_after

    async def revocation_page(self, call: RevocationPageCall) -> RevocationPage:
        caller = await self._admit(call.context, call)
        self.pages += 1
        size = len(self.log)
        start = int(call.cursor) if call.cursor else size
        stop = min(size, start + PAGE)
        return RevocationPage(
            page=self._page(start, stop, caller),
            snapshot=None if call.cursor else Snapshot(status_indexes=b"bitmap", credential_ids=("cred_1",)),
            revoked=tuple(each for each in self.revocations if start <= each.position < stop),
            key_set=None if call.known_keys == self.keys else self._key_set(),
        )

    async def audit_page(self, call: AuditPageCall) -> AuditPage:
        caller = await self._admit(call.context, call)
        self.pages += 1
        start = int(call.cursor) if call.cursor else len(self.log) if call.start is Start.END else 0
        stop = min(len(self.log), start + PAGE)
        events = self.log[start:stop]
        if call.filter.kinds:  # as if nothing matched
            events = []
        return AuditPage(page=self._page(start, stop, caller), events=tuple(events))

    async def changes(self) -> AsyncIterator[Change]:
        self.feeds += 1
        seen = None
        while not self.away:
            newest = self._newest()
            if newest != seen:
                seen = newest
                yield newest
                continue
            async with self._changed:
                if not self.away and self._newest() == seen:
                    await self._changed.wait()

    def _newest(self) -> Change:
        return Change(
            size=len(self.log), epoch=self.epoch, endings=len(self.revocations), approvals=self.approval_changes
        )

    async def state(self) -> State:
        if self.away:
            raise Refusal(Reason.ISSUER_UNAVAILABLE)
        return State(
            size=len(self.log), policy_digest="sha-256:p", policy_problem="", spiffe_id="spiffe://example.org/broker"
        )

    # --- within ----------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        if self.away:
            raise Refusal(Reason.ISSUER_UNAVAILABLE)
        if self.hold is not None:
            await self.hold.wait()
        if self.defect is not None:
            raise self.defect

    async def _admit(self, context: Context, call: object) -> Principal:
        self.calls.append(call)
        await self._wait()
        caller = self._identify(context)
        if self.refusal is not None:
            raise self.refusal
        return caller

    def _identify(self, context: Context) -> Principal:
        return self.authenticator.authenticate(context.evidence, self.bundles, self.clock())

    def _decide(self, call: ExchangeCall) -> ExchangeAnswer:
        self.calls.append(call)
        try:
            caller = self._identify(call.context)
        except Refusal as refusal:
            return refusal
        if isinstance(call.intent, Refusal):
            return call.intent
        return self.refusal or self._credential(call.intent, caller)

    def _credential(self, intent: Intent, caller: Principal) -> Credential:
        now = self.clock().replace(microsecond=0)
        credential_id = f"cred_{uuid(len(self.calls))}"
        grant = Grant(
            credential_id=credential_id,
            agent=str(caller.spiffe_id),
            tenant="acme",
            task=intent.task,
            transaction_id=f"txn_{uuid(1)}",
            scope=Scope.of(intent),
            intent_digest=intent.digest(),
            thumbprint=caller.thumbprint,
            status_index=1,
            policy_ids=("orders", "base"),
            issued_at=now,
            expires_at=now + timedelta(minutes=5),
        )
        token = Token(f"secret-token-of.{credential_id}", credential_id=credential_id)
        return Credential(token=token, grant=grant, decision_id=f"dec_{uuid(1)}")

    def _key_set(self) -> KeySet:
        return KeySet(issuer="https://broker.example.org", jwks='{"keys":[]}', checkpoint_key="ck", digest=self.keys)

    def _page(self, start: int, stop: int, caller: Principal) -> Page:
        return Page(
            start=start,
            stop=stop,
            cursor=str(stop),
            read_at=self.clock(),
            size=len(self.log),
            valid_until=caller.not_after,
        )
