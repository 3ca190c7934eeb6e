"""An issuer composed as in production: a store in a temporary folder, a fake trust domain, the example bundle."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from broker.app.issuer import open_issuer
from broker.credential.revocation import Rule, RuleKind
from broker.credential.ring import KeyUse
from broker.credential.token import Credential
from broker.errors import Refusal
from broker.intent import Intent, Resource
from broker.issuer.local import LocalIssuer
from broker.operations.approval_calls import (
    ApprovalAnswered,
    ApprovalCall,
    ApprovalList,
    ApproveCall,
    ListApprovalsCall,
    ShownApproval,
)
from broker.operations.calls import (
    AuditEvent,
    AuditFilter,
    AuditPageCall,
    BeginTaskCall,
    Context,
    Ended,
    EndTaskCall,
    ExchangeAnswer,
    ExchangeCall,
    LiftCall,
    ReadCall,
    RevocationPage,
    RevocationPageCall,
    RevokeCall,
)
from broker.operations.key_calls import KeysChanged, ListedKey, RotateKeysCall
from broker.operations.outcome_calls import ReportAnswer, ReportCall
from broker.operations.override_calls import ImposeCall, LiftOverrideCall, Overridden
from broker.operations.redeem_calls import RedeemCall, Redeemed
from broker.operations.task_calls import ResumeTaskCall
from broker.outcome import Report, ReportKind
from broker.override import Override, Stop, StopKind
from broker.settings import load
from broker.store.interface import Store
from broker.svid.principal import Evidence, TrustBundles
from broker.task import Task
from tests.fakes.trust_domain import TrustDomain

Answer = TypeVar("Answer")
ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "examples" / "support-desk" / "policy"

BROKER = "spiffe://example.org/broker"
SUPPORT = "spiffe://example.org/agent/support-assistant"
WHOLESALE = "spiffe://example.org/agent/wholesale-assistant"
SHARED = "spiffe://example.org/agent/shared-assistant"
COURIER = "spiffe://partner.example/agent/courier"
ORDERS = "spiffe://example.org/service/orders"
SECURITY = "spiffe://example.org/operator/security"
DUTY = "spiffe://example.org/operator/duty"
LEAD = "spiffe://example.org/operator/refunds-lead"
DEPUTY = "spiffe://example.org/operator/refunds-deputy"
CHAT = "spiffe://example.org/service/chat"
RETAIL_DESK = "spiffe://example.org/operator/retail-desk"


# What the example bundle gives once.
REFUND: dict[str, Any] = {"action": "order.refund", "parameters": {"amount": 4200, "currency": "EUR"}}


@dataclass(kw_only=True)
class World:
    """Everything a test needs to call the issuer as somebody."""

    issuer: LocalIssuer
    folder: Path
    time: "Time"
    domains: dict[str, TrustDomain]
    trusted: TrustBundles
    _evidence: dict[str, Evidence] = field(default_factory=dict)
    _requests: Any = field(default_factory=count)

    def evidence(self, who: str) -> Evidence:
        """Return what a connection of this SPIFFE ID presents, the same leaf each time."""
        if who not in self._evidence:
            domain, _, path = who.removeprefix("spiffe://").partition("/")
            self._evidence[who] = self.domains[domain].svid("/" + path).evidence()
        return self._evidence[who]

    def long_lived(self, who: str) -> None:
        """Give this ID a leaf that is good nearly as long as its authority."""
        domain, _, path = who.removeprefix("spiffe://").partition("/")
        self._evidence[who] = self.domains[domain].svid("/" + path, ttl=timedelta(hours=23)).evidence()

    def renew(self, who: str) -> None:
        """Give this ID a new leaf, as SPIRE does when it rotates."""
        self._evidence.pop(who, None)

    def context(self, who: str) -> Context:
        return Context(evidence=self.evidence(who), request=f"req_{next(self._requests)}")

    def call(self, who: str = SUPPORT, **changes: Any) -> ExchangeCall:
        """Return an exchange that the example bundle permits, with changes to its intent or to the call."""
        names = ("lifetime", "request_id", "approval", "trail")
        outer = {name: changes.pop(name) for name in names if name in changes}
        if isinstance(changes.get("resource"), str):
            kind, _, identifier = changes["resource"].partition("/")
            changes["resource"] = Resource(type=kind, id=identifier)
        values: dict[str, Any] = {
            "action": "order.read",
            "resource": Resource(type="order", id="1234"),
            "purpose": "customer-support",
            "audience": ORDERS,
        }
        return ExchangeCall(context=self.context(who), intent=Intent(**values | changes), **outer)

    async def exchange(self, who: str = SUPPORT, **changes: Any) -> ExchangeAnswer:
        (answer,) = await self.issuer.exchange([self.call(who, **changes)])
        return answer

    async def granted(self, who: str = SUPPORT, **changes: Any) -> Credential:
        answer = await self.exchange(who, **changes)
        assert isinstance(answer, Credential), answer
        return answer

    async def refused(self, who: str = SUPPORT, **changes: Any) -> Refusal:
        answer = await self.exchange(who, **changes)
        assert isinstance(answer, Refusal), answer
        return answer

    async def begin(self, who: str = SUPPORT, **changes: Any) -> Task:
        values = {"purpose": "customer-support"} | changes
        return await self.issuer.begin_task(BeginTaskCall(context=self.context(who), **values))

    async def end(self, task: str, who: str = SUPPORT) -> Ended:
        return await self.issuer.end_task(EndTaskCall(context=self.context(who), task=task))

    async def report(self, *reports: Report, who: str = ORDERS) -> tuple[ReportAnswer, ...]:
        return (await self.issuer.report(ReportCall(context=self.context(who), reports=reports))).answers

    async def resume(self, task: str, who: str = SECURITY) -> Ended:
        return await self.issuer.resume_task(ResumeTaskCall(context=self.context(who), task=task, text="looked at it"))

    async def revoke(self, kind: str, name: str, who: str = SECURITY) -> Ended:
        rule = Rule(kind=RuleKind(kind), name=name)
        return await self.issuer.revoke(RevokeCall(context=self.context(who), rule=rule, text="a test"))

    async def lift(self, revocation: str, who: str = SECURITY) -> Ended:
        return await self.issuer.lift(LiftCall(context=self.context(who), revocation=revocation))

    async def stop(self, kind: str, name: str = "", *, who: str = SECURITY, tenant: str = "") -> Overridden:
        stop = Stop(kind=StopKind(kind), name=name, tenant=tenant)
        return await self.issuer.impose_override(ImposeCall(context=self.context(who), stop=stop, text="a test"))

    async def let_go_on(self, override: str, who: str = DUTY) -> Overridden:
        return await self.issuer.lift_override(
            LiftOverrideCall(context=self.context(who), override=override, text="over")
        )

    async def stopped(self, who: str = SECURITY) -> tuple[Override, ...]:
        return (await self.issuer.list_overrides(ReadCall(context=self.context(who)))).overrides

    async def once(self, task: str, **changes: Any) -> Credential:
        """Return a credential that is good once: for a refund within a task."""
        return await self.granted(**REFUND | {"task": task} | changes)

    def spending(self, credential: Credential, who: str = ORDERS, *, name: str = "", **changes: str) -> RedeemCall:
        """Return a redemption on the call that a credential is for; of another one by that name."""
        grant = credential.grant
        values = {
            "credential": name or grant.credential_id,
            "call_digest": grant.scope.only_call(grant.tenant) or "",
            "key": "a-key-of-an-attempt",
        }
        return RedeemCall(context=self.context(who), **values | changes)

    async def redeem(self, credential: Credential, who: str = ORDERS, **changes: str) -> Redeemed:
        return await self.issuer.redeem(self.spending(credential, who, **changes))

    async def held(self, who: str = SUPPORT, **changes: Any) -> str:
        """Return the id of the approval that an intent waits for."""
        refusal = await self.refused(who, **changes)
        assert refusal.held is not None, refusal
        return refusal.held.approval

    async def approval(self, approval: str, who: str = LEAD) -> ShownApproval:
        return await self.issuer.get_approval(ApprovalCall(context=self.context(who), approval=approval))

    async def approve(self, approval: str, who: str = LEAD, *, digest: str = "", **fields: Any) -> ApprovalAnswered:
        """Say yes to what this caller is shown."""
        if not digest:
            details = (await self.approval(approval, who)).details
            digest = details.digest if details else "sha-256:none"
        return await self.issuer.approve(
            ApproveCall(context=self.context(who), approval=approval, digest=digest, **fields)
        )

    async def deny(self, approval: str, who: str = LEAD) -> ApprovalAnswered:
        return await self.issuer.deny(ApprovalCall(context=self.context(who), approval=approval, text="not today"))

    async def withdraw(self, approval: str, who: str = SUPPORT) -> ApprovalAnswered:
        call = ApprovalCall(context=self.context(who), approval=approval, text="not needed")
        return await self.issuer.withdraw_approval(call)

    async def approvals(self, who: str = LEAD, **fields: Any) -> ApprovalList:
        return await self.issuer.list_approvals(ListApprovalsCall(context=self.context(who), **fields))

    async def list_keys(self, who: str = SECURITY) -> dict[tuple[str, str], ListedKey]:
        """Return the keys by use and state; of several retired ones the oldest."""
        found = await self.issuer.list_keys(ReadCall(context=self.context(who)))
        return {(key.use.value, key.state.value): key for key in found.keys}

    async def rotate(self, use: KeyUse | None = KeyUse.TOKENS, *, who: str = SECURITY, **fields: Any) -> KeysChanged:
        return await self.issuer.rotate_keys(RotateKeysCall(context=self.context(who), use=use, **fields))

    async def revocations(self, who: str = ORDERS, cursor: str = "") -> RevocationPage:
        return await self.issuer.revocation_page(RevocationPageCall(context=self.context(who), cursor=cursor))

    async def stored(self, ask: Callable[[Store], Answer]) -> Answer:
        """Return what the store answers in the thread that alone may ask it: two at once can crash the process."""
        return await self.issuer.worker.run(lambda: ask(self.issuer.verbs.attempt.recorder.store))

    async def without_chores(self) -> None:
        """Let no chore come by from now on: what time has brought about, a call finds by itself."""
        await self.stored(lambda _: self.issuer.worker._chores.clear())

    async def events(self, who: str = SECURITY, *, personal: bool = False, **wanted: Any) -> list[AuditEvent]:
        """Return the whole log, or what the filter leaves of it."""
        found: list[AuditEvent] = []
        cursor = ""
        while True:
            page = await self.issuer.audit_page(
                AuditPageCall(
                    context=self.context(who), cursor=cursor, filter=AuditFilter(**wanted), personal=personal
                ),
            )
            found += page.events
            cursor = page.page.cursor
            if page.page.stop >= page.page.size:
                return found


def said(kind: str, credential: str = "", use: Report | None = None, **more: Any) -> Report:
    """A report of a service, under an id of its own."""
    values: dict[str, Any] = {
        "id": f"{uuid4()}",
        "kind": ReportKind(kind),
        "at": datetime.now(UTC),
        "credential": use.credential if use else credential,
        "use": use.id if use else "",
    }
    return Report(**values | more)


@dataclass(kw_only=True)
class Time:
    """The issuer's clock: the real one, or one that stands still, moved by what a test adds."""

    ahead: timedelta = timedelta(0)
    still: datetime | None = None

    def __call__(self) -> datetime:
        return (self.still or datetime.now(UTC)) + self.ahead


def configuration(folder: Path, *, policy: Path = BUNDLE, **sections: str) -> Path:
    """Write a configuration whose every path lies in a folder."""
    path = folder / "broker.toml"
    text = f"""
[broker]
issuer = "https://broker.example.org"
spiffe_id = "{BROKER}"
[listen]
address = "127.0.0.1:0"
[admin]
socket = "{folder}/admin.sock"
[store]
url = "sqlite:///{folder}/broker.sqlite3"
[keys]
dir = "{folder}/keys"
[policy]
dir = "{policy}"
"""
    path.write_text(text + "".join(f"[{name}]\n{body}\n" for name, body in sections.items()))
    return path


@asynccontextmanager
async def open_world(folder: Path) -> AsyncIterator[World]:
    """Open an issuer in a folder; the folder may hold the store of an earlier one."""
    policy = folder / "policy"
    if not policy.exists():
        shutil.copytree(BUNDLE, policy)
    domains = {name: TrustDomain(name) for name in ("example.org", "partner.example")}
    trusted = domains["example.org"].bundles(domains["partner.example"])
    time = Time()
    world: World | None = None
    settings = load(configuration(folder, policy=policy))
    async with open_issuer(settings, lambda: world.trusted if world else trusted, clock=time) as issuer:
        world = World(issuer=issuer, folder=folder, time=time, domains=domains, trusted=trusted)
        yield world
