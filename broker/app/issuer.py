"""The issuer, composed, and as a process of its own: keys, store and policy opened in order, closed in reverse."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version

import structlog
from pyroaring import BitMap

from broker.app import approvals
from broker.app.identity import open_identity
from broker.app.ids import new_id, now
from broker.app.lifetime import guarded, until_stopped
from broker.audit.event import BrokerStarted
from broker.credential.ring import KeySettings, KeyUse
from broker.credential.source import Signers, open_signers
from broker.errors import Refusal
from broker.issuer.batch import Chore, Worker
from broker.issuer.changes import Changes
from broker.issuer.local import LocalIssuer, Verbs
from broker.issuer.port import Change, State
from broker.issuer.server import serve_links
from broker.operations.approval_reads import GetApproval, ListApprovals, ReadApprovals
from broker.operations.approval_views import Views
from broker.operations.approvals import Approve, Deny, WithdrawApproval
from broker.operations.attempt import Attempt, Clock
from broker.operations.checkpoint import ReadCheckpoint, SignCheckpoint
from broker.operations.drift import WatchDrift
from broker.operations.drifted import DriftViews, ListDrifted, ResumeTaskOf, TendDrifted
from broker.operations.exchange import Exchange
from broker.operations.gate import Gate
from broker.operations.history import RecentActs
from broker.operations.keys import Keys
from broker.operations.outcome import ReportOutcomes
from broker.operations.override import Impose, LiftOverrides, ListOverrides
from broker.operations.policy import ActiveBundle
from broker.operations.record import Recorder, RefusalMeter, commit
from broker.operations.redeem import Redeem
from broker.operations.revoke import Lift, Revoke
from broker.operations.rotate import ListKeys, ReadKeySet, RotateKeys
from broker.operations.status_indexes import StatusIndexes
from broker.operations.subscribe import ReadAudit, ReadRevocations
from broker.operations.task import BeginTask, ExpireTasks, FinishTask
from broker.operations.task_going import HearTaskOf, NarrowTaskOf
from broker.operations.tending import TendApprovals
from broker.person.identity_token import Provider
from broker.person.source import IdentityIssuers, ProviderSource
from broker.policy.source import PolicySource
from broker.settings import Settings
from broker.store.interface import Item
from broker.store.sqlite import SqliteStore
from broker.supervisor import Control
from broker.svid.authenticate import Authenticator
from broker.svid.principal import TrustBundles
from broker.svid.spiffe_id import SpiffeId

_log = structlog.get_logger(__name__)


async def run_issuer(settings: Settings, control: Control) -> int:
    """Serve the issuer over the links that the supervisor gives; return the exit code."""

    async def serve(stop: asyncio.Event) -> None:
        async with open_identity(settings) as identity, open_issuer(settings, identity.bundles) as issuer:
            serving = asyncio.create_task(serve_links(control.links(), issuer))
            control.report_ready(f"policy {(await issuer.state()).policy_digest or 'none'}")
            await until_stopped(serving, stop)

    return await guarded(serve, control)


@asynccontextmanager
async def open_issuer(
    settings: Settings,
    trust: Callable[[], TrustBundles],
    clock: Clock = now,
) -> AsyncIterator[LocalIssuer]:
    """Open keys, store and policy, and start the worker.

    Args:
        settings: the configuration.
        trust: the trust bundles as they are now.
        clock: the time, UTC.

    Raises:
        KeyFileError: the keys' directory is not safe.
        StoreUnavailable: the store cannot be opened.
        Refusal: what must be recorded at the start could not be.

    """
    signers = open_signers(settings.keys.dir)
    store = SqliteStore(settings.store.path, log_id=new_id("log"), cursor_key=os.urandom(32))
    try:
        issuer = _compose(settings, trust, signers, store, clock)
        issuer.worker.start()
        try:
            with issuer.identities.following():
                yield issuer
        finally:
            await asyncio.to_thread(issuer.worker.stop)
            with suppress(Refusal):  # a store that cannot be written says so on its own
                issuer.verbs.attempt.recorder.flush_suppressed(clock(), everything=True)
    finally:
        store.close()


def _compose(
    settings: Settings,
    trust: Callable[[], TrustBundles],
    signers: Signers,
    store: SqliteStore,
    clock: Clock,
) -> LocalIssuer:
    recorder = Recorder(store=store, salt=lambda: os.urandom(32), meter=RefusalMeter())
    policy = ActiveBundle(source=PolicySource(settings.policy.dir), recorder=recorder, clock=clock)
    gate = Gate(
        authenticator=Authenticator(own_id=SpiffeId.parse(settings.broker.spiffe_id)),
        trust=trust,
        store=store,
        policy=policy,
    )
    attempt = Attempt(gate=gate, recorder=recorder, policy=policy, clock=clock, new_id=new_id)
    keys = Keys(
        issuer=settings.broker.issuer,
        log_name=f"{settings.broker.origin}/{store.log_id}",
        private=signers,
        recorder=recorder,
        settings={
            KeyUse.TOKENS: KeySettings(period=settings.keys.rotate_every, lead=settings.keys.publish_ahead),
            KeyUse.CHECKPOINTS: KeySettings(
                period=settings.keys.rotate_checkpoints_every, lead=settings.keys.publish_ahead
            ),
        },
        clock=clock,
    )
    checkpoints = SignCheckpoint(store=store, sign=keys.sign_checkpoint)
    identities = _identities(settings)
    acts = RecentActs(since=clock())
    exchange = Exchange(
        gate=gate,
        holding=approvals.holding(store),
        acts=acts,
        recorder=recorder,
        policy=policy,
        indexes=StatusIndexes(store=store),
        mint=keys.mint,
        clock=clock,
        new_id=new_id,
        report=lambda defect: _log.error("defect", exc_info=defect),
        watch=WatchDrift(recorder=recorder, policy=policy),
    )
    feed = Changes()
    epoch = Epoch(policy=policy, keys=keys, trust=trust)
    _record_start(recorder, settings, clock)
    policy.refresh()
    keys.refresh()
    worker = Worker(
        chores=_chores(settings, recorder, policy, keys, checkpoints, clock),
        after=lambda: feed.publish(
            Change(size=store.size(), epoch=epoch(), endings=store.endings, approvals=store.approval_changes)
        ),
    )
    return LocalIssuer(
        worker=worker,
        verbs=_verbs(settings, attempt, exchange, keys, checkpoints, approvals.views(attempt, acts, identities.verify)),
        feed=feed,
        identities=identities,
        current_state=lambda: State(
            size=store.size(),
            policy_digest=policy.digest,
            policy_problem=policy.problem,
            spiffe_id=settings.broker.spiffe_id,
        ),
    )


def _identities(settings: Settings) -> IdentityIssuers:
    return IdentityIssuers(
        [
            ProviderSource(
                provider=Provider(issuer=each.issuer, audience=each.audience or "", subject_claim=each.subject_claim),
                ca_file=each.ca_file,
                keys_max_age=each.keys_max_age,
            )
            for each in settings.oidc
        ]
    )


def _record_start(recorder: Recorder, settings: Settings, clock: Clock) -> None:
    event = BrokerStarted(at=clock(), spiffe_id=settings.broker.spiffe_id, version=version("spiffe-credential-broker"))
    entry = recorder.entry(event)
    commit(recorder.store, [Item(accepted=lambda _: entry)])


@dataclass(slots=True, kw_only=True)
class Epoch:
    """Rises whenever who may read what may have changed: policy, keys, trust."""

    policy: ActiveBundle
    keys: Keys
    trust: Callable[[], TrustBundles]
    _seen: tuple[str, str, int] | None = None
    _count: int = 0

    def __call__(self) -> int:
        """Return the epoch now."""
        state = (self.policy.digest, self.keys.key_set().digest, self.trust().epoch)
        if state != self._seen:
            self._seen, self._count = state, self._count + 1
        return self._count


def _verbs(
    settings: Settings,
    attempt: Attempt,
    exchange: Exchange,
    keys: Keys,
    checkpoints: SignCheckpoint,
    views: Views,
) -> Verbs:
    drift = DriftViews(views=views)
    return Verbs(
        attempt=attempt,
        exchange=exchange,
        redeem=Redeem(attempt=attempt, report=exchange.report),
        begin_task=BeginTask(
            attempt=attempt,
            default_lifetime=settings.tasks.default_lifetime,
            maximum_lifetime=settings.tasks.maximum_lifetime,
        ),
        finish_task=FinishTask(attempt=attempt),
        hear_task=HearTaskOf(attempt=attempt),
        narrow_task=NarrowTaskOf(attempt=attempt),
        resume_task=ResumeTaskOf(drift=drift),
        report=ReportOutcomes(attempt=attempt),
        revoke=Revoke(attempt=attempt),
        lift=Lift(attempt=attempt),
        impose_override=Impose(attempt=attempt),
        lift_override=LiftOverrides(attempt=attempt),
        list_overrides=ListOverrides(attempt=attempt),
        list_approvals=ListApprovals(views=views),
        get_approval=GetApproval(views=views),
        approve=Approve(views=views),
        deny=Deny(views=views),
        withdraw_approval=WithdrawApproval(views=views),
        read_approvals=ReadApprovals(views=views, drift=drift),
        list_drifted=ListDrifted(drift=drift),
        key_set=ReadKeySet(attempt=attempt, keys=keys),
        list_keys=ListKeys(attempt=attempt, keys=keys),
        rotate_keys=RotateKeys(attempt=attempt, keys=keys),
        checkpoint=ReadCheckpoint(attempt=attempt, sign=checkpoints),
        revocations=ReadRevocations(
            attempt=attempt, key_set=keys.key_set, bitmap=lambda indexes: BitMap(indexes).serialize()
        ),
        audit=ReadAudit(attempt=attempt),
    )


def _chores(
    settings: Settings, recorder: Recorder, policy: ActiveBundle, keys: Keys, checkpoints: SignCheckpoint, clock: Clock
) -> tuple[Chore, ...]:
    return (
        Chore(name="expire tasks", seconds=0.5, work=ExpireTasks(recorder=recorder, clock=clock)),
        Chore(name="tend approvals", seconds=0.5, work=TendApprovals(recorder=recorder, policy=policy, clock=clock)),
        Chore(name="tend drifted tasks", seconds=0.5, work=TendDrifted(recorder=recorder, policy=policy, clock=clock)),
        Chore(name="reload policy", seconds=settings.policy.reload_every.total_seconds(), work=policy.refresh),
        Chore(name="rotate keys", seconds=1, work=keys.refresh),
        Chore(name="sign checkpoint", seconds=1, work=checkpoints),
        Chore(name="count suppressed refusals", seconds=1, work=lambda: recorder.flush_suppressed(clock())),
        Chore(name="forget expired", seconds=1, work=lambda: recorder.store.forget_expired(clock())),
    )
