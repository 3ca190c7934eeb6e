"""Hypothesis strategies for everything that crosses the port, and one plain example of a call."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from broker.audit.event import Opening
from broker.boundary import Boundary, Extent
from broker.credential.grant import Grant
from broker.credential.revocation import Rule, RuleKind
from broker.credential.ring import KeyState, KeyUse
from broker.credential.token import Credential, Token
from broker.errors import Held, Reason, Refusal
from broker.intent import MAX_INTEGER, Intent, Level, Resource
from broker.issuer.port import (
    AuditEvent,
    AuditFilter,
    AuditPage,
    AuditPageCall,
    BeginTaskCall,
    Change,
    Context,
    Continued,
    Ended,
    EndTaskCall,
    ExchangeCall,
    HeartbeatCall,
    ImposeCall,
    KeyList,
    KeysChanged,
    KeySet,
    LiftCall,
    LiftOverrideCall,
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
    Report,
    ReportCall,
    Reported,
    ReportKind,
    ResumeTaskCall,
    RevocationPage,
    RevocationPageCall,
    RevokeCall,
    Revoked,
    RotateKeysCall,
    SignedCheckpoint,
    Snapshot,
    Start,
    State,
    Stop,
    StopKind,
    Task,
    Trail,
)
from broker.scope import OneOf, Range, Scope
from broker.svid.principal import Evidence

text = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=16)
# What the broker itself writes may have lines.
lines = st.text(st.characters(exclude_categories=["Cs"]), max_size=16)
names = st.from_regex(r"[a-z0-9][a-z0-9._/-]{0,20}", fullmatch=True)
ids = st.from_regex(r"[a-z]{2,5}_[0-9a-f-]{36}", fullmatch=True)
task_ids = st.from_regex(r"task_[0-9a-f-]{36}", fullmatch=True)
spiffe_ids = st.from_regex(r"spiffe://[a-z0-9]{1,20}(/[A-Za-z0-9]{1,10}){1,3}", fullmatch=True)
counts = st.integers(0, 2**63)
times = st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- given there
lifetimes = st.none() | st.timedeltas(timedelta(microseconds=1), timedelta(days=3650))

evidence = st.builds(
    Evidence,
    leaf=st.binary(max_size=64),
    chain=st.binary(max_size=64),
    tls_version=st.sampled_from(["TLSv1.3", "TLSv1.2", ""]),
    session_reused=st.booleans(),
    source=text,
)
contexts = st.builds(
    Context, evidence=evidence, request=ids, trace=st.just("") | st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
)
refusals = st.builds(
    Refusal,
    st.sampled_from(Reason),
    text,
    policy_ids=st.lists(names, max_size=3).map(tuple),
    decision_id=st.just("") | ids,
    sentence=text,
    held=st.none() | st.builds(Held, approval=ids, waits_for=st.lists(names, max_size=2).map(tuple), until=times),
)

_plain = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.booleans() | text
values = st.recursive(
    _plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=6
)
parameters = st.dictionaries(text, values, max_size=4)
resources = st.builds(Resource, type=names, id=st.just("o/1234") | names) | st.builds(Resource, type=names, set=names)
levels = st.none() | st.sampled_from(Level)
intents = st.builds(
    Intent,
    action=names,
    resource=resources,
    parameters=parameters,
    purpose=names,
    audience=spiffe_ids,
    task=st.just("") | task_ids,
    on_behalf_of=st.just("") | names,
    sensitivity=levels,
    risk=levels,
)
digests = st.just("") | st.just("sha-256:" + "d" * 43)
references = st.just("") | names
trails = st.builds(
    Trail,
    prompt_reference=references,
    prompt_digest=digests,
    tool_call_reference=references,
    tool_call_digest=digests,
)
exchange_calls = st.builds(
    ExchangeCall,
    context=contexts,
    intent=intents | refusals,
    lifetime=lifetimes,
    request_id=st.text("abc", max_size=8),
    trail=trails,
    approval=st.just("") | ids,
)

_ranges = st.builds(Range, minimum=st.integers(-9, 9), maximum=st.none() | st.integers(10, 99)) | st.builds(
    Range, maximum=st.integers(0, 9)
)
constraints = st.builds(OneOf, values=st.lists(values, min_size=1, max_size=3).map(tuple)) | _ranges
scopes = st.builds(
    Scope,
    actions=st.frozensets(names, min_size=1, max_size=3),
    resource=resources,
    constraints=st.dictionaries(text, constraints, max_size=3),
    audience=spiffe_ids,
)
grants = st.builds(
    Grant,
    credential_id=ids,
    agent=spiffe_ids,
    tenant=names,
    task=st.just("") | task_ids,
    transaction_id=ids,
    scope=scopes,
    intent_digest=text,
    thumbprint=text,
    status_index=counts,
    policy_ids=st.lists(names, max_size=3).map(tuple),
    issued_at=times,
    expires_at=times,
    use=st.sampled_from(["many", "once"]),
)
credentials = st.builds(
    lambda grant, secret, decision: Credential(
        token=Token(secret, credential_id=grant.credential_id), grant=grant, decision_id=decision
    ),
    grants,
    st.from_regex(r"[A-Za-z0-9_.-]{1,40}", fullmatch=True),
    ids,
)

extents = st.builds(Extent, type=names, id=st.just("") | st.just("o/1234")) | st.builds(Extent, type=names, set=names)
boundaries = st.builds(
    Boundary,
    actions=st.none() | st.frozensets(names, min_size=1, max_size=3),
    resources=st.none() | st.frozensets(extents, min_size=1, max_size=3),
    services=st.none() | st.frozensets(spiffe_ids, min_size=1, max_size=3),
    limits=st.dictionaries(names, st.dictionaries(text, constraints, max_size=2), max_size=2),
)
tasks = st.builds(
    Task,
    id=task_ids,
    agent=spiffe_ids,
    begun_by=spiffe_ids,
    tenant=names,
    purpose=names,
    conversation=text,
    begun_at=times,
    deadline=times,
    ended_at=st.none() | times,
    type=st.just("") | names,
    boundary=boundaries,
    heartbeat=lifetimes,
    silent_at=st.none() | times,
    revision=counts,
    person=text,
    asked=text,
    suspended_at=st.none() | times,
)
continued = st.builds(Continued, task=tasks, revoked=counts)
ended = st.builds(Ended, position=counts, revoked=counts, revocation=st.just("") | ids)
key_sets = st.builds(KeySet, issuer=text, jwks=lines, checkpoint_key=lines, digest=text)
pages = st.builds(Page, start=counts, stop=counts, cursor=text, read_at=times, size=counts, valid_until=times)
id_lists = st.lists(ids, max_size=3).map(tuple)
revocation_pages = st.builds(
    RevocationPage,
    page=pages,
    snapshot=st.none() | st.builds(Snapshot, status_indexes=st.binary(max_size=9), credential_ids=id_lists),
    revoked=st.lists(
        st.builds(
            Revoked,
            position=counts,
            at=times,
            rule=st.sampled_from([kind.value for kind in RuleKind]),
            status_indexes=st.lists(counts, max_size=3).map(tuple),
            credential_ids=id_lists,
        ),
        max_size=3,
    ).map(tuple),
    key_set=st.none() | key_sets,
)
openings = st.builds(Opening, field=text, value=st.binary(max_size=9), salt=st.binary(max_size=9))
events = st.builds(
    AuditEvent, position=counts, content=st.binary(max_size=9), openings=st.lists(openings, max_size=2).map(tuple)
)
audit_pages = st.builds(AuditPage, page=pages, events=st.lists(events, max_size=3).map(tuple))

uses = st.sampled_from(KeyUse)
maybe_times = st.none() | times
key_lists = st.builds(
    KeyList,
    keys=st.lists(
        st.builds(
            ListedKey,
            kid=text,
            use=uses,
            state=st.sampled_from([KeyState.NEXT, KeyState.CURRENT, KeyState.RETIRED]),
            algorithm=text,
            published=maybe_times,
            activated=maybe_times,
            retired=maybe_times,
            signs_from=maybe_times,
            signs_until=maybe_times,
            published_until=maybe_times,
            verifier_key=text,
            endorsement=text,
        ),
        max_size=3,
    ).map(tuple),
)
keys_changed = st.builds(
    KeysChanged, position=counts, at=times, use=uses, kid=text, replaced=text, following=text, signs_from=times
)

stops = st.builds(Stop, kind=st.sampled_from(StopKind), name=names | spiffe_ids, tenant=st.just("") | names)
overridden = st.builds(Overridden, position=counts, override=ids, revoked=counts)
overrides = st.lists(st.builds(Override, id=ids, stop=stops, at=times, by=spiffe_ids, text=text), max_size=3).map(tuple)

uuids = st.uuids().map(str)
_report = {"id": uuids, "at": times, "credential": ids, "call_digest": digests}
_outcome = _report | {"use": uuids, "reference": references}
reports = st.one_of(
    st.builds(Report, kind=st.just(ReportKind.ACCEPTED), **_report),
    st.builds(
        Report,
        kind=st.just(ReportKind.REFUSED),
        reason=st.sampled_from([reason.name for reason in Reason]),
        presented_by=st.just("") | spiffe_ids,
        **_report,
    ),
    st.builds(Report, kind=st.sampled_from([kind for kind in ReportKind if kind.is_outcome]), **_outcome),
    st.builds(Report, kind=st.just(ReportKind.ROLLED_BACK), rolled_back_by=references, **_outcome),
    st.builds(Report, kind=st.just(ReportKind.DROPPED), id=uuids, at=times, count=st.integers(1, 2**53 - 1)),
)
report_answers = st.lists(counts | refusals, max_size=3).map(tuple)

# Every verb: the port's method, its calls, its answers.
VERBS: list[tuple[str, st.SearchStrategy[Any], st.SearchStrategy[Any]]] = [
    (
        "begin_task",
        st.builds(
            BeginTaskCall,
            context=contexts,
            purpose=names,
            tenant=st.just("") | names,
            lifetime=lifetimes,
            conversation=text,
            type=st.just("") | names,
            boundary=boundaries,
            heartbeat=lifetimes,
            agent=st.just("") | spiffe_ids,
            person=text,
            asked=text,
        ),
        tasks,
    ),
    (
        "end_task",
        st.builds(EndTaskCall, context=contexts, task=task_ids, cancelled=st.booleans(), text=text),
        ended,
    ),
    ("heartbeat_task", st.builds(HeartbeatCall, context=contexts, task=task_ids), continued),
    (
        "narrow_task",
        st.builds(NarrowTaskCall, context=contexts, task=task_ids, boundary=boundaries, text=text),
        continued,
    ),
    (
        "revoke",
        st.builds(
            RevokeCall,
            context=contexts,
            rule=st.builds(Rule, kind=st.sampled_from(RuleKind), name=names | spiffe_ids),
            text=text,
        ),
        ended,
    ),
    ("resume_task", st.builds(ResumeTaskCall, context=contexts, task=task_ids, text=text), ended),
    (
        "report",
        st.builds(ReportCall, context=contexts, reports=st.lists(reports, min_size=1, max_size=3).map(tuple)),
        st.builds(Reported, answers=report_answers),
    ),
    ("lift", st.builds(LiftCall, context=contexts, revocation=ids, text=text), ended),
    (
        "redeem",
        st.builds(RedeemCall, context=contexts, credential=ids, call_digest=text, key=text),
        st.builds(Redeemed, position=counts, at=times),
    ),
    ("impose_override", st.builds(ImposeCall, context=contexts, stop=stops, text=text), overridden),
    ("lift_override", st.builds(LiftOverrideCall, context=contexts, override=ids, text=text), overridden),
    ("list_overrides", st.builds(ReadCall, context=contexts), st.builds(OverrideList, overrides=overrides)),
    ("key_set", st.builds(ReadCall, context=contexts), key_sets),
    ("list_keys", st.builds(ReadCall, context=contexts), key_lists),
    (
        "rotate_keys",
        st.builds(
            RotateKeysCall,
            context=contexts,
            use=st.none() | uses,
            emergency=text,
            text=text,
            request_id=st.just("") | ids,
        ),
        keys_changed,
    ),
    ("checkpoint", st.builds(ReadCall, context=contexts), st.builds(SignedCheckpoint, note=lines, size=counts)),
    ("authenticate", st.builds(ReadCall, context=contexts), times),
    (
        "revocation_page",
        st.builds(RevocationPageCall, context=contexts, cursor=text, known_keys=text, opening=st.booleans()),
        revocation_pages,
    ),
    (
        "audit_page",
        st.builds(
            AuditPageCall,
            context=contexts,
            cursor=text,
            filter=st.builds(
                AuditFilter,
                kinds=st.lists(names, max_size=3).map(tuple),
                tenant=text,
                agent=spiffe_ids,
                task=st.just("") | task_ids,
                credential=text,
            ),
            start=st.sampled_from(Start),
            personal=st.booleans(),
            opening=st.booleans(),
        ),
        audit_pages,
    ),
]
states = st.builds(State, size=counts, policy_digest=text, policy_problem=text, spiffe_id=text)
refused_calls = st.builds(RefusedCall, context=contexts, operation=names, refusal=refusals)
changes = st.builds(Change, size=counts, epoch=counts, endings=counts)


def a_context(number: int = 0) -> Context:
    """Return the context of a caller, with its own id of the call."""
    presented = Evidence(
        leaf=b"L" * 900, chain=b"C" * 900, tls_version="TLSv1.3", session_reused=False, source="ipv4:192.0.2.1:40000"
    )
    return Context(evidence=presented, request=f"req_{number}")


def an_exchange(number: int = 0) -> ExchangeCall:
    """Return an ordinary exchange."""
    intent = Intent(
        action="order.refund",
        resource=Resource(type="order", id="1234"),
        parameters={"amount_minor": 1200, "currency": "EUR"},
        purpose="support",
        audience="spiffe://example.org/orders",
        task="task_01890a5d-ac96-774b-bcce-b302099a8057",
    )
    return ExchangeCall(context=a_context(number), intent=intent)


def a_credential(number: int = 0) -> Credential:
    """Return an ordinary credential."""
    call = an_exchange(number)
    assert isinstance(call.intent, Intent)
    grant = Grant(
        credential_id=f"cred_{number}",
        agent="spiffe://example.org/agent/support",
        tenant="retail",
        task=call.intent.task,
        transaction_id=f"txn_{number}",
        scope=Scope.of(call.intent),
        intent_digest="sha-256:" + "d" * 43,
        thumbprint="t" * 43,
        status_index=number,
        policy_ids=("support-refund",),
        issued_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        expires_at=datetime(2026, 3, 1, 12, 5, tzinfo=UTC),
    )
    token = Token("e" * 1100, credential_id=grant.credential_id)
    return Credential(token=token, grant=grant, decision_id=f"dec_{number}")


def shown(answer: object) -> object:
    """Return something that compares by value: neither a refusal nor a token does."""
    match answer:
        case Refusal():
            return (answer.reason, answer.detail, answer.policy_ids, answer.decision_id, answer.sentence)
        case Credential():
            return (answer.token.reveal(), repr(answer.token), answer.grant, answer.decision_id)
        case ExchangeCall():
            return (answer.context, shown(answer.intent), answer.lifetime, answer.request_id, answer.trail)
        case Reported():
            return tuple(map(shown, answer.answers))
        case RefusedCall():
            return (answer.context, answer.operation, shown(answer.refusal))
        case _:
            return answer
