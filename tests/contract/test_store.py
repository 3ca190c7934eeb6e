"""The contract that every storage engine keeps; one suite, each engine a parameter."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import pytest

from broker.audit.entry import Entry
from broker.audit.tree import leaf_hash
from broker.credential.grant import Grant
from broker.credential.revocation import Rule, RuleKind
from broker.errors import Reason
from broker.store.interface import (
    ActivatePolicy,
    ActivePolicy,
    AddKeyRequest,
    Committed,
    Guard,
    Item,
    LiftRevocation,
    NotRevoked,
    PutKey,
    Rejected,
    RequestUnused,
    RevocationInForce,
    Store,
    StoredCheckpoint,
    StoredKey,
    StoredKeyRequest,
    StoreUnavailable,
    TaskAlive,
    TaskOpen,
)
from broker.store.sqlite import SqliteStore
from tests.contract.store_builders import (
    AGENT,
    INVOICES,
    LATER,
    NOW,
    OPERATOR,
    ORDERS,
    OTHER_AGENT,
    beginning,
    ending,
    entry,
    grant,
    granting,
    noting,
    refusal_of,
    revocation,
    revoking,
    root_of,
    salt,
    task,
)

Open: TypeAlias = Callable[[], Store]


def sqlite_file(directory: Path) -> Store:
    return SqliteStore(directory / "store.db", log_id="log_1", cursor_key=b"k" * 32)


def sqlite_memory(_: Path) -> Store:
    return SqliteStore(":memory:", log_id="log_1", cursor_key=b"k" * 32)


@pytest.fixture(params=[sqlite_file, sqlite_memory], ids=["sqlite-file", "sqlite-memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = request.param(tmp_path)
    yield opened
    opened.close()


def positions(answers: Sequence[Committed | Rejected]) -> list[int | None]:
    return [answer.position for answer in answers]


def ids(answer: Committed | Rejected) -> list[str]:
    assert isinstance(answer, Committed)
    return [each.credential_id for each in answer.revoked]


def reason(answer: Committed | Rejected) -> Reason | None:
    return answer.reason if isinstance(answer, Rejected) else None


def covering(given: Grant, *, credential: bool = False) -> NotRevoked:
    return NotRevoked(
        agent=given.agent,
        tenant=given.tenant,
        task=given.task,
        policy_ids=given.policy_ids,
        credential_id=given.credential_id if credential else "",
    )


# --- the log ------------------------------------------------------------------------------------------------------


def test_a_new_log_is_empty_and_has_a_name(store: Store) -> None:
    assert (store.log_id, store.cursor_key, store.size()) == ("log_1", b"k" * 32, 0)
    assert store.root() == (0, root_of([]))
    assert store.commit([]) == []


def test_positions_have_no_gaps_under_many_groups(store: Store) -> None:
    seen: list[int | None] = []
    for size in range(1, 40):
        items = [noting(f"{size}/{number}") for number in range(size)]
        if size % 3 == 0:
            items.insert(1, Item(guards=(ActivePolicy(digest="none"),), refused=refusal_of(f"{size}")))
            items.insert(2, Item(guards=(ActivePolicy(digest="none"),)))  # refused, and not recorded
        seen += [position for position in positions(store.commit(items)) if position is not None]
    assert seen == list(range(len(seen))) == [each.position for each in store.events(0, 10_000, openings=False)]
    assert store.size() == len(seen)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 255, 256, 257, 300, 513])
def test_the_root_is_that_of_the_bytes(store: Store, size: int) -> None:
    store.commit([noting(str(number)) for number in range(size)])
    contents = [each.content for each in store.events(0, size, openings=False)]
    assert store.root() == (size, root_of(contents))


def test_events_keep_their_bytes_and_their_openings_stay_apart(store: Store) -> None:
    sealed = entry("one")
    store.commit([Item(accepted=lambda _: sealed), noting("two")])
    (with_openings,) = store.events(0, 1, openings=True)
    (without,) = store.events(0, 1, openings=False)
    assert with_openings.content == without.content == sealed.content
    assert set(with_openings.openings) == set(sealed.openings)
    assert without.openings == ()
    assert [each.position for each in store.events(1, 9, openings=False)] == [1]
    assert store.events(5, 9, openings=True) == []


def test_a_refused_item_harms_no_neighbour_and_has_its_own_event(store: Store) -> None:
    store.commit([revoking(RuleKind.AGENT, OTHER_AGENT)])
    before, refused, after = grant("a"), grant("b", agent=OTHER_AGENT), grant("c")
    answers = store.commit([granting(before), granting(refused), granting(after)])
    assert [reason(answer) for answer in answers] == [None, Reason.AGENT_REVOKED, None]
    assert positions(answers) == [1, 2, 3]
    assert [store.grant(each.credential_id) for each in (before, refused, after)] == [before, None, after]
    assert b"cred_b refused AGENT_REVOKED" in store.events(2, 3, openings=False)[0].content


def test_a_defect_in_one_item_takes_back_the_whole_group(store: Store) -> None:
    def broken(_: object) -> Entry:
        raise RuntimeError("a secret")

    with pytest.raises(StoreUnavailable) as raised:
        store.commit([granting(grant("a")), Item(accepted=broken)])
    assert "secret" not in str(raised.value)
    assert (store.size(), store.grant("cred_a")) == (0, None)
    assert positions(store.commit([granting(grant("a"))])) == [0]


def test_a_credential_id_is_never_given_twice(store: Store) -> None:
    store.commit([granting(grant("a"))])
    with pytest.raises(StoreUnavailable):
        store.commit([noting("x"), granting(grant("a", index=1))])
    assert store.size() == 1
    assert positions(store.commit([noting("x")])) == [1]


# --- guards -------------------------------------------------------------------------------------------------------

GIVEN = grant("g", task="task_1")
RULES = {
    "agent": (RuleKind.AGENT, AGENT, Reason.AGENT_REVOKED),
    "tenant": (RuleKind.TENANT, "emea", Reason.TENANT_REVOKED),
    "task": (RuleKind.TASK, "task_1", Reason.TASK_REVOKED),
    "first-policy": (RuleKind.POLICY, "reads", Reason.POLICY_REVOKED),
    "second-policy": (RuleKind.POLICY, "support", Reason.POLICY_REVOKED),
    "credential": (RuleKind.CREDENTIAL, "cred_g", Reason.CREDENTIAL_REVOKED),
}


@pytest.mark.parametrize(("kind", "name", "expected"), RULES.values(), ids=RULES)
def test_a_rule_in_force_refuses_and_a_lifted_one_does_not(
    store: Store,
    kind: RuleKind,
    name: str,
    expected: Reason,
) -> None:
    item = Item(guards=(covering(GIVEN, credential=True),))
    store.commit([revoking(kind, "something-else", "rev_0")])
    assert [reason(each) for each in store.commit([item])] == [None]
    store.commit([revoking(kind, name, "rev_1"), revoking(kind, name, "rev_2")])
    assert [reason(each) for each in store.commit([item])] == [expected]
    lift = [
        Item(
            guards=(RevocationInForce(revocation_id=f"rev_{n}"),),
            writes=(LiftRevocation(revocation_id=f"rev_{n}", at=NOW),),
        )
        for n in (1, 2)
    ]
    assert [reason(each) for each in store.commit([lift[0], item])] == [None, expected]
    assert [reason(each) for each in store.commit([lift[1], item, lift[1]])] == [None, None, Reason.REVOCATION_UNKNOWN]


def test_of_several_rules_the_first_in_order_gives_the_reason(store: Store) -> None:
    order = ["credential", "second-policy", "task", "tenant", "agent"]
    for number, row in enumerate(order):
        kind, name, expected = RULES[row]
        store.commit([revoking(kind, name, f"rev_{number}")])
        assert reason(store.commit([Item(guards=(covering(GIVEN, credential=True),))])[0]) is expected


def test_what_a_lifted_rule_ended_stays_ended(store: Store) -> None:
    given, other = grant("a"), grant("b", index=1, agent=OTHER_AGENT)
    store.commit([granting(given), granting(other), revoking(RuleKind.AGENT, AGENT)])
    store.commit([Item(writes=(LiftRevocation(revocation_id="rev_1", at=NOW),))])
    again = [Item(guards=(covering(each, credential=True),)) for each in (given, other)]
    assert [reason(each) for each in store.commit(again)] == [Reason.CREDENTIAL_REVOKED, None]
    assert reason(store.commit([granting(grant("c", index=2))])[0]) is None


def test_what_may_end_something_is_counted_and_grants_are_not(store: Store) -> None:
    """What wakes the readers of revocations; also where it ended nothing that lives, since it may end the reader."""

    def counted(*items: Item) -> bool:
        before = store.endings
        store.commit(items)
        return store.endings > before

    assert not counted(beginning(task("1")), granting(grant("a", task="task_1")))
    assert counted(granting(grant("b", index=1)), ending("task_1"))
    assert counted(revoking(RuleKind.AGENT, OTHER_AGENT))
    assert counted(Item(writes=(LiftRevocation(revocation_id="rev_1", at=NOW),)))
    assert not counted(granting(grant("c", index=2)))


TASKS: dict[str, tuple[TaskAlive, Reason | None]] = {
    "alive": (TaskAlive(task="task_1", agent=AGENT, now=LATER - timedelta(microseconds=1)), None),
    "unknown": (TaskAlive(task="task_9", agent=AGENT, now=NOW), Reason.TASK_UNKNOWN),
    "anothers": (TaskAlive(task="task_1", agent=OTHER_AGENT, now=NOW), Reason.TASK_UNKNOWN),
    "ended": (TaskAlive(task="task_2", agent=AGENT, now=NOW), Reason.TASK_ENDED),
    "ended-long-ago": (TaskAlive(task="task_2", agent=AGENT, now=LATER), Reason.TASK_ENDED),
    "ended-at-its-deadline": (TaskAlive(task="task_3", agent=AGENT, now=LATER), Reason.TASK_DEADLINE_PASSED),
    "ended-then-clock-set-back": (TaskAlive(task="task_3", agent=AGENT, now=NOW), Reason.TASK_DEADLINE_PASSED),
    "at-its-deadline": (TaskAlive(task="task_1", agent=AGENT, now=LATER), Reason.TASK_DEADLINE_PASSED),
}


@pytest.mark.parametrize(("guard", "expected"), TASKS.values(), ids=TASKS)
def test_a_task_must_be_alive(store: Store, guard: TaskAlive, expected: Reason | None) -> None:
    store.commit([beginning(task(str(number))) for number in (1, 2, 3)])
    store.commit([ending("task_2"), ending("task_3", LATER)])
    assert reason(store.commit([Item(guards=(guard,))])[0]) is expected


def test_of_two_ends_of_one_task_one_is_recorded(store: Store) -> None:
    store.commit([beginning(task("1"))])
    end = ending("task_1")
    guarded = Item(guards=(TaskOpen(task="task_1"),), writes=end.writes, accepted=end.accepted)
    assert [reason(each) for each in store.commit([guarded, guarded])] == [None, Reason.TASK_ENDED]
    assert reason(store.commit([Item(guards=(TaskOpen(task="task_9"),))])[0]) is Reason.TASK_UNKNOWN


def test_a_request_id_is_used_once_per_agent(store: Store) -> None:
    first, second = grant("a"), grant("b", index=1)
    foreign = grant("c", index=2, agent=OTHER_AGENT)
    answers = store.commit(
        [granting(first, request_id="r"), granting(second, request_id="r"), granting(foreign, request_id="r")],
    )
    assert [reason(each) for each in answers] == [None, Reason.REQUEST_ID_REUSED, None]
    assert store.grant_of_request(AGENT, "r") == first
    assert store.grant_of_request(OTHER_AGENT, "r") == foreign
    assert store.grant_of_request(AGENT, "s") is None
    store.commit([granting(second)])
    assert store.grant_of_request(AGENT, "") is None
    assert reason(store.commit([granting(grant("d", index=4))])[0]) is None


def test_the_active_policy_is_the_one_that_decided(store: Store) -> None:
    assert store.active_policy() == ""
    guard: Guard = ActivePolicy(digest="sha-256:one")
    answers = store.commit(
        [Item(guards=(guard,)), Item(writes=(ActivatePolicy(digest="sha-256:one"),)), Item(guards=(guard,))]
    )
    assert [reason(each) for each in answers] == [Reason.POLICY_UNAVAILABLE, None, None]
    assert store.active_policy() == "sha-256:one"


def test_the_first_guard_that_fails_gives_the_reason(store: Store) -> None:
    failing: list[Guard] = [
        RequestUnused(agent=AGENT, request_id="r"),
        RevocationInForce(revocation_id="rev_9"),
        TaskOpen(task="task_9"),
    ]
    (answer,) = store.commit([Item(guards=tuple(failing))])
    assert reason(answer) is Reason.REVOCATION_UNKNOWN
    (answer,) = store.commit([Item(guards=tuple(reversed(failing)))])
    assert reason(answer) is Reason.TASK_UNKNOWN


# --- grants and what ends them ------------------------------------------------------------------------------------


def test_a_grant_is_remembered_whole(store: Store) -> None:
    given = grant("a", task="task_1", index=7, audience=INVOICES)
    store.commit([beginning(task("1")), granting(given)])
    assert store.grant("cred_a") == given
    assert store.task("task_1") == task("1")


@pytest.mark.parametrize("revoke_first", [True, False], ids=["revoke-then-grant", "grant-then-revoke"])
def test_a_grant_and_a_revocation_cannot_cross_within_a_group(store: Store, revoke_first: bool) -> None:
    pair = [revoking(RuleKind.AGENT, AGENT), granting(grant("a"))]
    answers = store.commit(pair if revoke_first else pair[::-1])
    if revoke_first:
        assert [reason(each) for each in answers] == [None, Reason.AGENT_REVOKED]
        assert (ids(answers[0]), store.grant("cred_a")) == ([], None)
    else:
        assert ids(answers[1]) == ["cred_a"]
    _, revoked = store.revoked_now(NOW, audience=ORDERS)
    assert [each.credential_id for each in revoked] == ([] if revoke_first else ["cred_a"])


EXPANSIONS = {
    "credential": (RuleKind.CREDENTIAL, "cred_own", ["cred_own"]),
    "task": (RuleKind.TASK, "task_1", ["cred_task", "cred_invoice"]),
    "agent": (RuleKind.AGENT, OTHER_AGENT, ["cred_agent"]),
    "tenant": (RuleKind.TENANT, "apac", ["cred_tenant"]),
    "policy": (RuleKind.POLICY, "writes", ["cred_policy"]),
    "nothing": (RuleKind.AGENT, "spiffe://example.org/agent", []),
    "no-task": (RuleKind.TASK, "", []),
}


@pytest.mark.parametrize(("kind", "name", "expected"), EXPANSIONS.values(), ids=EXPANSIONS)
def test_a_rule_ends_what_it_covers_and_nothing_else(
    store: Store,
    kind: RuleKind,
    name: str,
    expected: list[str],
) -> None:
    store.commit([beginning(task("1"))])
    grants = [
        grant("own"),
        grant("task", index=1, task="task_1"),
        grant("agent", index=2, agent=OTHER_AGENT),
        grant("tenant", index=3, tenant="apac"),
        grant("policy", index=4, policy_ids=("reads", "writes", "writes")),
        grant("expired", index=5, task="task_1", expires_at=NOW),
        grant("invoice", audience=INVOICES, task="task_1"),
    ]
    store.commit([granting(each) for each in grants])
    assert store.has_live_grants(Rule(kind=kind, name=name)) is bool(expected)
    (answer,) = store.commit([revoking(kind, name)])
    assert sorted(ids(answer)) == sorted(expected)
    (again,) = store.commit([revoking(kind, name, "rev_2")])
    assert ids(again) == []


def test_ending_a_task_ends_its_own_credentials_and_no_others(store: Store) -> None:
    store.commit([beginning(task("1")), beginning(task("2"))])
    store.commit([granting(grant(str(n), index=n, task=f"task_{n}")) for n in (1, 2)] + [granting(grant("0"))])
    (answer,) = store.commit([ending("task_1")])
    assert ids(answer) == ["cred_1"]
    ended = store.task("task_1")
    assert ended is not None
    assert ended.ended_at == NOW
    store.commit([ending("task_1", LATER)])
    assert store.task("task_1") == ended
    assert reason(store.commit([granting(grant("x", index=9, task="task_1"))])[0]) is Reason.TASK_ENDED
    assert reason(store.commit([granting(grant("y", index=9, task="task_2"))])[0]) is None
    assert store.revocations() == []


def test_each_reader_sees_what_is_its_own(store: Store) -> None:
    store.commit(
        [
            granting(grant("a", index=0)),
            granting(grant("b", index=1, agent=OTHER_AGENT)),
            granting(grant("c", index=0, audience=INVOICES, expires_at=LATER + timedelta(hours=1))),
        ]
    )
    store.commit([revoking(RuleKind.CREDENTIAL, "cred_b", "rev_1")])
    store.commit([noting("between"), revoking(RuleKind.TENANT, "emea", "rev_2")])
    orders = store.revoked_in(0, 99, audience=ORDERS)
    assert [(each.position, each.rule, each.at) for each in orders] == [(3, "credential", NOW), (5, "tenant", NOW)]
    assert [[c.status_index for c in each.credentials] for each in orders] == [[1], [0]]
    own = store.revoked_in(0, 99, agent=AGENT)
    assert [[c.credential_id for c in each.credentials] for each in own] == [["cred_c", "cred_a"]]
    assert store.revoked_in(0, 5, agent=AGENT) == store.revoked_in(6, 99, agent=AGENT) == []
    assert [each.position for each in store.revoked_in(4, 6, audience=ORDERS)] == [5]
    size, now = store.revoked_now(NOW, audience=ORDERS)
    assert (size, [each.status_index for each in now]) == (6, [0, 1])
    _, after_expiry = store.revoked_now(LATER, agent=AGENT)
    assert [each.credential_id for each in after_expiry] == ["cred_c"]
    with pytest.raises(ValueError, match="reader"):
        store.revoked_in(0, 1)


def test_revocations_in_force_can_be_asked_for(store: Store) -> None:
    store.commit([revoking(RuleKind.AGENT, AGENT, "rev_1"), revoking(RuleKind.TENANT, "emea", "rev_2", LATER)])
    assert [each.id for each in store.revocations()] == ["rev_1", "rev_2"]
    assert store.revocation("rev_1") == revocation(RuleKind.AGENT, AGENT)
    assert store.revocation("rev_3") is None
    wanted = [
        Rule(kind=RuleKind.TASK, name="x"),
        Rule(kind=RuleKind.TENANT, name="emea"),
        Rule(kind=RuleKind.AGENT, name=AGENT),
    ]
    assert store.is_revoked(wanted) == wanted[1]
    assert store.is_revoked(wanted[:1]) is None
    assert store.is_revoked([]) is None


def test_status_indexes_are_dense_per_audience(store: Store) -> None:
    reserved = [store.reserve_indexes(name, count) for name, count in ((ORDERS, 3), (INVOICES, 2), (ORDERS, 1))]
    assert reserved == [range(3), range(2), range(3, 4)]


def test_tasks_that_are_due(store: Store) -> None:
    store.commit([beginning(task("1")), beginning(task("2", deadline=NOW)), beginning(task("3")), ending("task_3")])
    assert [each.id for each in store.tasks_due(NOW)] == ["task_2"]
    assert [each.id for each in store.tasks_due(LATER)] == ["task_2", "task_1"]


def test_the_last_expiry_is_that_of_the_grant_that_lives_longest(store: Store) -> None:
    assert store.last_expiry() is None
    store.commit([granting(grant("1", expires_at=NOW)), granting(grant("2", expires_at=LATER))])
    assert store.last_expiry() == LATER
    store.forget_expired(LATER)
    assert store.last_expiry() is None


def test_a_request_to_change_the_keys_is_remembered_for_a_day_with_its_position(store: Store) -> None:
    asked = StoredKeyRequest(caller=OPERATOR, request_id="r1", digest="d", answer="{}", at=NOW)
    store.commit([noting("first"), Item(writes=(AddKeyRequest(request=asked),), accepted=lambda _: entry("rotated"))])
    assert store.key_request(OPERATOR, "r1") == (1, asked)
    assert store.key_request(OPERATOR, "r2") is store.key_request(AGENT, "r1") is None
    with pytest.raises(StoreUnavailable):
        store.commit([Item(writes=(AddKeyRequest(request=asked),))])
    store.forget_expired(NOW + timedelta(hours=23, minutes=59))
    assert store.key_request(OPERATOR, "r1") == (1, asked)
    store.forget_expired(NOW + timedelta(days=1))
    assert store.key_request(OPERATOR, "r1") is None


def test_keys_and_checkpoints(store: Store) -> None:
    key = StoredKey(kid="k1", public_jwk="{}", state="next", since=NOW)
    current = StoredKey(kid="k1", public_jwk="{}", state="current", since=LATER)
    gone = StoredKey(kid="k2", public_jwk="{}", state="removed", since=LATER)
    store.commit([Item(writes=(PutKey(key=key),))])
    assert store.keys() == [key]
    store.commit([Item(writes=(PutKey(key=current), PutKey(key=gone)))])
    assert store.keys() == [current]
    assert (store.key("k1"), store.key("k2"), store.key("k3")) == (current, gone, None)
    back = StoredKey(kid="k2", public_jwk="{}", state="current", since=LATER)
    store.commit([Item(writes=(PutKey(key=back),))])
    assert store.key("k2") == gone, "a removed key never comes back"
    whole = StoredKey(
        kid="k4",
        public_jwk="{}",
        state="retired",
        since=LATER,
        use="checkpoint",
        published=NOW,
        activated=NOW,
        until=LATER,
        endorsement="a note",
    )
    store.commit([Item(writes=(PutKey(key=whole),))])
    assert store.key("k4") == whole
    assert store.checkpoint() is None
    for size in (1, 2, 40):
        store.save_checkpoint(StoredCheckpoint(size=size, note=f"note {size}"))
        assert store.checkpoint() == StoredCheckpoint(size=size, note=f"note {size}")


def test_what_has_expired_is_forgotten_and_what_lives_is_not(store: Store) -> None:
    store.commit([beginning(task("1")), beginning(task("2")), beginning(task("3", deadline=NOW))])
    long = grant("long", index=9, task="task_1", expires_at=LATER + timedelta(hours=1))
    store.commit([granting(grant("a", task="task_2"), request_id="r"), granting(long)])
    store.commit([revoking(RuleKind.CREDENTIAL, "cred_a", "rev_1"), revoking(RuleKind.AGENT, AGENT, "rev_2")])
    store.commit([ending("task_1"), ending("task_2")])
    assert store.forget_expired(LATER - timedelta(microseconds=1)) == 0
    assert store.grant("cred_a") is not None
    events = store.events(0, 99, openings=True)
    assert (store.forget_expired(LATER), store.forget_expired(LATER)) == (1, 0)
    assert store.grant("cred_a") is None
    assert store.grant_of_request(AGENT, "r") is None
    assert store.grant("cred_long") == long
    assert [each.id for each in store.revocations()] == ["rev_2"]
    assert [store.task(f"task_{n}") is not None for n in (1, 2, 3)] == [True, False, True]
    assert [each.credential_id for each in store.revoked_now(NOW, agent=AGENT)[1]] == ["cred_long"]
    assert store.events(0, 99, openings=True) == events


def test_the_leaf_hash_is_that_of_rfc_6962() -> None:
    sealed = entry("x")
    assert leaf_hash(sealed.content) == root_of([sealed.content])
    assert len(salt()) == 32


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(StoreUnavailable):
        store.commit([noting("late")])
    with pytest.raises(StoreUnavailable):
        store.size()
